"""The best again, and the winner retrained and tested once: real runs on the embedded digits."""

from __future__ import annotations

import io
import json
import math
import shutil
import statistics

import pytest
import torch
from rich.console import Console
from scipy import stats
from torch import nn

from raytune_ahu import ExperimentSpec, SearchSpace
from raytune_ahu.adapters import Means, repeat, retrain, run
from raytune_ahu.adapters.retraining import fit_final, measure_final
from raytune_ahu.errors import MetricError, RunBusyError, SpecError
from raytune_ahu.records import RunLog, read_events, read_json
from raytune_ahu.results import load
from schedulers import scheduler_for
from schedulers.ray_scheduler import RayScheduler
from tests.recorded_runs import record_run
from trainables import MnistTrainable, Subset, TorchTrainable, Training

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

SPACE = {
    "lr": {"domain": "loguniform", "lower": 1e-3, "upper": 3e-2},
    "model": "mlp",
    "layers": 1,
    "width": {"domain": "grid_search", "values": [8, 16]},
}


def silent():
    return Console(file=io.StringIO(), width=100)


def make_scheduler(spec):
    return RayScheduler(scheduler_for(spec))


def means_of(trainable=MnistTrainable, **changes):
    return Means(trainable=trainable, make_scheduler=make_scheduler, console=silent(), **changes)


def search_on(folder, cls=MnistTrainable, **changes):
    settings = MnistTrainable.default_settings(
        "digits", folder / "data", max_epochs=2, train_images=200
    )
    fields = {
        "name": "search",
        "trainable": "trainables.mnist:MnistTrainable",
        "space": SearchSpace.from_dict(SPACE),
        "metric": "validation_accuracy",
        "mode": "max",
        "max_epochs": 2,
        "num_samples": 3,
        "search": "grid",
        "search_options": {"points_per_parameter": 2},
        "storage_path": str(folder),
        "settings": settings,
    }
    spec = ExperimentSpec(**{**fields, **changes})
    result = run(spec, trainable=cls, scheduler=make_scheduler(spec), console=silent())
    return load(result.folder)


@pytest.fixture(scope="module")
def fitted_once(local_ray, tmp_path_factory):
    """A folder with a search and its retrained winner, two seeds; the test was not read."""
    folder = tmp_path_factory.mktemp("fitted")
    fit_final(search_on(folder), means_of(), seeds=2)
    return folder


@pytest.fixture
def search(fitted_once, tmp_path):
    """A copy of that folder, data included, for each test."""
    shutil.copytree(fitted_once, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*/spec.json"):
        path.write_text(path.read_text().replace(str(fitted_once), str(tmp_path)))
    return load(tmp_path / "search")


def cached_tests(folder):
    """The decoded test images, by any process."""
    return [path for path in folder.rglob("*") if "digits-test" in path.name]


def suggested(folder):
    return [e["configuration"] for e in read_events(folder) if e["event"] == "suggested"]


def test_the_top_is_repeated_with_the_same_fresh_seeds_each(search, tmp_path):
    repeated = repeat(search, means_of(), k=2, seeds=3)
    top = search.top(2)
    assert [one.trial for one in repeated.best] == [one.trial for one in top]
    configurations = suggested(tmp_path / "search-repeat")
    assert [one["trial_seed"] for one in configurations[::2]] == list(repeated.seeds)
    for rank, best in enumerate(top):
        for one in configurations[rank::2]:
            assert one == {**best.configuration, "trial_seed": one["trial_seed"]}
    assert len(set(repeated.seeds) | {search.seed}) == 4
    again = load(tmp_path / "search-repeat")
    assert again.trials["status"].tolist() == ["completed"] * 6
    columns = [again.trials["last_value"].to_numpy()[rank::2] for rank in range(2)]
    expected = stats.ttest_rel(*columns)
    assert repeated.frame["p_value"].iloc[1] == pytest.approx(expected.pvalue)
    assert repeated.frame["mean"].tolist() == pytest.approx([c.mean() for c in columns])
    assert cached_tests(tmp_path) == []
    before = (tmp_path / "search-repeat" / "log.jsonl").read_bytes()
    assert repeat(search, means_of(), k=2, seeds=3).frame.equals(repeated.frame)
    assert (tmp_path / "search-repeat" / "log.jsonl").read_bytes() == before
    with pytest.raises(SpecError, match=r"'search-repeat' exists already .* 2 configurations, 3"):
        repeat(search, means_of(), k=2, seeds=4)


def test_the_winner_is_trained_on_all_data_and_the_test_split_read_once(search, tmp_path):
    fitted = fit_final(search, means_of(), seeds=2)
    assert cached_tests(tmp_path) == [], "no process may open the test split before the final read"
    spec = fitted.run.spec
    assert (spec.metric, spec.mode, spec.max_epochs) == ("train_loss", "min", 2)
    reports = load(spec.folder).reports
    assert not [name for name in reports.columns if "validation" in name]
    sizes = [len(fitted.restore(i).training.train) for i in range(2)]
    validation = len(fitted.restore().training.validation)
    assert sizes == [200 + validation] * 2
    tested = measure_final(fitted)
    assert cached_tests(tmp_path)
    by_hand = [fitted.restore(i).evaluate_test()["test_accuracy"] for i in range(2)]
    assert tested.values["test_accuracy"] == tuple(by_hand)
    assert tested.means["test_accuracy"] == pytest.approx(statistics.fmean(by_hand))
    assert tested.spreads["test_accuracy"] == pytest.approx(statistics.stdev(by_hand))
    (reading,) = load(search.folder).test_reads
    assert reading.details == {
        "run": "search-retrained",
        "trial": search.best().trial,
        "seeds": list(fitted.seeds),
        "epochs": 2,
        "run_made": read_json(spec.folder / "spec.json")["created"],
    }
    assert reading.figures["mean"]["test_accuracy"] == tested.means["test_accuracy"]


def test_the_same_call_again_reads_nothing_and_another_one_is_refused(search, tmp_path):
    first = retrain(search, means_of(), seeds=2)
    logs = [tmp_path / name / "log.jsonl" for name in ("search", "search-retrained")]
    before = [log.read_bytes() for log in logs]
    again = retrain(search, means_of(), seeds=2)
    assert not again.is_new
    assert again.values == first.values
    with pytest.raises(SpecError, match=r"was read on .* accuracy .*--read-test-again"):
        retrain(search, means_of(), seeds=3, name="more")
    assert [log.read_bytes() for log in logs] == before
    assert not (tmp_path / "more").exists()
    twice = retrain(search, means_of(), seeds=2, read_test_again=True)
    assert twice.is_new
    assert twice.values == first.values
    assert [one.number for one in load(search.folder).test_reads] == [1, 2]
    (tmp_path / "search-retrained").rename(tmp_path / "elsewhere")
    with pytest.raises(SpecError, match=r"was read on .*--read-test-again"):
        retrain(search, means_of(), seeds=2)  # these would be other models


@pytest.mark.slow
def test_a_search_whose_test_was_read_can_still_go_on(search, tmp_path):
    retrain(search, means_of(), seeds=2)
    spec = load(search.folder).spec.replace(num_samples=4)
    result = run(
        spec,
        trainable=MnistTrainable,
        scheduler=make_scheduler(spec),
        resume=True,
        console=silent(),
    )
    assert len(result.state.trials) == 4
    assert len(load(search.folder).test_reads) == 1


def cut_after(folder, kind, count):
    """Cut a run's log right after an event, as if its driver had been killed then."""
    log = folder / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if json.loads(line)["event"] == kind]
    log.write_text("".join(lines[: places[count - 1] + 1]) + '{"event": "repor')


def test_a_retraining_that_was_killed_goes_on_where_it_was(search, tmp_path):
    whole = fit_final(search, means_of(), seeds=2)
    expected = [whole.restore(i).training.model.state_dict() for i in range(2)]
    folder = tmp_path / "search-retrained"
    cut_after(folder, "saved", 1)
    fitted = fit_final(search, means_of(), seeds=2)
    kinds = [event["event"] for event in read_events(folder)]
    assert kinds.count("run_started") == 2
    assert fitted.seeds == whole.seeds
    for i, state in enumerate(expected):
        for name, tensor in fitted.restore(i).training.model.state_dict().items():
            assert torch.equal(tensor, state[name]), name
    assert set(measure_final(fitted).values) == {"test_accuracy", "test_loss"}


def test_a_test_that_was_broken_off_counts_as_read(search, monkeypatch):
    fitted = fit_final(search, means_of(), seeds=2)

    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MnistTrainable, "evaluate_test", interrupt)
        with pytest.raises(KeyboardInterrupt):
            measure_final(fitted)
    with pytest.raises(SpecError, match="it was broken off, without figures"):
        retrain(search, means_of(), seeds=2)
    assert retrain(search, means_of(), seeds=2, read_test_again=True).reading.number == 2


def test_a_search_that_is_going_on_is_not_retrained(search):
    with RunLog(search.folder), pytest.raises(RunBusyError):
        fit_final(search, means_of(), seeds=2)


@pytest.mark.slow
def test_what_was_trained_again_is_not_trained_again_once_more(search, tmp_path):
    with pytest.raises(SpecError, match=r"trains the best of run 'search' again"):
        repeat(load(tmp_path / "search-retrained"), means_of())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, r"seeds=0 must be in \[1, 1000\]"),
        ({"trial": "trial_00099"}, "'trial_00099' is not in run"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_starts(tmp_path, options, message):
    results = load(record_run(tmp_path / "search", num_samples=3, max_epochs=3))
    with pytest.raises(SpecError, match=message):
        retrain(results, means_of(), **options)
    with pytest.raises(SpecError, match=r"k=0 must be in \[1, 1000\]"):
        repeat(results, means_of(), k=0)
    assert [path.name for path in tmp_path.iterdir()] == ["search"]


def test_a_run_without_a_finite_value_has_no_winner(tmp_path):
    results = load(record_run(tmp_path / "nothing", num_samples=3, diverges_above=0.0))
    with pytest.raises(MetricError, match="no trial of run 'nothing' reported a finite"):
        retrain(results, means_of())
    with pytest.raises(MetricError, match="no trial of run 'nothing' reported a finite"):
        repeat(results, means_of())


# --- trainables of the user's own


def make_moons():
    """Made inside a function so that Ray sends the classes to its workers by value."""

    class Untested(TorchTrainable):
        def build(self, configuration, settings):
            inputs = torch.randn(300, 2, generator=self.generator("data"))
            targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
            model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
            return Training(
                model=model,
                optimizer=torch.optim.Adam(model.parameters(), lr=configuration["lr"]),
                train=Subset.whole(inputs[:200], targets[:200]),
                validation=Subset.whole(inputs[200:], targets[200:]),
                batch_size=50,
            )

    class Tested(Untested):
        def load_test(self):
            inputs = torch.randn(100, 2, generator=torch.Generator().manual_seed(1))
            return Subset.whole(inputs, (inputs[:, 0] * inputs[:, 1] > 0).long())

    class Scheduled(Tested):
        def build(self, configuration, settings):
            training = super().build(configuration, settings)
            training.schedule = torch.optim.lr_scheduler.StepLR(training.optimizer, 4)
            return training

    return Untested, Tested, Scheduled


LR = SearchSpace.from_dict({"lr": {"domain": "loguniform", "lower": 1e-3, "upper": 1e-1}})


@pytest.mark.slow
def test_a_trainable_of_ones_own_is_retrained_on_all_of_its_rows(tmp_path):
    untested, tested, scheduled = make_moons()
    own = {"space": LR, "search": "random", "search_options": {}, "settings": {}}
    results = search_on(tmp_path, tested, num_samples=2, trainable="tests:Tested", **own)
    with pytest.raises(SpecError, match="Untested has no test split"):
        retrain(results, means_of(untested))
    with pytest.raises(MetricError, match=r"SpecError.* schedule of Scheduled .* training rows"):
        retrain(results, means_of(scheduled), seeds=1, name="scheduled")
    one = retrain(results, means_of(tested), seeds=1, name="one")
    assert math.isnan(one.spreads["test_accuracy"])
    assert "(one seed)" in one.reading.summary
    found = retrain(results, means_of(tested), seeds=2, read_test_again=True)
    assert found.values["test_accuracy"][0] == one.values["test_accuracy"][0]
    models = [found.fitted.restore(i) for i in range(2)]
    assert [len(model.training.train) for model in models] == [300, 300]
    assert torch.equal(models[0].training.train.inputs, models[1].training.train.inputs)
    assert found.values["test_accuracy"][0] != found.values["test_accuracy"][1]


def test_a_trainable_that_cannot_be_tested_is_refused_in_one_line(toy_trainable, tmp_path):
    results = load(record_run(tmp_path / "search", num_samples=3, max_epochs=3))
    with pytest.raises(SpecError, match=r"Toy cannot be retrained.*TorchTrainable with a load_"):
        retrain(results, means_of(toy_trainable))
