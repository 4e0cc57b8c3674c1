"""`ml-100k` and `ml-1m`: ratings of films from MovieLens, with features of users and films.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
The licence forbids passing the files on: they are downloaded from GroupLens, or put in place by
hand. Start with `MovieLens`.
"""

from __future__ import annotations

import shutil
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from raytune_ahu.errors import DataError
from trainables.data.download import READ_TIMEOUT_S, DownloadError, download_into
from trainables.data.interaction_columns import Columns
from trainables.data.interaction_errors import Layout
from trainables.data.interaction_files import read_text
from trainables.data.interaction_rows import Interactions, features_of

Say = Callable[[str], None]

_AGES = (18, 25, 35, 45, 50, 56)
"""Where the age groups of ml-1m begin; the first one is all who are younger."""
_GENRES_100K = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
"""The order of the flags in `u.item`."""
_OCCUPATIONS_1M = (
    "other|educator|artist|clerical|student|customer service|health care|executive|farmer|"
    "homemaker|K-12 student|lawyer|programmer|retired|sales|scientist|self-employed|technician|"
    "tradesman|unemployed|writer"
)
"""The occupations that `users.dat` numbers from 0."""
_COLUMNS = Columns("user", "item", "rating", "time")


@dataclass(frozen=True)
class _Edition:
    """The files of one MovieLens data set; the users and the films may be absent."""

    ratings: str
    users: str
    films: str
    layout: Layout
    separator: str
    megabytes: int


_EDITIONS = {
    "ml-100k": _Edition(
        "u.data",
        "u.user",
        "u.item",
        Layout(("user", "item", "rating", "time"), "\t", _COLUMNS, has_header=False),
        "|",
        5,
    ),
    # A double separator: the columns between the two are empty.
    "ml-1m": _Edition(
        "ratings.dat",
        "users.dat",
        "movies.dat",
        Layout(("user", "-1", "item", "-2", "rating", "-3", "time"), ":", _COLUMNS, False),
        "::",
        6,
    ),
}

MOVIELENS = tuple(_EDITIONS)
"""Names of the data sets."""


class MovieLens:
    """One MovieLens data set, in `<data_dir>/<name>` or in `data_dir` itself.

    Args:
        name: One of `MOVIELENS`.
        data_dir: Folder that holds, or will hold, the data set.
    """

    def __init__(self, name: str, data_dir: Path) -> None:
        self._name = name
        self._edition = _EDITIONS[name]
        self._target = data_dir / name
        own = (data_dir / self._edition.ratings).is_file()
        self._folder = data_dir if own and not self._target.is_dir() else self._target

    @property
    def files(self) -> list[Path]:
        """The files that there are, the ratings first."""
        edition = self._edition
        paths = [self._folder / name for name in (edition.ratings, edition.users, edition.films)]
        return [path for path in paths if path.is_file()]

    def require(self, say: Say) -> None:
        """Download the data set where its ratings are missing.

        Raises:
            DataError: If that is not possible; the message says what to put where.
        """
        place = self._folder / self._edition.ratings
        if place.is_file():
            return
        url = f"https://files.grouplens.org/datasets/movielens/{self._name}.zip"
        say(f"downloading {self._name} ({self._edition.megabytes} MB) to {self._target}")
        try:
            download_into(self._target, [url], lambda folder: self._fetch(url, folder))
        except DownloadError as error:
            raise DataError(
                f"{place} is missing and cannot be downloaded ({error}); unpack {url} so that it "
                "is there, choose another --data-dir, or use --dataset synthetic, which needs no "
                "download"
            ) from error

    def read(self) -> Interactions:
        """Read the ratings, users and films.

        Raises:
            DataError: If a file is absent or damaged.
        """
        edition = self._edition
        path = self._folder / edition.ratings
        if not path.is_file():
            raise DataError(
                f"{path} is missing; put {self._name} there, or use --dataset synthetic, which "
                "needs no download"
            )
        data = read_text(path, edition.layout)
        users, user_names = features_of(data.user_ids, self._described(edition.users, _user))
        films, film_names = features_of(data.item_ids, self._described(edition.films, _film))
        return replace(
            data,
            user_features=users if user_names else None,
            item_features=films if film_names else None,
            user_feature_names=user_names,
            item_feature_names=film_names,
        )

    def _described(
        self, name: str, describe: Callable[[str, list[str]], list[str]]
    ) -> dict[int, list[str]]:
        """Read the features of the users or films, by id; none where the file is absent."""
        path = self._folder / name
        if not path.is_file():
            return {}
        described = {}
        with path.open(encoding="iso-8859-1") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                values = line.rstrip("\r\n").split(self._edition.separator)
                try:
                    described[int(values[0])] = describe(self._name, values)
                except (ValueError, IndexError) as error:
                    raise DataError(
                        f"{path}, line {number}: {line[:80]!r} is no line of {self._name}; delete "
                        "the folder and let it be downloaded again"
                    ) from error
        return described

    def _fetch(self, url: str, folder: Path) -> None:
        archive = folder / "archive.zip"
        with (
            urllib.request.urlopen(url, timeout=READ_TIMEOUT_S) as answer,
            archive.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
        edition = self._edition
        (folder / self._name).mkdir()
        try:
            with zipfile.ZipFile(archive) as packed:
                for name in (edition.ratings, edition.users, edition.films, "README"):
                    if f"{self._name}/{name}" in packed.namelist():
                        packed.extract(f"{self._name}/{name}", folder)
        except zipfile.BadZipFile as error:
            raise DownloadError(f"what {url} sent is no zip file ({error})") from error
        if not (folder / self._name / edition.ratings).is_file():
            raise DownloadError(f"what {url} sent has no {self._name}/{edition.ratings}")


def _user(name: str, values: list[str]) -> list[str]:
    if name == "ml-100k":
        _, age, gender, occupation, *_ = values
    else:
        _, gender, age, number, *_ = values
        occupation = _OCCUPATIONS_1M.split("|")[int(number)]
    return [f"age={_age_group(int(age))}", f"gender={gender}", f"occupation={occupation}"]


def _age_group(age: int) -> str:
    if age < _AGES[0]:
        return f"under {_AGES[0]}"
    begin = max(limit for limit in _AGES if limit <= age)
    end = _AGES[_AGES.index(begin) + 1] - 1 if begin != _AGES[-1] else None
    return f"{begin}-{end}" if end else f"{begin}+"


def _film(name: str, values: list[str]) -> list[str]:
    if name == "ml-100k":
        names = _GENRES_100K.split("|")
        flags = values[-len(names) :]
        genres = [genre for genre, flag in zip(names, flags, strict=True) if int(flag)]
    else:
        genres = values[2].split("|")
    return [f"genre={genre}" for genre in genres]
