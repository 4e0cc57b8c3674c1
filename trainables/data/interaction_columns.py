"""Which columns of a table are the user, the item, the rating and the time.

The user says it as text, `user=visitor,item=sku,time=ts`; what is not said is looked up under the
usual names. Start with `Columns.find`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raytune_ahu.errors import DataError

ROLES = ("user", "item", "rating", "time")
"""What a column can be; the first two are needed."""

_USUAL = {
    "user": ("user", "userid"),
    "item": ("item", "itemid", "movieid"),
    "rating": ("rating",),
    "time": ("time", "timestamp"),
}
"""Usual names of each role, compared without case, `_` and what follows a colon."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns of one table."""

    user: str
    """Column of the user ids."""
    item: str
    """Column of the item ids."""
    rating: str | None = None
    """Column of the ratings; None where there is none."""
    time: str | None = None
    """Column of the times; None where there is none."""

    @classmethod
    def find(cls, found: Sequence[str], columns: str | None, source: str) -> Columns:
        """Match what the user said with the columns that a table has.

        Args:
            found: Names of the columns of the table.
            columns: What the user said (see `parse_columns`); None: nothing.
            source: Name of the table, for messages.

        Raises:
            DataError: If a column is missing, or it is not clear which one is meant.
        """
        said = parse_columns(columns)
        chosen = {role: _choose(role, said, found, source) for role in ROLES}
        missing = [role for role in ("user", "item") if chosen[role] is None]
        if missing:
            raise DataError(
                f"{source} has no column for {' and '.join(missing)}; found: {', '.join(found)}; "
                "the first line must hold the names; say which column is which with "
                "columns='user=...,item=...,rating=...,time=...'"
            )
        names = [name for name in chosen.values() if name is not None]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"columns={columns!r} uses {twice[0]!r} twice; name each column once")
        assert chosen["user"] is not None
        assert chosen["item"] is not None
        return cls(chosen["user"], chosen["item"], chosen["rating"], chosen["time"])

    @property
    def roles(self) -> dict[str, str]:
        """Role -> name of the column, of those that there are."""
        return {role: name for role in ROLES if (name := getattr(self, role)) is not None}


def parse_columns(text: str | None) -> dict[str, str]:
    """Read `user=NAME,item=NAME,rating=NAME,time=NAME`; each part may be left out.

    An empty name (`rating=`) says that there is no such column.

    Raises:
        DataError: If a part has no `=`, its role is not known, or comes twice.
    """
    said: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or role not in ROLES:
            raise DataError(
                f"columns={text!r}: {part.strip()!r} must be ROLE=COLUMN with a role of "
                f"{', '.join(ROLES)}; for example columns='user=visitor,item=sku,time=ts'"
            )
        if role in said:
            raise DataError(f"columns={text!r} names {role} twice; name each role once")
        said[role] = name
    return said


def _choose(role: str, said: dict[str, str], found: Sequence[str], source: str) -> str | None:
    if role in said:
        name = said[role]
        if name and name not in found:
            raise DataError(
                f"{source} has no column {name!r} ({role}); found: {', '.join(found)}; the first "
                "line must hold the names"
            )
        _check_single(name, found, source)
        return name or None
    usual = [name for name in found if _plain(name) in _USUAL[role]]
    if usual:
        _check_single(usual[0], found, source)
    if len(usual) > 1:
        raise DataError(
            f"{source} has several columns that could be the {role}: {', '.join(usual)}; "
            f"say which with columns='{role}=...'"
        )
    return usual[0] if usual else None


def _check_single(name: str, found: Sequence[str], source: str) -> None:
    if found.count(name) > 1:
        raise DataError(
            f"{source} has {found.count(name)} columns of the name {name!r}; give each its own name"
        )


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "").partition(":")[0]
