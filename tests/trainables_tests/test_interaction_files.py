"""CSV, TSV and Parquet files: the same rows from each, and one clear sentence for each fault."""

from __future__ import annotations

import gzip
from datetime import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from raytune_ahu.errors import DataError
from trainables.data import interaction_files
from trainables.data.interaction_columns import Columns, parse_columns
from trainables.data.interaction_files import read_interactions
from trainables.data.interaction_filters import filter_interactions

CSV = "user,item,rating,time\n7,b,3.5,100\n10,a,1,99\n7,a,5,101\n"


def read(path, text, columns=None, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return read_interactions(path, columns)


def contents(data):
    """Every row as the user wrote it."""
    columns = [data.user_ids[data.users], data.item_ids[data.items]]
    columns += [values for values in (data.ratings, data.times) if values is not None]
    return list(zip(*(column.tolist() for column in columns), strict=True))


EXPECTED = [(7, "b", 3.5, 100), (10, "a", 1, 99), (7, "a", 5, 101)]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_a_text_file_is_read_whatever_its_separator(tmp_path, separator):
    data = read(tmp_path / "log.csv", CSV.replace(",", separator))
    assert contents(data) == EXPECTED
    assert data.users.tolist() == [0, 1, 0]  # in the order of the ids, as numbers
    assert data.user_ids.dtype == np.int64
    assert data.item_ids.tolist() == ["a", "b"]
    assert (data.ratings.dtype, data.times.dtype) == (np.float32, np.int64)


def test_gzip_byte_order_marks_quotes_blank_lines_and_windows_line_ends_are_no_trouble(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + CSV.encode()))
    assert contents(read_interactions(path)) == EXPECTED
    text = '"user","item","rating","time"\r\n7,"b, ""B""",3.5,100\r\n\r\n10,a,1,99\r\n'
    assert contents(read(tmp_path / "log.csv", text)) == [(7, 'b, "B"', 3.5, 100), EXPECTED[1]]


def test_quoted_text_may_hold_line_ends_also_between_two_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(interaction_files, "_BLOCK_BYTES", 1000)
    review = '"so good,\nso very ""good""\n"'
    text = "user,review,item\n" + "".join(f"{row},{review},{row}\n" for row in range(300))
    data = read(tmp_path / "log.csv", text)
    assert contents(data) == [(row, row) for row in range(300)]
    with pytest.raises(DataError, match="line 902: 2 values where the first line has 3"):
        read(tmp_path / "log.csv", text + "7;8,9\n")


def test_parquet_gives_the_same_rows(tmp_path):
    path = tmp_path / "log.parquet"
    table = pa.table(
        {
            "time": pa.array([100, 99, 101], pa.int32()),
            "user": [7, 10, 7],
            "item": pa.array(["b", "a", "a"]).dictionary_encode(),
            "rating": pa.array([3.5, 1, 5], pa.float32()),
            "other": ["x", "y", "z"],
        }
    )
    pa_parquet.write_table(table, path)
    assert contents(read_interactions(path)) == EXPECTED


def test_parquet_times_may_be_dates_and_ids_floats_that_are_whole(tmp_path):
    path = tmp_path / "log.parquet"
    dates = [datetime(2020, 1, day) for day in (2, 1)]
    pa_parquet.write_table(
        pa.table({"user": [1.0, 2.0], "item": [5, 5], "time": pa.array(dates, pa.timestamp("ms"))}),
        path,
    )
    data = read_interactions(path)
    assert data.user_ids.tolist() == [1, 2]
    assert data.user_ids.dtype == np.int64
    assert data.times.tolist() == [1577923200000, 1577836800000]


def test_ids_with_leading_zeros_stay_text(tmp_path):
    data = read(tmp_path / "log.csv", "user,item\n007,1\n7,1\n")
    assert data.user_ids.tolist() == ["007", "7"]
    assert data.item_ids.tolist() == [1]


def both(tmp_path, columns):
    """One table, as it is read from a CSV and from a Parquet file that pandas wrote."""
    table = pd.DataFrame(columns)
    table.to_csv(tmp_path / "log.csv", index=False)
    table.to_parquet(tmp_path / "log.parquet", index=False)
    return [read_interactions(tmp_path / f"log.{kind}") for kind in ("csv", "parquet")]


def test_numbers_that_do_not_fit_into_64_bits_are_text_ids(tmp_path):
    hashes = np.array([2**64 - 1, 5, 2**63], np.uint64)
    for data in both(tmp_path, {"user": hashes, "item": [1e300, 1.0, 2.0]}):
        texts = ["18446744073709551615", "5", "9223372036854775808"]
        assert data.user_ids[data.users].tolist() == texts
        assert data.item_ids[data.items].tolist() == ["1e+300", "1.0", "2.0"]
        assert data.user_ids.tolist() == sorted(texts)


def test_numbers_that_just_fit_into_64_bits_are_integers(tmp_path):
    ids = [2**63 - 1, -(2**63), 0]
    for data in both(tmp_path, {"user": ids, "item": np.array([3, 1, 2], np.uint64)}):
        assert contents(data) == list(zip(ids, [3, 1, 2], strict=True))
        assert (data.user_ids.dtype, data.item_ids.dtype) == (np.int64, np.int64)


def test_floats_that_are_all_whole_are_integer_ids_in_every_kind_of_file(tmp_path):
    for data in both(tmp_path, {"user": [1001.0, -2.0], "item": [0.0, 10.0]}):
        assert contents(data) == [(1001, 0), (-2, 10)]
        assert (data.user_ids.dtype, data.item_ids.dtype) == (np.int64, np.int64)


def test_numbers_written_in_two_ways_stay_the_text_that_they_are(tmp_path):
    data = read(tmp_path / "log.csv", "user,item\n7,1.0\n7.0,1.5\n")
    assert contents(data) == [("7", "1.0"), ("7.0", "1.5")]


def test_decimals_are_ids_and_ratings(tmp_path):
    path = tmp_path / "log.parquet"
    users, items = [Decimal(8), Decimal(7)], [Decimal(10) ** 30, Decimal(7)]
    ratings = [Decimal("3.5"), Decimal("1.0")]
    pa_parquet.write_table(pa.table({"user": users, "item": items, "rating": ratings}), path)
    assert contents(read_interactions(path)) == [(8, f"1{'0' * 30}", 3.5), (7, "7", 1.0)]


def test_text_ids_of_parquet_may_be_of_any_text_type(tmp_path):
    path = tmp_path / "log.parquet"
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        pa_parquet.write_table(pa.table({"user": pa.array(["b", "a"], kind), "item": [1, 2]}), path)
        assert contents(read_interactions(path)) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize("unused", ["", " ", "none"])
def test_categories_that_no_row_has_count_for_nothing(tmp_path, unused):
    users = pd.Categorical(["2", "1", "2"], categories=["1", unused, "2"])
    path = tmp_path / "log.parquet"
    pd.DataFrame({"user": users, "item": [1, 2, 3]}).to_parquet(path)
    data = read_interactions(path)
    assert data.user_ids.tolist() == [1, 2]
    assert contents(data) == [(2, 1), (1, 2), (2, 3)]


def test_a_blank_category_that_a_row_has_is_refused(tmp_path):
    users = pd.Categorical(["a", " "])
    path = tmp_path / "log.parquet"
    pd.DataFrame({"user": users, "item": [1, 2]}).to_parquet(path)
    with pytest.raises(DataError, match="row 2: column 'user' holds ' ', which is no id"):
        read_interactions(path)


def test_times_may_have_fractions(tmp_path):
    times = [1700020936.5, 1700020936.25, 1700020936.0]
    for data in both(tmp_path, {"user": [1, 1, 1], "item": [1, 2, 3], "time": times}):
        assert data.times.tolist() == times
    rows = filter_interactions(data, duplicates="last")
    assert rows.items[np.argsort(rows.times)].tolist() == [2, 1, 0]


def test_blocks_with_and_without_fractions_are_one_column(tmp_path, monkeypatch):
    monkeypatch.setattr(interaction_files, "_BLOCK_BYTES", 1000)
    times = [*range(300), 300.5, *range(301, 600)]
    data = read(tmp_path / "log.csv", "user,item,time\n" + "".join(f"1,1,{t}\n" for t in times))
    assert data.times.tolist() == times


def test_missing_ratings_are_no_trouble_until_they_are_asked_for(tmp_path):
    for data in both(tmp_path, {"user": [1, 1, 1], "item": [1, 2, 3], "rating": [5, None, None]}):
        assert data.notes == (
            "2 of 3 ratings are missing, the first in row 2; the ratings are not used, and "
            "min_rating cannot be asked for",
        )
        assert len(filter_interactions(data)) == 3
        with pytest.raises(DataError, match="min_rating=3 needs a rating"):
            filter_interactions(data, min_rating=3)


@pytest.mark.parametrize("kind", [pa.null(), pa.string(), pa.float32(), pa.int8()])
def test_a_column_without_any_rating_is_as_none(tmp_path, kind):
    path = tmp_path / "log.parquet"
    ratings = pa.array([None, None], kind)
    pa_parquet.write_table(pa.table({"user": [1, 2], "item": [1, 2], "rating": ratings}), path)
    data = read_interactions(path)
    assert data.ratings is None
    assert data.notes[0].startswith("2 of 2 ratings are missing")


def test_times_may_need_all_64_bits_or_be_whole_floats(tmp_path):
    data = read(tmp_path / "log.csv", "user,item,time\n1,1,1700000000000000001\n1,2,-3\n")
    assert data.times.tolist() == [1700000000000000001, -3]
    data = read(tmp_path / "log.csv", "user,item,time\n1,1,881250949.0\n1,2,1e3\n")
    assert data.times.tolist() == [881250949, 1000]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_many_blocks_give_the_same_as_one(tmp_path, monkeypatch, kind):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 90, 5000), rng.integers(0, 70, 5000)
    path = tmp_path / f"log.{kind}"
    names = [f"i{item}" for item in items]
    if kind == "csv":
        rows = zip(users.tolist(), names, strict=True)
        path.write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in rows))
    else:
        pa_parquet.write_table(pa.table({"user": users, "item": names}), path)
    monkeypatch.setattr(interaction_files, "_BLOCK_BYTES", 2000)
    monkeypatch.setattr(interaction_files, "_BLOCK_ROWS", 300)
    data = read_interactions(path)
    np.testing.assert_array_equal(data.user_ids[data.users], users)
    assert data.item_ids[data.items].tolist() == names


# columns


def test_columns_are_those_that_are_named(tmp_path):
    text = "who,what,score,user\nx,y,2,z\n"
    data = read(tmp_path / "log.csv", text, "user=who, item=what,rating=score")
    assert contents(data) == [("x", "y", 2.0)]


def test_usual_names_are_found_and_can_be_left_out():
    found = ("userId", "movieId", "rating", "timestamp")
    assert Columns.find(found, None, "f") == Columns("userId", "movieId", "rating", "timestamp")
    assert Columns.find(found, "rating=", "f").rating is None
    recbole = ("user_id:token", "item_id:token")
    assert Columns.find(recbole, None, "f") == Columns(*recbole)


def test_missing_columns_are_told_with_those_found():
    with pytest.raises(DataError, match="no column for item; found: user, thing, rating"):
        Columns.find(("user", "thing", "rating"), None, "f")
    with pytest.raises(DataError, match=r"no column 'when' \(time\); found: user, item"):
        Columns.find(("user", "item"), "time=when", "f")
    with pytest.raises(DataError, match="several columns that could be the user: user, user_id"):
        Columns.find(("user", "user_id", "item"), None, "f")
    with pytest.raises(DataError, match="uses 'user' twice"):
        Columns.find(("user", "item"), "item=user", "f")


@pytest.mark.parametrize("columns", [None, "user=user"])
def test_two_columns_of_one_name_are_refused_where_they_are_needed(tmp_path, columns):
    with pytest.raises(DataError, match="has 2 columns of the name 'user'; give each its own"):
        read(tmp_path / "log.csv", "user,item,user\n1,2,3\n", columns)
    data = read(tmp_path / "log.csv", "user,item,x,x\n1,2,3,4\n", columns)
    assert contents(data) == [(1, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user", "'user' must be ROLE=COLUMN"),
        ("person=a", "'person=a' must be ROLE=COLUMN with a role of user, item, rating, time"),
        ("user=a,user=b", "names user twice"),
    ],
)
def test_a_column_text_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        parse_columns(text)


# faults


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "begins with an empty line"),
        ("user,item\n", "has no rows"),
        ("1,2\n3,4\n", "no column for user and item; found: 1, 2"),
        ("user,item\n1,2\n\n1;3\n", r"line 4: 1 values where the first line has 2, separated by"),
        ("user,item\n1,2,3\n", "line 2: 3 values where the first line has 2"),
        ("user,item\n1,2\n,2\n", "line 3: column 'user' holds '', which is no id"),
        ("user,item\n1, \n", "line 2: column 'item' holds ' ', which is no id"),
        ("user,item,rating\n1,2,3\n1,4,good\n", "line 3: column 'rating' holds 'good'.*no number"),
        ("user,item,rating\n1,2,\n1,3,inf\n", "line 3: column 'rating' holds 'inf'"),
        (
            "user,item,time\n1,2,2020-01-31\n",
            "line 2: column 'time' holds '2020-01-31'.*to_datetime",
        ),
        ("user,item,time\n1,2,5.5\n1,3,noon\n", "line 3: column 'time' holds 'noon'.*no time"),
        ("user,item,time\n1,2,5\n1,3,\n", "line 3: column 'time' holds ''"),
        ("user,item,time\n1,2,1700000000000000001\n1,3,7.5\n", "no time; times must be whole"),
        ("user,item,time\n1,2,5\n1,3,9223372036854775808\n", "line 3: column 'time' holds '92233"),
        ("user,item,time\n1,2,1e300\n", "line 2: column 'time' holds '1e300'"),
        (
            'user,item\n1,"2\n3,4\n',
            "line 2: column 'item' holds '2.*quotation mark .* never closed",
        ),
    ],
)
def test_a_fault_is_told_with_its_line_and_value(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "log.csv", text)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "log.csv") in str(caught.value)


def test_a_fault_far_down_the_file_has_its_own_line(tmp_path, monkeypatch):
    monkeypatch.setattr(interaction_files, "_BLOCK_BYTES", 2000)
    lines = [f"{row},1,{row}" for row in range(3000)]
    lines[2500] = "2500;1;2500"
    with pytest.raises(DataError, match="line 2502: 1 values"):
        read(tmp_path / "log.csv", "user,item,time\n" + "\n".join(lines))
    lines[2500] = "2500,1,soon"
    with pytest.raises(DataError, match="line 2502: column 'time' holds 'soon'"):
        read(tmp_path / "log.csv", "user,item,time\n" + "\n".join(lines))


def test_text_that_is_not_utf_8_is_told_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"line 3: .*not UTF-8"):
        read(tmp_path / "log.csv", "user,item\na,b\nJosé,b\n", encoding="iso-8859-1")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_told_with_how_to_convert_it(tmp_path, encoding):
    with pytest.raises(DataError, match=r"not UTF-8 but looks like UTF-16.*iconv -f UTF-16"):
        read(tmp_path / "log.csv", CSV, encoding=encoding)


def test_what_is_no_such_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_interactions(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_interactions(tmp_path)
    (tmp_path / "table.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"has the ending '\.xlsx'; it must be one of \.csv"):
        read_interactions(tmp_path / "table.xlsx")
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(CSV.encode() * 100)[:-20])
    with pytest.raises(DataError, match=r"bad\.csv\.gz cannot be read"):
        read_interactions(tmp_path / "bad.csv.gz")
    (tmp_path / "bad.parquet").write_text("PAR1 but no more")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_interactions(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"user": [1, None]}, "row 2: column 'user' holds None, which is no id"),
        ({"user": ["", "a"]}, "row 1: column 'user' holds ''"),
        ({"user": [1.5, 2.0]}, "row 1: column 'user' holds 1.5"),
        ({"rating": ["high", "low"]}, "row 1: column 'rating' holds 'high', which is no number"),
        ({"rating": [1.0, np.inf]}, "row 2: column 'rating' holds inf"),
        ({"rating": [True, False]}, "column 'rating' is of type bool; ratings must be numbers"),
        ({"user": [[1], [2]]}, "column 'user' is of type list<.*; ids must be text or whole numb"),
        ({"item": [b"a", b"b"]}, "column 'item' is of type binary; ids must be text"),
        ({"user": [1.5, 2.0]}, "no whole number; ids must be whole numbers or text"),
        ({"user": [1.0, np.nan]}, "row 2: column 'user' holds nan"),
        ({"user": [Decimal("1.5"), Decimal(2)]}, "row 1: column 'user' holds Decimal"),
        ({"time": [3.25, 1e300]}, r"row 2: column 'time' holds 1e\+300, which is no time"),
        ({"time": [3.25, None]}, "row 2: column 'time' holds None"),
        (
            {"time": np.array([3, 2**63], np.uint64)},
            "row 2: column 'time' holds 9223372036854775808",
        ),
        ({"time": [True, False]}, "column 'time' is of type bool; times must be numbers"),
        ({"time": ["2020-01-01", "2020-01-02"]}, "row 1: column 'time' holds '2020-01-01'"),
    ],
)
def test_a_fault_in_parquet_is_told_with_its_row_and_value(tmp_path, column, message):
    path = tmp_path / "log.parquet"
    pa_parquet.write_table(pa.table({"user": [1, 2], "item": [1, 2], **column}), path)
    with pytest.raises(DataError, match=message):
        read_interactions(path)
    pa_parquet.write_table(pa.table({"user": pa.array([], pa.int64()), "item": []}), path)
    with pytest.raises(DataError, match="has no rows"):
        read_interactions(path)
