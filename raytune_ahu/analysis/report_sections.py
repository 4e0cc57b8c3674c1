"""The sections of the report that are words and tables: what was found, and how it was made."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import yaml

from raytune_ahu.analysis.compare import Comparison
from raytune_ahu.analysis.convergence import advice
from raytune_ahu.analysis.cost import savings
from raytune_ahu.analysis.figures_style import show
from raytune_ahu.analysis.importance import Importance
from raytune_ahu.analysis.report_html import (
    Section,
    bullets,
    duration,
    paragraph,
    preformatted,
    table,
    tiles,
)
from raytune_ahu.analysis.rungs import grace_advice, rung_correlation
from raytune_ahu.errors import AhuError
from raytune_ahu.results import At, Results
from raytune_ahu.space.nested import flatten

_RULES: tuple[At, ...] = ("any", "max_resource", "last")


def summary(results: Results, found: Importance | AhuError, *, seed: int = 0) -> Section:
    """What was found, what it cost and what to trust."""
    body = [
        tiles(_facts(results)),
        "<h3>Best trial</h3>",
        _or_why(lambda: _best(results)),
        "<h3>What it cost</h3>",
        paragraph(_cost(results)),
        "<h3>What to trust</h3>",
        bullets(_trust(results, found, seed)),
        _or_why(lambda: _correlations(results, seed)),
    ]
    if results.notes:
        body += ["<h3>About the record</h3>", bullets(results.notes)]
    if results.test_reads:
        readings = [f"read {reading}" for reading in results.test_reads]
        body += ["<h3>The test split</h3>", bullets(readings)]
    reading = "The best trial by each rule" + (
        "." if results.spec is None else ", chosen on validation data; test data choose nothing."
    )
    return Section("summary", "Summary", reading, "\n".join(body))


def _facts(results: Results) -> list[tuple[str, str]]:
    counts = results.trials["status"].value_counts()
    told = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    epochs = int(results.trials["epochs_run"].sum())
    values = results.trials["best_value"].dropna()
    best = show(float(values.min() if results.sign > 0 else values.max())) if len(values) else "-"
    sense = "smaller" if results.sign > 0 else "larger"
    return [
        (f"best {results.metric} ({sense} is better)", best),
        ("trials", f"{len(results.trials)}" + (f": {told}" if told else "")),
        ("epochs trained", f"{epochs}"),
        ("wall time", duration(results.wall_s)),
    ]


def _best(results: Results) -> str:
    rows = []
    for at in _RULES:
        best = results.best(at=at)
        flat = flatten(dict(best.configuration))
        configuration = ", ".join(f"{name}={show(value)}" for name, value in flat.items())
        rows.append((best.rule, best.trial, best.value, best.resource, configuration))
    return table(("rule", "trial", results.metric, "epoch", "configuration"), rows)


def _cost(results: Results) -> str:
    saved = savings(results)
    held = (results.intervals["end_s"] - results.intervals["start_s"]).sum()
    spent = (
        f"{len(results.trials)} trials and {saved.epochs_run} epochs took {duration(float(held))} "
        f"of workers in {duration(results.wall_s)}."
    )
    if saved.epochs_full <= saved.epochs_run:
        return f"{spent} No trial was stopped early."
    return (
        f"{spent} Without early stopping the same trials would have taken {saved.epochs_full} "
        f"epochs: it saved {saved.share:.0%} of them, about {duration(saved.seconds_saved)} of a "
        "worker."
    )


def _trust(results: Results, found: Importance | AhuError, seed: int) -> list[str]:
    told = [_sentence(lambda: grace_advice(results, seed=seed))]
    told.append(_sentence(lambda: advice(results, seed=seed)))
    if isinstance(found, AhuError):
        told.append(f"Importance: {found}.")
    else:
        told += [f"Importance: {note}" for note in found.notes]
    return told


def _correlations(results: Results, seed: int) -> str:
    known = rung_correlation(results, seed=seed).dropna(subset="spearman")
    if known.empty:
        return ""
    heads = (
        "epoch", "against epoch", "trials", "of those there", "Spearman", "90 % interval",
        "Kendall",
    )  # fmt: skip
    rows = [
        (
            int(row["low"]),
            int(row["high"]),
            int(row["n"]),
            f"{row['reached']:.0%}",
            float(f"{row['spearman']:.2f}"),
            f"{row['ci_low']:.2f} to {row['ci_high']:.2f}",
            float(f"{row['kendall']:.2f}"),
        )
        for _, row in known.iterrows()
    ]
    return table(heads, rows)


def comparison_table(comparison: Comparison) -> str:
    """One row a run of a comparison."""
    runs = comparison.runs.astype(object).where(comparison.runs.notna(), None)
    heads = [str(name).replace("_", " ") for name in runs.columns]
    return table(heads, runs.to_numpy().tolist())


def making(results: Results) -> Section:
    """Specification, search space, environment, seed and command: what explains the run."""
    body = ["<h3>Command</h3>"]
    command = results.provenance.get("command")
    body.append(preformatted(_command(command)) if command else paragraph("It is not on record."))
    body += ["<h3>Seed</h3>", paragraph(_seed(results))]
    body += ["<h3>Environment</h3>", _environment(results)]
    if results.space is not None:
        body += ["<h3>Search space</h3>", preformatted(results.space.summary())]
    if results.spec is not None:
        written = yaml.safe_dump(_plain(results.spec.to_dict()), sort_keys=False)
        body += ["<h3>Specification</h3>", preformatted(written)]
    if len(results.sessions):
        body += ["<h3>Sessions</h3>", _sessions(results)]
    reading = "What one needs to repeat the run: how it was started, on what, and with which space."
    return Section("making", "How it was made", reading, "\n".join(body))


def _command(command: Any) -> str:
    if isinstance(command, str):
        return command
    return shlex.join(str(word) for word in command)


def _seed(results: Results) -> str:
    if results.seed is None:
        return "It is not on record."
    return f"{results.seed}: every random choice of the search and of the trials follows from it."


def _environment(results: Results) -> str:
    facts = [
        (key, str(value))
        for key, value in results.provenance.items()
        if key not in ("command", "versions") and value is not None
    ]
    versions = results.provenance.get("versions") or {}
    facts += [(f"version of {name}", str(version)) for name, version in versions.items()]
    return table(("", ""), facts) if facts else paragraph("It is not on record.")


def _sessions(results: Results) -> str:
    rows = [
        (number, host, slots, f"{time:%Y-%m-%d %H:%M:%S} UTC", duration(end - start), reason)
        for number, host, slots, time, start, end, reason in results.sessions[
            ["session", "host", "slots", "time", "start_s", "end_s", "reason"]
        ].astype(object).to_numpy()
    ]  # fmt: skip
    return table(("session", "host", "trials at once", "began", "lasted", "ended"), rows)


def _plain(value: Any) -> Any:
    """Lists and dicts in place of tuples and mappings, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _or_why(make: Callable[[], str]) -> str:
    try:
        return make()
    except AhuError as error:
        return paragraph(f"{_capital(str(error))}.", "why")


def _sentence(make: Callable[[], str]) -> str:
    try:
        return make()
    except AhuError as error:
        return f"{_capital(str(error))}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
