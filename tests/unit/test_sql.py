"""Definitions to Flink SQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_jobs.definitions import Column, DefinitionError, KafkaSource, Startup, Table, TimeFormat, Watermark
from stream_jobs.problems import Place
from stream_jobs.sql import types
from stream_jobs.sql.ddl import create_table
from stream_jobs.sql.declaration import declare
from stream_jobs.sql.formats import needs_ours
from stream_jobs.sql.options import flink_options
from stream_jobs.sql.source import Edit, Edited, Text, normalized
from tests.definitions import (
    ALL_TABLES,
    DELAYS,
    EXACT_DELAYS,
    FLIGHTS,
    FULL_EXECUTION,
    MESSAGE_TABLES,
    PASSWORD,
    SHORT_EXECUTION,
    TOTALS,
)
from tests.golden import assert_golden


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda t: t.name)
def test_a_table_becomes_create_table(table: Table) -> None:
    assert_golden(f"sql/table_{table.name}.sql", create_table(table, "7").text)


@pytest.mark.parametrize("table", MESSAGE_TABLES, ids=lambda t: t.name)
def test_how_messages_are_read_and_written_is_declared(table: Table) -> None:
    assert_golden(f"sql/messages_{table.name}.sql", declare(table, "7").text)


def test_times_as_numbers_are_not_written() -> None:
    columns = (Column("at", "TIMESTAMP(3)", time=TimeFormat.EPOCH_MILLIS),)
    with pytest.raises(DefinitionError, match="a sink cannot write times as numbers"):
        create_table(replace(DELAYS, columns=columns), "7")


def test_only_a_table_with_a_format_of_ours_needs_it() -> None:
    assert [needs_ours(table) for table in (FLIGHTS, *MESSAGE_TABLES)] == [False, True, True, True, False]


@pytest.mark.parametrize(("name", "execution"), [("full", FULL_EXECUTION), ("short", SHORT_EXECUTION)])
def test_execution_becomes_configuration(name: str, execution: object) -> None:
    options = flink_options("airport", execution)  # type: ignore[arg-type]
    assert_golden(f"sql/options_{name}.txt", "\n".join(f"{k} = {v}" for k, v in sorted(options.items())))


def test_a_secret_stands_in_no_text_and_no_repr() -> None:
    made = create_table(TOTALS, "7")
    assert PASSWORD not in made.text
    assert PASSWORD not in repr(TOTALS)
    assert [s.value for s in made.secrets.values()] == [PASSWORD]
    assert all(placeholder in made.text for placeholder in made.secrets)


def test_transactions_of_two_jobs_are_told_apart() -> None:
    assert create_table(EXACT_DELAYS, "7").text != create_table(EXACT_DELAYS, "8").text


def test_event_time_of_a_number_is_refused_with_the_column_to_write() -> None:
    table = replace(FLIGHTS, columns=(Column("departure", "BIGINT"),), watermark=Watermark("departure"))
    with pytest.raises(DefinitionError, match=r"'flights', column 'departure'.*TO_TIMESTAMP_LTZ\(`departure`, 3\)"):
        create_table(table, "7")


def test_a_key_that_is_no_column_is_refused() -> None:
    with pytest.raises(DefinitionError, match="'totals' has no column 'x'; it has carrier, n"):
        create_table(replace(TOTALS, primary_key=("x",)), "7")


@pytest.mark.parametrize("startup", [Startup.TIMESTAMP, Startup.SPECIFIC])
def test_a_startup_without_its_place_is_refused(startup: Startup) -> None:
    with pytest.raises(DefinitionError, match=f"startup mode {startup.value} needs"):
        create_table(replace(FLIGHTS, connector=KafkaSource("b", "t", "g", startup)), "7")


@pytest.mark.parametrize(
    ("delay_ms", "interval"),
    [
        (5000, "INTERVAL '5' SECOND"),
        (1, "INTERVAL '0 00:00:00.001' DAY TO SECOND(3)"),
        (100_000, "INTERVAL '0 00:01:40.000' DAY TO SECOND(3)"),
        (90_061_500, "INTERVAL '1 01:01:01.500' DAY TO SECOND(3)"),
    ],
)
def test_a_watermark_lags_by_its_delay(delay_ms: int, interval: str) -> None:
    assert f"- {interval}" in create_table(replace(FLIGHTS, watermark=Watermark("departure", delay_ms)), "7").text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("varchar", "STRING"),
        ("Integer", "INT"),
        ("decimal( 10 , 2 )", "DECIMAL(10, 2)"),
        ("array<row<a int, `b c` map<string, bigint>>>", "ARRAY<ROW<`a` INT, `b c` MAP<STRING, BIGINT>>>"),
        ("TIMESTAMP WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ"),
    ],
)
def test_types_are_read_and_written(text: str, written: str) -> None:
    assert str(types.parse(text)) == written


@pytest.mark.parametrize(
    "text", ["", "TEXT", "INT) WITH ('connector'='x'", "DECIMAL(1,2,3)", "ARRAY<", "ROW<a INT", "CHAR"]
)
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="is not a type that Flink knows"):
        types.parse(text)


def test_a_row_without_fields_is_refused() -> None:
    with pytest.raises(DefinitionError, match="column 'a': ROW has no fields"):
        types.of_column(Column("a", "ROW"))


def test_fields_below_an_atomic_type_are_refused() -> None:
    with pytest.raises(DefinitionError, match="column 'a': INT cannot have fields"):
        types.of_column(Column("a", "INT", (Column("b", "INT"),)))


def test_statements_lose_semicolons_and_foreign_line_ends() -> None:
    assert normalized("SELECT 1\r\nFROM t ;\n ; ") == "SELECT 1\nFROM t"


def test_a_place_in_an_edited_text_leads_back_to_the_users_text() -> None:
    text = Text("SELECT a,\n  b FROM f")
    edited = Edited(text, [Edit(0, 0, "INSERT INTO `s` "), Edit(19, 20, "(SELECT * FROM f) AS f")])
    assert edited.text == "INSERT INTO `s` SELECT a,\n  b FROM (SELECT * FROM f) AS f"
    assert edited.original_place((2, 3, 2, 3)) == Place(2, 3, 2, 3)
    assert edited.original_place((1, 24, 1, 24)) == Place(1, 8, 1, 8)
    assert edited.original_place((2, 20, 2, 22)) == Place(2, 10, 2, 10)
    assert edited.original_place((1, 3, 1, 5)) == Place(1, 1, 1, 1)


def test_places_count_characters_and_flink_counts_utf_16_units() -> None:
    text = Text("SELECT '😀', nope FROM f")
    start, end = text.span((1, 14, 1, 17))
    assert text.text[start:end] == "nope"


def test_parentheses_right_around_a_query_belong_to_it() -> None:
    text = Text("FROM ( /* ( */ (SELECT ')' FROM f) ) x")
    start = text.text.index("SELECT")
    end = text.text.index("FROM f") + 6
    assert text.text[slice(*text.with_parentheses(start, end))] == "( /* ( */ (SELECT ')' FROM f) )"
