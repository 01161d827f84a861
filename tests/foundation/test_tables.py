import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.tables import (
    DataTable,
    column_text,
    is_table,
    number_text,
    read_table,
)


def written(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def message(path: object) -> str:
    with pytest.raises(InputError) as error:
        read_table(path)
    return str(error.value)


def values(table: DataTable) -> dict[str, list[object]]:
    """Columns as lists, with None for every missing value."""
    return {
        name: [
            None if gone else value for value, gone in zip(column, table.missing(name), strict=True)
        ]
        for name, column in table.columns.items()
    }


CONTENT = "age,vote,ok,maybe\n41,yes,true,TRUE\n?,NA,false,\n 3.5 , no ,True,false\n"
EXPECTED = {
    "age": [41.0, None, 3.5],
    "vote": ["yes", None, "no"],
    "ok": [True, False, True],
    "maybe": ["true", None, "false"],
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.csv", CONTENT.encode()),
        ("data.csv", b"\xef\xbb\xbf" + CONTENT.encode()),
        ("data.csv", CONTENT.replace(",", ";").encode()),
        ("data.csv", CONTENT.replace("\n", "\r\n").encode().rstrip()),
        ("data.tsv", CONTENT.replace(",", "\t").encode()),
        # Without the clock: the bytes name the test, for every worker alike.
        ("data.csv.gz", gzip.compress(CONTENT.encode(), mtime=0)),
    ],
)
def test_every_spelling_of_a_csv_file_gives_the_same_table(
    tmp_path: Path, name: str, content: bytes
) -> None:
    table = read_table(written(tmp_path, content, name))
    assert values(table) == EXPECTED
    assert [table.kind(column) for column in table.names] == [
        "numeric",
        "categorical",
        "boolean",
        "categorical",
    ]


@pytest.mark.parametrize("marker", ["", "NA", "N/A", "NaN", "nan", "null", "?", " ? "])
def test_every_missing_marker_is_missing_in_numbers_and_in_text(
    tmp_path: Path, marker: str
) -> None:
    table = read_table(written(tmp_path, f"number,word\n1,a\n{marker},{marker}\n"))
    assert values(table) == {"number": [1.0, None], "word": ["a", None]}


def test_a_column_without_values_is_kept_as_a_numeric_column_of_missing(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "a,b\n,1\nNA,2\n"))
    assert table.kind("a") == "numeric"
    assert table.missing("a").all()


def test_a_column_gets_its_type_from_all_its_rows(tmp_path: Path) -> None:
    lines = ["a,b"] + ["1,x"] * 200_000 + ["1.5,x", "word,x"]
    table = read_table(written(tmp_path, "\n".join(lines)))
    assert table.kind("a") == "categorical"
    assert table.columns["a"][-2:].tolist() == ["1.5", "word"]


def test_names_stand_for_the_header_that_a_file_lacks(tmp_path: Path) -> None:
    path = written(tmp_path, "1, x\n2, y\n")
    assert values(read_table(path, names=["n", "w"])) == {"n": [1.0, 2.0], "w": ["x", "y"]}
    with pytest.raises(InputError, match=r"data\.csv: line 1: expected 3 fields, found 2"):
        read_table(path, names=["n", "w", "z"])


def test_a_column_left_out_may_be_of_any_type(tmp_path: Path) -> None:
    path = written(tmp_path, "a,day\n1,2020-01-01\n")
    table = read_table(path, without=["day"])
    assert values(table) == {"a": [1.0]}
    with pytest.raises(InputError, match="no column 'month'; it has a, day"):
        read_table(pa.table({"a": [1], "day": [2]}), without=["month"])
    assert read_table(read_table({"a": [1], "b": [2]}), without=["a"]).names == ("b",)


def test_dates_in_a_csv_file_are_words(tmp_path: Path) -> None:
    path = written(tmp_path, "day,at\n2020-01-01,12:30\n,13:00\n")
    table = read_table(path)
    assert table.columns["day"].tolist() == ["2020-01-01", None]
    assert [table.kind(name) for name in table.names] == ["categorical", "categorical"]


def test_counted_columns_are_names(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "0,1,2\n5,6,7\n")).names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the file is empty; expected a line of column names and rows"),
        ("\n \n", "the file is empty; expected a line of column names and rows"),
        ("a,b\n", "the table has no rows"),
        ("a,b", "the table has no rows"),
        ("5.1,3.5\n4.9,3.0\n", "line 1: expected column names, found numbers (5.1, ...)"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 fields, found 1"),
        ("a,b\n\n1,2,3\n", "line 3: expected 2 fields, found 3"),
        ('a,b\n"x\ny",2\n3\n', "line 4: expected 2 fields, found 1"),
        ("a,b,a\n1,2,3\n", "the column name 'a' occurs more than once"),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        (b"a,b\n1,caf\xe9\n", "line 2: expected text in UTF-8, found the byte 0xe9"),
        (b"PK\x03\x04\x00\x00", "expected a CSV file in UTF-8, found binary data"),
        ("a,b\n1,2\ninf,3\n", "column 'a': row 2 is infinite; expected finite numbers"),
    ],
)
def test_a_bad_csv_file_gives_one_line_that_names_it(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    path = written(tmp_path, content)
    said = message(path)
    assert said.startswith(f"{path}: {reason}")
    assert "\n" not in said


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert message(tmp_path / "no.csv") == f"{tmp_path / 'no.csv'}: no such file"
    expected = f"{tmp_path}: expected a CSV or Parquet file, found a folder"
    assert message(tmp_path) == expected


def test_a_broken_gzip_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(CONTENT.encode())[:-9], "data.csv.gz")
    assert message(path).startswith(f"{path}: not a readable gzip file")


def arrow_table() -> pa.Table:
    return pa.table(
        {
            "age": pa.array([41, None, 3], pa.int16()),
            "vote": pa.array(["yes", None, "no"]).dictionary_encode(),
            "code": pa.array(["1", "2", None], pa.large_string()),
            "ok": pa.array([True, False, True]),
            "maybe": pa.array([True, None, False]),
            "nothing": pa.nulls(3),
        }
    )


def test_parquet_files_and_data_frames_give_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(arrow_table(), path)
    expected = {
        "age": [41.0, None, 3.0],
        "vote": ["yes", None, "no"],
        "code": ["1", "2", None],
        "ok": [True, False, True],
        "maybe": ["true", None, "false"],
        "nothing": [None, None, None],
    }
    assert values(read_table(path)) == expected
    assert values(read_table(arrow_table())) == expected
    assert read_table(path).source == str(path)
    assert read_table(arrow_table()).source == "DataFrame"


def test_a_parquet_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    pq.write_table(arrow_table(), path)
    assert read_table(path).names == tuple(arrow_table().column_names)


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(arrow_table(), path)
    written(tmp_path, path.read_bytes()[:-20], path.name)
    assert message(path).startswith(f"{path}: not a readable Parquet file")
    written(tmp_path, "a,b\n1,2\n", path.name)
    assert message(path).startswith(f"{path}: not a readable Parquet file")


@pytest.mark.parametrize(
    ("array", "type"),
    [
        (pa.array([[1], [2]]), "list<"),
        (pa.array([0, 1], pa.timestamp("us")), "timestamp[us]"),
        (pa.array([b"a", b"b"]), "binary"),
    ],
)
def test_an_unsupported_column_type_is_named(tmp_path: Path, array: pa.Array, type: str) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"x": array}), path)
    reason = f"column 'x': expected numbers, booleans or text, found {type}"
    assert message(path).startswith(f"{path}: {reason}")
    assert message(pa.table({"x": array})).startswith(f"DataFrame: {reason}")


def test_mappings_and_arrays_become_tables() -> None:
    mapping = {"n": [1, None], "w": ["a", float("nan")], "b": np.array([True, False])}
    assert values(read_table(mapping)) == {"n": [1.0, None], "w": ["a", None], "b": [True, False]}
    assert values(read_table(np.array([[1, 0], [2, 1]]))) == {"x0": [1.0, 2.0], "x1": [0.0, 1.0]}
    assert read_table(np.ones((2, 2), bool), names=["p", "q"]).kind("q") == "boolean"
    assert values(read_table([[1, "a"], [2, None]])) == {"x0": [1.0, 2.0], "x1": ["a", None]}
    assert values(read_table({"m": [1, 2.5, "a", True]})) == {"m": ["1", "2.5", "a", "true"]}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (5, "table: expected a file, a DataFrame, a mapping of columns or a two-dimensional array"),
        ([1, 2], "array: expected two dimensions (rows, columns), got 1"),
        (np.zeros((0, 3)), "array: expected rows and columns, got the shape (0, 3)"),
        ({}, "mapping of columns: the table has no columns"),
        ({"a": []}, "mapping of columns: the table has no rows"),
        ({"a": 3}, "mapping of columns: column 'a': expected a vector, got int"),
        ({"a": [1], "b": [1, 2]}, "mapping of columns: column 'b': expected 1 values"),
        ({"a": [1j]}, "mapping of columns: column 'a': expected numbers, booleans or text"),
        (pa.table({}), "DataFrame: the table has no columns"),
        (pa.table({"a": pa.array([], pa.int8())}), "DataFrame: the table has no rows"),
        (pa.table([[1], [2]], names=["a", "a"]), "DataFrame: not readable as a table (Expected"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(source: object, said: str) -> None:
    assert message(source).startswith(said)


def test_a_column_of_any_kind_reads_as_text() -> None:
    table = read_table({"n": [1.0, 2.5, None], "b": [True, False, True], "w": ["1.0", None, "x"]})
    assert column_text(table, "n").tolist() == ["1", "2.5", None]
    assert column_text(table, "b").tolist() == ["true", "false", "true"]
    assert column_text(table, "w").tolist() == ["1.0", None, "x"]


def test_only_what_has_columns_of_its_own_is_a_table(tmp_path: Path) -> None:
    for source in (tmp_path / "t.csv", "t.csv", {"a": [1]}, read_table({"a": [1]}), arrow_table()):
        assert is_table(source)
    for source in (np.ones((2, 2)), [[1, 2]], ((1, 2),), 5, None):
        assert not is_table(source)


def test_columns_and_rows_are_chosen_by_name_and_position() -> None:
    table = read_table({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [True, False, True]})
    assert table.select(["c", "a"]).names == ("c", "a")
    assert table.drop(["b"]).names == ("a", "c")
    assert table.rows(np.array([2, 0])).columns["b"].tolist() == ["z", "x"]
    assert table.rows(table.columns["c"]).n_rows == 2
    for wrong in (table.column, table.kind, lambda name: table.drop([name])):
        with pytest.raises(InputError) as error:
            wrong("d")
        assert str(error.value) == "mapping of columns: no column 'd'; it has a, b, c"


@settings(max_examples=60, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_in_text_gives_the_number_back(number: float) -> None:
    text = number_text(number)
    assert float(text) == number
    assert not text.endswith(".0")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(categories=["L"]), min_size=3, max_size=5),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_table_comes_back_from_csv_and_parquet(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, str]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    numbers = [number for number, _ in rows]
    # No word on its own: "-inf" would be a number.
    words = [f"-{word}-" for _, word in rows]
    table = pa.table({"number": numbers, "word": words})
    csv.write_csv(table, folder / "t.csv")
    pq.write_table(table, folder / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        back = read_table(folder / name)
        assert back.columns["number"].tolist() == numbers
        assert back.columns["word"].tolist() == words
