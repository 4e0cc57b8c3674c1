"""Space files: YAML or JSON, by the suffix.

YAML is read by the rules of YAML 1.2: `1e-4` is a number, `on` and `yes` are strings, and a key
that comes twice is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from raytune_ahu.errors import SpaceError

_YAML = (".yaml", ".yml")
_JSON = (".json",)


def read_file(path: Path) -> Any:
    """Read plain data from a file.

    Raises:
        SpaceError: If the file is absent or does not parse; the message gives path and line.
    """
    _check_suffix(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpaceError(f"{path}: there is no such space file; check the path") from None
    except IsADirectoryError:
        raise SpaceError(f"{path}: is a folder; give the path of a space file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path}: cannot be read: {error}") from error
    return _parse_yaml(path, text) if path.suffix.lower() in _YAML else _parse_json(path, text)


def write_file(path: Path, data: dict[str, Any]) -> None:
    """Write plain data to a file.

    Raises:
        SpaceError: If the suffix is unknown, or the file cannot be written.
    """
    _check_suffix(path)
    if path.suffix.lower() in _YAML:
        text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    else:
        text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpaceError(f"{path}: cannot be written: {error}") from error


def _check_suffix(path: Path) -> None:
    known = (*_YAML, *_JSON)
    if path.suffix.lower() not in known:
        raise SpaceError(f"{path}: suffix {path.suffix!r} must be one of {', '.join(known)}")


def read_value(text: str) -> Any:
    """Read one value as in a space file: `1e-4` is a number.

    Raises:
        SpaceError: If it does not parse.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpaceError(f"{text!r} is no YAML value: {' '.join(str(error).split())}") from error


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(error.problem or error).split())
        raise SpaceError(f"{path}: {line}{problem}; mend the YAML") from error
    except yaml.YAMLError as error:
        raise SpaceError(f"{path}: {' '.join(str(error).split())}; mend the YAML") from error


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise SpaceError(f"{path}: line {error.lineno}: {error.msg}; mend the JSON") from error
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise SpaceError(f"key {key!r} comes twice; remove one")
        mapping[key] = value
    return mapping


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2, refusing duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                problem = f"key {key!r} comes twice, remove one"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key if isinstance(key, Hashable) else id(key))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, quoting what YAML 1.2 would read as something else; no anchors."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True


_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = (
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_SCALARS = (
    ("merge", r"<<", ["<"]),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)
for _class in (_Loader, _Dumper):
    for _tag, _pattern, _first in _SCALARS:
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
        )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _represent_float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    # repr is the shortest text that reads back as the same float: 1e-05, 0.1.
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


def _represent_flow(dumper: _Dumper, value: Any) -> yaml.Node:
    """An entry, a list, a condition on one line; groups of parameters on several."""
    node = yaml.SafeDumper.represent_dict(dumper, value)
    node.flow_style = "domain" in value
    return node


_Dumper.add_representer(float, _represent_float)
_Dumper.add_representer(dict, _represent_flow)
