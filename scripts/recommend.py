"""Recommend items with a recommender that tune_recommender.py has exported.

python scripts/recommend.py runs/NAME --users 196,22
python scripts/recommend.py runs/NAME --all --k 20 --output lists.parquet
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from raytune_ahu.errors import AhuError, SpecError
from trainables.serving import Recommender

_SHOWN = 200
_SUFFIXES = (".parquet", ".csv")


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write recommendations and return the exit code: 0, or 2 for what one can mend."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="folder of the run, or of the exported recommender")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--users", metavar="ID,...", help="ids as in the data; unknown ones are said")
    who.add_argument("--all", action="store_true", help="all users of the data")
    parser.add_argument("--k", type=int, default=10, metavar="N", help="(default 10)")
    parser.add_argument(
        "--include-seen", action="store_true", help="recommend what a user has already as well"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write to this .parquet or .csv file instead of printing"
    )
    args = parser.parse_args(argv)
    try:
        _recommend(args)
    except AhuError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _recommend(args: argparse.Namespace) -> None:
    output = None if args.output is None else Path(args.output)
    if output is not None and output.suffix not in _SUFFIXES:
        raise SpecError(f"--output {output} must end in {' or '.join(_SUFFIXES)}")
    recommender = Recommender.load(args.path)
    users = recommender.user_ids.tolist() if args.all else recommender.read_ids(args.users)
    if not users:
        raise SpecError(f"--users {args.users!r} names nobody; give ids with commas between them")
    lists = recommender.recommend(users, args.k, exclude_seen=not args.include_seen)
    if output is None:
        table = Table(*lists.columns)
        for row in lists.head(_SHOWN).itertuples(index=False):
            table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
        Console().print(table)
        if len(lists) > _SHOWN:
            print(f"... {len(lists):,} rows; --output FILE writes them all")
        return
    if lists["user"].map(type).nunique() > 1:  # numbers, and what cannot be one: unknown users
        lists["user"] = lists["user"].astype(str)
    try:
        if output.suffix == ".csv":
            lists.to_csv(output, index=False)
        else:
            lists.to_parquet(output, index=False)
    except OSError as error:
        raise SpecError(f"--output {output} cannot be written ({error})") from error
    print(f"{len(lists):,} recommendations for {len(users):,} users are in {output}")


if __name__ == "__main__":
    sys.exit(main())
