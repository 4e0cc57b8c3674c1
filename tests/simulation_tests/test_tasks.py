"""Tests of raytune_ahu/simulation/tasks.py and synthetic.py."""

from __future__ import annotations

import numpy as np
import pytest

from raytune_ahu.errors import DataError, SpecError
from raytune_ahu.simulation import BowlTask, TableTask, simulate
from raytune_ahu.space import SearchSpace
from raytune_ahu.types import Suggestion
from schedulers import NoEarlyStopping

SPACE = SearchSpace.from_dict(
    {
        "lr": {"domain": "loguniform", "lower": 1e-4, "upper": 1.0},
        "momentum": {"domain": "uniform", "lower": 0.0, "upper": 1.0},
    }
)
NAN = float("nan")


def table(rows, values=None, **options):
    values = np.arange(len(rows), dtype=float)[:, None] * [1, 1] if values is None else values
    return TableTask("table", SPACE, np.asarray(rows, float), np.asarray(values, float), **options)


def test_a_proposal_takes_the_nearest_free_row_with_log_where_the_space_is():
    # lr 1e-2 lies in the middle of the logarithmic axis: nearer to row 1 than to row 0
    evaluate = table([[0.0, 0.5], [0.6, 0.5], [1.0, 0.5]]).evaluator()
    rows = [int(evaluate({"lr": 1e-2, "momentum": 0.5}).values[0]) for _ in range(3)]
    assert rows[0] == 1
    assert sorted(rows) == [0, 1, 2]


def test_lookup_agrees_with_a_plain_loop_and_uses_each_row_once():
    rng = np.random.default_rng(0)
    rows = rng.random((40, 2))
    evaluate, free = table(rows).evaluator(), set(range(40))
    for _ in range(40):
        configuration = SPACE.sample(rng)
        u = SPACE.encode(configuration)
        nearest = min(free, key=lambda i: float(np.hypot(*(rows[i] - u))))
        assert int(evaluate(configuration).values[0]) == nearest
        free.remove(nearest)
    assert int(evaluate(SPACE.decode(rows[7])).values[0]) == 7  # all are free again


def test_each_simulation_starts_with_all_rows_free():
    task = table([[0.1, 0.1], [0.9, 0.9]])
    configuration = SPACE.decode(np.array([0.1, 0.1]))
    assert [task.evaluator()(configuration).values[0] for _ in range(2)] == [0.0, 0.0]


@pytest.mark.parametrize("sign", [1, -1])
def test_best_and_typical_values_pass_over_what_is_not_finite(sign):
    values = sign * np.array([[3.0, 0.5, NAN], [4.0, 3.0, 2.0], [9.0, 9.0, 9.0]])
    task = table(np.full((3, 2), 0.5), values, mode="min" if sign == 1 else "max")
    assert task.best_value == sign * 0.5
    assert task.typical_value == sign * 9.0
    assert task.max_resource == 3
    assert task.median_epoch_s == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": [[0.5]]}, r"rows \(1, 1\)"),
        ({"rows": [[0.5, NAN]]}, "rows must be finite"),
        ({"rows": [[0.5, 0.5]], "epoch_s": np.array([0.0])}, "epoch_s positive"),
        ({"rows": [[0.5, 0.5]], "epoch_s": np.array([1.0, 1.0])}, r"epoch_s \(2,\)"),
        ({"rows": [[0.5, 0.5]], "values": [[NAN, NAN]]}, "no value is finite"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        table(**arguments)


@pytest.mark.parametrize("crossing", [False, True])
def test_no_configuration_is_better_than_the_known_optimum(crossing):
    task = BowlTask(SPACE, max_resource=9, crossing=crossing)
    evaluate, rng = task.evaluator(), np.random.default_rng(0)
    at_optimum = evaluate(SPACE.decode(task.optimum)).values
    assert at_optimum[-1] == pytest.approx(task.best_value, abs=1e-12)
    finals = [evaluate(SPACE.sample(rng)).values for _ in range(500)]
    assert min(values.min() for values in finals) > task.best_value
    assert np.mean([v[-1] for v in finals]) == pytest.approx(task.typical_value, rel=0.1)


def test_curves_cross_only_when_asked():
    near, far = (SPACE.decode(np.array([x, 0.3])) for x in (0.3, 0.6))
    plain = BowlTask(SPACE).evaluator()
    assert (plain(near).values < plain(far).values).all()
    crossing = BowlTask(SPACE, crossing=True).evaluator()
    assert crossing(near).values[2] > crossing(far).values[2]
    assert crossing(near).values[-1] < crossing(far).values[-1]


def test_a_diverging_share_turns_nan_after_the_first_epoch():
    evaluate = BowlTask(SPACE, diverging=0.2).evaluator()
    for x, diverges in ((0.79, False), (0.81, True)):
        values = evaluate(SPACE.decode(np.array([0.5, x]))).values
        assert np.isfinite(values[0])
        assert np.isnan(values[1:]).all() == diverges
        assert np.isnan(values).any() == diverges


@pytest.mark.parametrize(
    "options",
    [{"optimum": np.array([0.5])}, {"optimum": np.array([0.5, 1.5])}, {"diverging": 1.0},
     {"max_resource": 1}, {"epoch_s": 0.0}],
)  # fmt: skip
def test_bad_options_of_a_bowl_are_refused(options):
    with pytest.raises(SpecError, match=next(iter(options))):
        BowlTask(SPACE, **options)


def test_a_bowl_runs_on_the_clock():
    rng = np.random.default_rng(0)

    class Sampler:
        def suggest(self, trial_id):
            return Suggestion(SPACE.sample(rng), "random")

        def observe(self, report): ...
        def finish(self, trial_id, status): ...

    task = BowlTask(SPACE, max_resource=3, epoch_s=2.0)
    result = simulate(Sampler(), NoEarlyStopping(max_resource=3), task, workers=2, max_trials=4)
    assert result.time_s[-1] == 12.0
