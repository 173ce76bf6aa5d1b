"""CSV files of data sets: how they are written is told from a sample, and any page of them is read at once."""

from __future__ import annotations

import csv
import io
from functools import reduce
from operator import or_
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.visual.choices import DataType
from app.visual.datasets import csv_rows
from app.visual.datasets.column_types import ColumnKinds, Kind, kind_of, type_of
from app.visual.datasets.contents import READABLE, Contents, look_into

CITIES = "name,population,mayor\nZürich,434335,true\nGenève,203856,false\nKöln,1084831,true\n"
CHINESE = "城市,人口,日期\n北京市,21893095,2020-11-01\n上海市,24870895,2020-11-01\n深圳市,17560061,2020-11-01\n"


def found_in(folder: Path, content: bytes) -> Contents:
    (folder / "data.csv").write_bytes(content)
    return look_into(folder / "data.csv", "data.csv", DataType.CSV, folder / "rows", lambda: None)


def page(folder: Path, contents: Contents, first: int, number: int) -> list[list[str]]:
    """Rows as the index finds them; the header is the row 0."""
    path = folder / (READABLE if contents.converted else "data.csv")
    return csv_rows.read_page(path, folder / "rows", contents.read_as, contents.delimiter, first, number)


def all_rows(folder: Path, contents: Contents) -> list[list[str]]:
    return page(folder, contents, 0, (contents.rows or 0) + contents.header)


def plain(text: str, delimiter: str = ",") -> list[list[str]]:
    """What Python's own reader makes of it."""
    return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "_BLOCK", 64)
    monkeypatch.setattr(csv_rows, "STEP", 3)


@pytest.mark.parametrize(
    ("text", "codec", "told"),
    [
        (CITIES, "utf-8", "utf-8"),
        (CITIES, "utf-8-sig", "utf-8-sig"),
        (CITIES, "utf-16", "utf-16"),
        (CITIES, "utf-16-le", "utf-16-le"),
        (CITIES, "utf-16-be", "utf-16-be"),
        (CITIES, "utf-32", "utf-32"),
        (CITIES, "latin-1", "latin-1"),
        (CHINESE, "utf-8", "utf-8"),
        (CHINESE, "gb18030", "gb18030"),
        (CHINESE, "gbk", "gb18030"),
        ("name,word\na,élan\nb,été\nc,Ärmel\n", "latin-1", "latin-1"),
    ],
)
def test_given_an_encoding_then_it_is_told_and_the_rows_are_as_they_were_written(
    tmp_path: Path, text: str, codec: str, told: str
) -> None:
    contents = found_in(tmp_path, text.encode(codec))
    assert contents.encoding == told
    assert all_rows(tmp_path, contents) == plain(text)
    assert [column.name for column in contents.columns] == plain(text)[0]


@pytest.mark.parametrize("codec", ["utf-8", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_given_a_delimiter_then_it_is_told(tmp_path: Path, delimiter: str, codec: str) -> None:
    text = CHINESE.replace(",", delimiter) + delimiter.join(["亅亅亅", "1", "2020-11-02"]) + "\n"
    contents = found_in(tmp_path, text.encode(codec))
    assert contents.delimiter == delimiter
    assert all_rows(tmp_path, contents) == plain(text, delimiter)
    assert not contents.problems


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("1,5;2,5;3,5\n4,5;5,5;6,5\n", ";"),
        ('a,b\n"x;y;z",1\n"p;q;r",2\n', ","),
        ("only\none\ncolumn\n", ","),
        ("a\tb, c\n1\t2, 3\n4\t5\n", "\t"),
    ],
)
def test_given_other_delimiters_among_the_text_then_the_one_that_fits_is_told(
    tmp_path: Path, text: str, delimiter: str
) -> None:
    assert found_in(tmp_path, text.encode()).delimiter == delimiter


@pytest.mark.parametrize(
    ("text", "header", "names"),
    [
        ("a,b\n1,2\n", True, ["a", "b"]),
        ("1,2\n3,4\n", False, ["column1", "column2"]),
        (",a\n0,x\n1,y\n", True, ["Unnamed: 0", "a"]),
        ("a,a,b\n1,2,3\n", True, ["a", "a.1", "b"]),
        ("x,x\ny,y\nx,y\n", False, ["column1", "column2"]),
        ("2020-01-01,a\n2020-01-02,b\n", False, ["column1", "column2"]),
    ],
)
def test_given_a_first_row_then_it_is_told_whether_it_has_the_names(
    tmp_path: Path, text: str, header: bool, names: list[str]
) -> None:
    contents = found_in(tmp_path, text.encode())
    assert (contents.header, [column.name for column in contents.columns]) == (header, names)


def test_given_values_then_the_types_of_their_columns_are_told(tmp_path: Path) -> None:
    text = (
        "whole,number,yes,day,moment,word,mixed,empty\n"
        "1,1.5,true,2020-01-31,2020-01-31 08:00:00,a,1,\n"
        "-2,NA,False,2020/2/1,2020-01-31T08:00:00Z,b,x,\n"
        ",1e3,true,,2020-01-31T08:00:00.5+08:00,c,2,NaN\n"
    )
    types = [column.type for column in found_in(tmp_path, text.encode()).columns]
    assert types == ["int", "float", "bool", "date", "date", "text", "text", "text"]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ("0 +1 -12 007 99999999999999999999", Kind.INTEGER),
        ("1. .5 1.5 -1e3 1E-05 +1.5e+10 inf -Infinity INF", Kind.NUMBER),
        ("true FALSE True", Kind.BOOLEAN),
        (
            "2020-01-31 2020/1/31 2020-10-9 2020-01-31T8:00 2020-01-31T08:00:00.123456+08:00 2020-01-31T08:00Z",
            Kind.DATE,
        ),
        ("na N/A nan NULL None #N/A <NA>", Kind.MISSING),
        (". + e5 1e 1e+ 1.5.5 2020-13-01 2020-00-10 2020-01-32 2020-01/31 20-01-01 truely nope 0x10 1,5 ５", Kind.TEXT),
    ],
)
def test_given_a_value_then_it_is_told_what_it_is(cells: str, kind: Kind) -> None:
    for cell in cells.split():
        assert (cell, kind_of(cell)) == (cell, kind)
        assert kind_of(f"  {cell} ") is kind
    assert kind_of("2020-01-31 08:00:00 Z") is kind_of("2020-01-31 08:00:00 +0800") is Kind.DATE


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_given_values_of_another_type_after_many_rows_then_the_first_of_them_is_named(
    tmp_path: Path, line_end: str
) -> None:
    rows = [["a", "b", "c", "d", "e", "f"]] + [[str(n), "", "true", "1", "2020-01-01", "x"] for n in range(200_000)]
    rows[150_001][0] = "1.5"
    rows[100_001][1:3] = ["7", '"a, ""b"""']
    rows[199_999][3], rows[200_000][3] = "1e5", "x" * 50
    rows[120_000][4], rows[120_001][4] = "5", "6"
    columns = found_in(tmp_path, line_end.join(map(",".join, rows)).encode()).columns
    assert [(column.type, column.exception) for column in columns] == [
        ("float", ""),
        ("int", ""),
        ("text", "row 100001 has 'a, \"b\"', the rows before it bool"),
        ("text", f"row 200000 has '{'x' * 40}...', the rows before it float"),
        ("text", "row 120000 has '5', the rows before it date"),
        ("text", ""),
    ]


_CELLS = st.sampled_from(
    ["", " ", "1", "-2.5", "1e5", "true", "FALSE", "nan", "2020-01-01", "2020-01-01 08:00", "x", "é", '"1"', '"a,b"',
     '"2\n3"', '" 7 "', '""', '"say ""1"""', "9" * 100, " " * 70 + "5", '5"', "1;2"]
)  # fmt: skip


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(_CELLS, min_size=2, max_size=3), min_size=1, max_size=40),
    header=st.booleans(),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_given_any_values_then_columns_have_the_types_of_all_of_them(
    tmp_path: Path, rows: list[list[str]], header: bool, line_end: str
) -> None:
    content = line_end.join(map(",".join, rows))
    (tmp_path / "data.csv").write_bytes(content.encode())
    kinds = ColumnKinds(3, ",", "utf-8", header=header)
    csv_rows.write_index(tmp_path / "data.csv", tmp_path / "rows", 0, ",", 3, lambda: None, kinds)
    whole = [row for place, row in enumerate(plain(content)) if len(row) == 3 and not (header and place == 0)]
    expected = [type_of(reduce(or_, (kind_of(row[place]) for row in whole), Kind.MISSING)) for place in range(3)]
    assert [column.type for column in kinds.columns("abc")] == expected


def test_given_rows_of_another_width_then_their_lines_are_named_and_the_rows_are_there(tmp_path: Path) -> None:
    text = 'a,b,c\n1,"2\n2",3\n4,5\n\n6,7,8\n9,10,11,12\n'
    contents = found_in(tmp_path, text.encode())
    assert contents.problems == [
        "line 4 has 2 fields, where the first row has 3",
        "line 7 has 4 fields, where the first row has 3",
    ]
    assert (contents.rows, contents.all_problems) == (4, 2)
    assert all_rows(tmp_path, contents) == plain(text)


def test_given_many_broken_rows_then_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    contents = found_in(tmp_path, b"a,b\n" + b"1,2\n3\n" * 1000)
    assert (len(contents.problems), contents.all_problems, contents.rows) == (20, 1000, 2000)
    assert contents.problems[1].startswith("line 5 has 1 fields")


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n" * 40,
        "a,b\r\n" * 40 + "c,d",
        "a,b\r1,2\r3,4\r",
        'a,b\n"1\n\n\n2","x\r\ny"\n' * 20,
        'a,b\n"say ""yes""",2\n' * 20,
        'a,b\n5" pipe,6" pipe\n"x"y"z,1\n' * 20,
        'a,b\n1,2\n"never closed,3\n4,5\n',
        "a,b\n\n\n\r\n1,2\n\r\n",
        f'a,b\n"{"long " * 100}\n",2\n3,4\n',
        '"",""\n"",""\n',
    ],
)
def test_given_quotes_and_line_ends_then_the_rows_are_those_of_pythons_reader(
    tmp_path: Path, small_blocks: None, content: str
) -> None:
    contents = found_in(tmp_path, content.encode())
    assert all_rows(tmp_path, contents) == plain(content, contents.delimiter)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "x", " ", "é", "1234567890"]), max_size=80),
    first=st.integers(0, 30),
    number=st.integers(1, 30),
)
def test_given_any_text_then_a_page_anywhere_is_what_pythons_reader_has_there(
    tmp_path: Path, text: list[str], first: int, number: int
) -> None:
    content = "a,b\n1,2\n" + "".join(text)
    expected = plain(content)
    (tmp_path / "data.csv").write_bytes(content.encode())
    rows = csv_rows.write_index(tmp_path / "data.csv", tmp_path / "rows", 0, ",", 2, lambda: None)
    assert rows.number == len(expected)
    assert rows.all_broken == sum(len(row) != 2 for row in expected)
    found = csv_rows.read_page(tmp_path / "data.csv", tmp_path / "rows", "utf-8", ",", first, number)
    assert found == expected[first : first + number]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "is no text"),
        (b"\n\n", "has no row"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], "is not utf-16 to its end"),
    ],
)
def test_given_what_is_no_table_then_it_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        found_in(tmp_path, content)


def test_given_a_row_without_an_end_then_its_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    monkeypatch.setattr(csv_rows, "LONGEST_ROW", 512)
    with pytest.raises(InvalidInput, match=r"file, line 3: the row that begins there has more than"):
        found_in(tmp_path, b'a,b\n1,2\n"' + b"x,y\n" * 1000)


def test_given_a_page_of_too_much_text_then_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = found_in(tmp_path, b"a,b\n" + b"x" * 1000 + b",1\n")
    monkeypatch.setattr(csv_rows, "LARGEST_PAGE", 500)
    with pytest.raises(InvalidInput, match="rows this long are not shown"):
        page(tmp_path, contents, 1, 1)
