"""The README's examples run as they stand."""

from __future__ import annotations

import re

import pytest

from raytune_ahu.space import SearchSpace
from tests.recorded_runs import record_run


def blocks(root, language):
    text = (root / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    assert found
    return found


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_the_example_of_an_own_model_runs(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in blocks(root, "python") if "class Quadrants" in block]
    # In a namespace that is no module, Ray sends the class to its workers by value.
    namespace = {"__name__": "__main__"}
    exec(compile(code, "README.md", "exec"), namespace)
    result = namespace["result"]
    assert result.ended == "finished"
    assert len(result.state.trials) == 20
    assert result.state.incumbent.value > 0.7
    assert "Best validation_accuracy" in capsys.readouterr().out


def test_the_example_of_reading_results_runs(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record_run(tmp_path / "runs" / "NAME", num_samples=30, max_epochs=9)
    (code,) = [block for block in blocks(root, "python") if "results import load" in block]
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    assert len(namespace["results"].trials) == 30
    assert "best value at any epoch" in capsys.readouterr().out


def test_the_example_of_a_search_space_can_be_read(root, tmp_path):
    (text,) = blocks(root, "yaml")
    path = tmp_path / "space.yaml"
    path.write_text(text)
    space = SearchSpace.from_file(path)
    assert space.names == ("optimizer", "lr", "momentum", "batch_size", "filters")
    assert space.prior.names == ("optimizer", "lr", "batch_size")


def test_every_command_and_file_that_it_names_exists(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)\b", text)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for path in set(re.findall(r"\b(?:scripts|benchmarks|trainables|raytune_ahu)/[\w/.]+\w", text)):
        assert (root / path).exists(), path


def test_no_placeholder_was_forgotten(root):
    assert "@@" not in (root / "README.md").read_text(encoding="utf-8")
