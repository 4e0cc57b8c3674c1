from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytune_ahu.analysis.compare import compare
from raytune_ahu.analysis.figures import (
    caption,
    comparison_curves,
    cost_bars,
    importance_bars,
    incumbent_curve,
    learning_curves,
    parallel_coordinates,
    parameter_slice,
    rung_funnel,
    worker_timeline,
)
from raytune_ahu.analysis.figures_axes import axis_of
from raytune_ahu.analysis.figures_style import Hover, ranked_trials, show, spread
from raytune_ahu.analysis.gallery import pictures, try_importance
from raytune_ahu.analysis.images import for_paper
from raytune_ahu.analysis.importance import Importance
from raytune_ahu.analysis.progress import incumbent
from raytune_ahu.errors import AhuError, MetricError, SpecError
from raytune_ahu.results import Results, load
from tests.analysis_tests.report_runs import HOSTILE, STATES, runs
from tests.recorded_runs import record_run

__all__ = ["runs"]  # a fixture

PICTURES = ["incumbent", "curves", "rungs", "parallel", "importance", "workers", "cost"]
MODEL_BASED = ("usual", "promotion", "odd")
"""States in which a model has proposed trials: there is one picture more, `suggestions`."""


def drawn_points(figure: Any) -> int:
    return sum(1 for trace in figure.data for y in trace.y if y is not None)


@pytest.mark.parametrize("state", STATES)
def test_every_picture_of_every_run_is_drawn_or_says_why_not(
    runs: dict[str, Results], state: str
) -> None:
    found = try_importance(runs[state], intervals=False)
    made = {p.name: p for p in pictures(runs[state], found, intervals=False)}

    names = [name for name in made if not name.startswith("slice")]
    assert [name for name in names if name != "suggestions"] == PICTURES
    assert ("suggestions" in names) == (state in MODEL_BASED)
    for picture in made.values():
        assert picture.title
        assert picture.reading.endswith(".")
        if picture.figure is None:
            assert picture.told
        else:
            assert drawn_points(picture.figure)
            json.loads(picture.figure.to_json())


@pytest.mark.parametrize("state", ["usual", "promotion", "odd"])
def test_runs_with_values_have_all_pictures(runs: dict[str, Results], state: str) -> None:
    found = try_importance(runs[state], intervals=False)
    made = list(pictures(runs[state], found, intervals=False))

    assert all(picture.figure is not None for picture in made)
    assert sum(picture.name.startswith("slice") for picture in made) == 3


def test_a_run_in_which_all_failed_has_no_curve_but_a_timeline(runs: dict[str, Results]) -> None:
    with pytest.raises(MetricError, match="6 failed"):
        incumbent_curve(runs["failed"])
    bars = worker_timeline(runs["failed"]).data

    assert [bar.name for bar in bars] == ["failed (6)"]


def test_the_incumbent_is_that_of_the_analysis(runs: dict[str, Results]) -> None:
    figure = incumbent_curve(runs["usual"], "epochs")
    line = next(trace for trace in figure.data if trace.name == "incumbent")
    steps = incumbent(runs["usual"])
    improved = steps[steps["improved"]]

    assert list(line.x[:-1]) == list(improved["epochs"])
    assert list(line.y[:-1]) == list(improved["value"])
    assert line.y[-1] == runs["usual"].best().value
    assert "trial_" in line.text[0]


def test_its_buttons_move_points_and_line_to_the_other_axes(runs: dict[str, Results]) -> None:
    figure = incumbent_curve(runs["usual"])
    buttons = figure.layout.updatemenus[0].buttons

    assert [button.label for button in buttons] == ["time", "epochs", "trials"]
    for button in buttons:
        dots, line = button.args[0]["x"]
        assert len(dots) == len(figure.data[0].x)
        assert len(line) == len(figure.data[1].x)
    assert max(buttons[1].args[0]["x"][1]) == len(runs["usual"].reports)


def test_learning_curves_are_grouped_by_outcome_and_whole(runs: dict[str, Results]) -> None:
    results = runs["usual"]
    figure = learning_curves(results)
    status = results.trials.set_index("trial")["status"].astype(str)
    drawn: dict[str, list[float]] = {}
    for trace in figure.data:
        for trial, value in zip(trace.customdata or (), trace.y or (), strict=True):
            if trial is not None:
                drawn.setdefault(trial, []).append(value)
                assert trace.name.split(" ")[0] == status[trial]

    assert caption(figure) == "" or "far worse" in caption(figure)
    for trial, values in results.reports.groupby("trial")["value"]:
        np.testing.assert_array_equal(drawn[str(trial)], values)


def test_thinned_curves_keep_the_best_and_say_so(runs: dict[str, Results]) -> None:
    results = runs["usual"]
    figure = learning_curves(results, limit=12)
    drawn = {t for trace in figure.data for t in (trace.customdata or ()) if t is not None}

    assert len(drawn) == 12
    assert set(ranked_trials(results)[:4]) <= drawn
    assert "12 of 60 trials are drawn" in caption(figure)


def test_thinning_is_even_and_never_repeats() -> None:
    ranked = [str(i) for i in range(1000)]
    kept = spread(ranked, 30)

    assert len(kept) == len(set(kept)) == 30
    assert kept[:10] == ranked[:10]
    assert kept[-1] == "999"
    assert spread(ranked[:7], 30) == ranked[:7]


def test_the_funnel_has_the_numbers_of_the_rungs(runs: dict[str, Results]) -> None:
    results = runs["usual"]
    entrants, survivors = rung_funnel(results).data

    assert list(entrants.y) == list(results.rungs["entrants"])
    assert list(survivors.y) == list(results.rungs["survivors"])


def test_inactive_parameters_are_passed_below_their_axis(runs: dict[str, Results]) -> None:
    results = runs["usual"]
    figure = parallel_coordinates(results, ["optimizer", "momentum"])
    heights = {}
    for trace in figure.data[:-1]:
        for trial, x, y in zip(trace.customdata, trace.x, trace.y, strict=True):
            if trial is not None and x == 1:
                heights[trial] = y
    optimizer = results.trials.set_index("trial")["config/optimizer"]

    assert len(heights) == len(results.trials)
    for trial, height in heights.items():
        assert (height < 0) == (optimizer[trial] == "adam")


def test_logarithms_and_categories_stand_where_they_belong(runs: dict[str, Results]) -> None:
    results = runs["usual"]
    lr, optimizer = axis_of(results, "lr"), axis_of(results, "optimizer")
    layers = axis_of(results, "model/layers")

    assert (lr.kind, optimizer.kind, layers.kind, layers.whole) == (
        "log", "category", "number", True,
    )  # fmt: skip
    expected = np.log10(results.trials["config/lr"] / 1e-4) / 4
    np.testing.assert_allclose(lr.unit(results.trials["config/lr"]), expected, atol=1e-9)
    assert set(optimizer.unit(results.trials["config/optimizer"])) == {0.0, 1.0}
    assert [text for _, text in layers.ticks()] == ["1", "2", "3", "4"]


def test_values_that_look_alike_are_different_categories(runs: dict[str, Results]) -> None:
    axis = axis_of(runs["odd"], "odd")

    assert axis.labels == ("1", '"1"', "true", "null", "0.5", HOSTILE, "[1, 2]")
    assert not np.isnan(axis.place(runs["odd"].trials["config/odd"])).any()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (3, "3"), (True, "true"), (None, "null"), ("a", "a"), ("3", '"3"'),
     ("", '""'), ([1, "b"], '[1, "b"]')],
)  # fmt: skip
def test_a_value_is_written_so_that_its_type_can_be_seen(value: Any, text: str) -> None:
    assert show(value) == text


def test_hover_texts_are_escaped_and_short(runs: dict[str, Results]) -> None:
    results = runs["odd"]
    trials = results.trials["trial"].tolist()
    hover = Hover(results, trials)
    texts = [hover[trial] for trial in trials]

    assert all("<script" not in text and "<b>bold" not in text for text in texts)
    assert any("&lt;script" in text for text in texts)
    assert all(f"<b>{trial}</b>" in hover[trial] for trial in trials)


def test_importance_is_drawn_with_its_intervals(runs: dict[str, Results]) -> None:
    found = try_importance(runs["usual"])
    assert isinstance(found, Importance)
    alone, _, permuted = importance_bars(found).data
    lr = list(alone.y).index("lr")
    row = found.main.set_index("parameter").loc["lr"]

    assert alone.x[lr] == row["importance"]
    assert alone.error_x.array[lr] == pytest.approx(row["ci_high"] - row["importance"])
    assert permuted.visible is False


def test_a_slice_shows_the_active_trials_the_mean_and_the_density(
    runs: dict[str, Results],
) -> None:
    results = runs["usual"]
    figure = parameter_slice(results, "momentum", intervals=False)
    active = results.trials["config/momentum"].notna() & results.trials["best_value"].notna()
    names = [trace.name for trace in figure.data]

    assert len(figure.data[0].x) == active.sum()
    assert f"{(~active).sum()} of 60 trials are left out" in caption(figure)
    assert names == ["trials", "marginal mean", "density of the good", "of the others"]


def test_a_slice_along_an_unknown_parameter_lists_those_there_are(
    runs: dict[str, Results],
) -> None:
    with pytest.raises(SpecError, match=r"'depth' is not in run .*optimizer, lr"):
        parameter_slice(runs["usual"], "depth")


def test_the_timeline_has_a_row_for_each_worker(runs: dict[str, Results]) -> None:
    figure = worker_timeline(runs["usual"])
    rows = {row for bar in figure.data for row in bar.y}

    assert sorted(rows) == ["node0 #1", "node0 #2", "node1 #1", "node1 #2"]
    assert sum(len(bar.y) for bar in figure.data) == len(runs["usual"].intervals)


def test_a_long_timeline_joins_bars_and_loses_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = load(record_run(tmp_path / "long", num_samples=400, max_epochs=3, workers=2))
    whole = sum(np.sum(bar.x) for bar in worker_timeline(results).data)
    monkeypatch.setattr("raytune_ahu.analysis.figures_cost.MAX_STAYS", 50)
    figure = worker_timeline(results)

    assert "drawn as" in caption(figure)
    assert sum(len(bar.y) for bar in figure.data) < len(results.intervals)
    assert sum(np.sum(bar.x) for bar in figure.data) == pytest.approx(whole, rel=0.01)


def test_the_cost_is_drawn_by_outcome(runs: dict[str, Results]) -> None:
    (bars,) = cost_bars(runs["usual"]).data

    assert set(bars.y) >= {"completed", "stopped"}
    assert min(bars.x) > 0


def test_runs_are_compared_with_a_line_a_group(tmp_path: Path) -> None:
    made = [
        load(record_run(tmp_path / f"{search}-{seed}", num_samples=12, search=search, seed=seed))
        for search in ("bohb", "random")
        for seed in (0, 1)
    ]
    figure = comparison_curves(compare(made))
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.name]

    assert [line.name for line in lines] == ["bohb + asha-promotion", "random + asha-promotion"]
    assert len(figure.data) == 4  # a line and a band each


def test_figures_without_anything_to_show_raise_errors_of_the_project(
    runs: dict[str, Results],
) -> None:
    for draw in (incumbent_curve, learning_curves, rung_funnel, parallel_coordinates,
                 worker_timeline, cost_bars):  # fmt: skip
        with pytest.raises(AhuError, match="nothing"):
            draw(runs["nothing"])


def test_pictures_for_papers_are_white_with_black_letters_and_no_buttons(
    runs: dict[str, Results],
) -> None:
    figure = for_paper(incumbent_curve(runs["usual"]))

    assert figure.layout.template.layout.paper_bgcolor == "#ffffff"
    assert figure.layout.template.layout.font.color == "#000000"
    assert not figure.layout.updatemenus
