"""Words for what a cluster lacks: never (`refusal`), not now (`missing`), not free (`taken`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from raytune_ahu.adapters.nodes import Node, has_free, trials_per_node
from raytune_ahu.experiment import ACCELERATOR_PREFIX

_PRECISION = 1e-6
_OWN_OPTION = {"CPU": "cpus_per_trial", "GPU": "gpus_per_trial"}
_OF_RAY = ("CPU", "GPU", "memory", "object_store_memory")


def refusal(nodes: Sequence[Node], request: Mapping[str, float]) -> str:
    """Say why no node can ever run such a trial, and what to ask for instead."""
    kind = _lacking(nodes, request)
    if kind is None:
        return (
            f"a trial takes {_listed(request)}; nodes have each of these, but none has all of them "
            "together; ask for less, or start a node that has"
        )
    amount, most = request[kind], _most(nodes, kind)
    names = sorted({name for node in nodes for name in node.total})
    if _is_type(kind):
        known = [name.removeprefix(ACCELERATOR_PREFIX) for name in names if _is_type(name)]
        there = f"those of the cluster are {', '.join(known)}" if known else "no node has any"
        return (
            f"accelerator_type={kind.removeprefix(ACCELERATOR_PREFIX)!r}, but {there}; use another "
            "--accelerator-type, or 'any'"
        )
    if kind in _OWN_OPTION:
        option = _OWN_OPTION[kind]
        fix = f"use --{option.replace('_', '-')} {most:g}{' or less' if most > 0 else ''}"
        return (
            f"{option}={amount:g}, but no node of the cluster has more than {most:g} {kind}s; "
            f"{fix}, or start a node that has them"
        )
    asked = f"resources_per_trial has {kind}={amount:g}, but no node of the cluster has"
    if most > 0:
        return f"{asked} more than {most:g}; use --resource {kind}={most:g} or less"
    known = [name for name in names if _is_custom(name)]
    return (
        f"{asked} it; custom resources there: {', '.join(known) or 'none'}; leave it out, or start "
        f"a node with --resources='{{\"{kind}\": {math.ceil(amount)}}}'"
    )


def missing(nodes: Sequence[Node], request: Mapping[str, float]) -> str:
    """Say what the nodes that are alive have too little of."""
    kind = _lacking(nodes, request)
    if kind is None:
        return f"needs {_listed(request)} on one node"
    has = "none has one" if _is_type(kind) else f"the largest alive has {_most(nodes, kind):g}"
    return f"needs {_amount(kind, request[kind])}; {has}"


def taken(nodes: Sequence[Node], request: Mapping[str, float], running: int) -> str:
    """Say which resource of the nodes is in use, and by whom.

    Args:
        nodes: Those onto which a trial would fit if they were empty.
        request: What a trial takes.
        running: Trials of this run that have taken theirs.
    """
    for kind in sorted(request, key=lambda kind: kind == "CPU"):
        need = request[kind]
        if any(has_free(node, {kind: need}) for node in nodes):
            continue
        total = sum(node.total[kind] for node in nodes)
        used = total - sum(node.free.get(kind, 0.0) for node in nodes)
        things = f"{total:g} {_plural(kind)}" if total != 1 else f"1 {kind}"
        is_all = total - used <= _PRECISION
        state = f"all {things} are" if is_all else f"{used:g} of {things} are"
        if is_all and total == 1:
            state = f"the only {kind} is"
        text = f"{state} in use ({_whose(used, running * need)})"
        return text if is_all else f"{text} and no node has {need:g} free"
    return f"no node has {_listed(request)} free at once"


def _whose(used: float, by_this_run: float) -> str:
    by_others = used - by_this_run
    if by_this_run <= _PRECISION:
        return "by other jobs on the cluster"
    if by_others <= _PRECISION:
        return "by this run"
    return f"{by_this_run:g} by this run, {by_others:g} by other jobs on the cluster"


def _lacking(nodes: Sequence[Node], request: Mapping[str, float]) -> str | None:
    """The first resource of which no node has enough, or None if each is there somewhere."""
    for kind, amount in request.items():
        if not any(trials_per_node(node.total, {kind: amount}) > 0 for node in nodes):
            return kind
    return None


def _most(nodes: Sequence[Node], kind: str) -> float:
    return max((node.total.get(kind, 0.0) for node in nodes), default=0.0)


def _is_type(name: str) -> bool:
    return name.startswith(ACCELERATOR_PREFIX)


def _is_custom(name: str) -> bool:
    return name not in _OF_RAY and not _is_type(name) and not name.startswith("node:")


def _listed(request: Mapping[str, float]) -> str:
    *first, last = [_amount(kind, amount) for kind, amount in request.items()]
    return f"{', '.join(first)} and {last}" if first else last


def _amount(kind: str, amount: float) -> str:
    if _is_type(kind):
        return f"an accelerator {kind.removeprefix(ACCELERATOR_PREFIX)}"
    return f"{amount:g} {kind if amount <= 1 else _plural(kind)}"


def _plural(kind: str) -> str:
    return f"{kind}s" if kind in ("CPU", "GPU", "TPU") else kind
