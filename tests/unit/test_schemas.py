"""What schemas and samples describe, as columns: pure, without a service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.hlink.schemas import avro_schema, inference, json_schema
from app.hlink.schemas.described import MOST_COLUMNS, Refused
from stream_jobs.definitions import Column, TimeFormat
from stream_jobs.sql import types

DRAFTS = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]


def json_type(schema: Any, **around: Any) -> str:
    """The type of a message's one column."""
    (column,) = json_schema.columns(json.dumps({"type": "object", "properties": {"a": schema}, **around}))
    return str(types.of_column(column))


def avro_type(kind: Any) -> str:
    (column,) = avro_schema.columns(
        json.dumps({"type": "record", "name": "r", "fields": [{"name": "a", "type": kind}]})
    )
    return str(types.of_column(column))


@pytest.mark.parametrize("draft", DRAFTS)
def test_given_a_draft_when_read_then_references_types_and_formats_mean_the_same(draft: str) -> None:
    definitions = "definitions" if "draft-0" in draft else "$defs"
    point = {"type": "object", "properties": {"x": {"type": "number"}, "at": {"type": "string", "format": "date-time"}}}
    found = json_type({"$ref": f"#/{definitions}/point"}, **{"$schema": draft, definitions: {"point": point}})
    assert found == "ROW<`x` DOUBLE, `at` TIMESTAMP_LTZ(3)>"


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": ["null", "integer"]}, "BIGINT"),
        ({"type": ["integer", "number"]}, "DOUBLE"),
        ({"type": "string", "format": "date"}, "DATE"),
        ({"type": "string", "format": "time"}, "TIME"),
        ({"type": "string", "format": "email"}, "STRING"),
        ({"type": "string", "contentEncoding": "base64"}, "BYTES"),
        ({"enum": ["a", None]}, "STRING"),
        ({"enum": [1, 2]}, "BIGINT"),
        ({"const": True}, "BOOLEAN"),
        ({"oneOf": [{"type": "null"}, {"type": "boolean"}]}, "BOOLEAN"),
        ({"properties": {"b": {"type": "string"}}}, "ROW<`b` STRING>"),
        (
            {"items": {"type": "array", "items": {"properties": {"b": {"type": "string"}}}}},
            "ARRAY<ARRAY<ROW<`b` STRING>>>",
        ),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "MAP<STRING, BIGINT>"),
        ({"type": "object", "patternProperties": {"^x": {"type": "integer"}}}, "MAP<STRING, BIGINT>"),
        (
            {"allOf": [{"properties": {"b": {"type": "number"}}}, {"properties": {"b": {"type": "integer"}}}]},
            "ROW<`b` BIGINT>",
        ),
    ],
)
def test_given_a_json_schema_when_read_then_the_type_is_exact(schema: Any, kind: str) -> None:
    assert json_type(schema) == kind


@pytest.mark.parametrize(
    ("schema", "place", "message"),
    [
        ({"type": ["string", "integer"]}, "#/properties/a", "it may be integer or string"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "#/properties/a/anyOf", "it has 2 forms"),
        ({"enum": ["a", 1]}, "#/properties/a", "it may be integer or string"),
        ({"type": "object"}, "#/properties/a", "it is an object without properties"),
        ({"type": "array"}, "#/properties/a", "it does not say what its elements are"),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, "#/properties/a", "a type each by their position"),
        ({"$ref": "#/$defs/none"}, "#/properties/a", "'$defs'"),
        ({"$ref": "other.json#/a"}, "#/properties/a", "is in another file"),
        ({"$ref": "#"}, "#/properties/a", "contains itself"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "#/properties/a", "at once"),
        ({}, "#/properties/a", "it has no type"),
        (True, "#/properties/a", "it allows anything"),
        ({"type": "null"}, "#/properties/a", "it has no type but null"),
    ],
)
def test_given_what_no_column_can_be_when_read_then_place_reason_and_remedy_are_told(
    schema: Any, place: str, message: str
) -> None:
    with pytest.raises(Refused) as refused:
        json_type(schema)
    assert refused.value.problem.field == place
    assert message in refused.value.problem.message
    assert refused.value.problem.remedy


def test_given_a_schema_that_grows_with_each_reference_when_read_then_it_is_refused_early() -> None:
    level = {f"d{n}": {"properties": {k: {"$ref": f"#/$defs/d{n + 1}"} for k in "abcd"}} for n in range(12)}
    with pytest.raises(Refused, match=f"more than {MOST_COLUMNS} columns"):
        json_type({"$ref": "#/$defs/d0"}, **{"$defs": {**level, "d12": {"type": "string"}}})


@pytest.mark.parametrize(
    ("kind", "flink"),
    [
        (["null", "int"], "INT"),
        (["long", "null"], "BIGINT"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "DECIMAL(9, 2)"),
        ({"type": "fixed", "name": "f", "size": 8, "logicalType": "decimal", "precision": 9}, "DECIMAL(9, 0)"),
        ({"type": "int", "logicalType": "date"}, "DATE"),
        ({"type": "int", "logicalType": "time-millis"}, "TIME(3)"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "TIMESTAMP_LTZ(3)"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "TIMESTAMP_LTZ(6)"),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, "TIMESTAMP(3)"),
        ({"type": "string", "logicalType": "uuid"}, "STRING"),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, "STRING"),
        ({"type": "fixed", "name": "f", "size": 8}, "BYTES"),
        ({"type": "map", "values": ["null", "float"]}, "MAP<STRING, FLOAT>"),
        (
            {"type": "array", "items": {"type": "record", "name": "i", "fields": [{"name": "b", "type": "boolean"}]}},
            "ARRAY<ROW<`b` BOOLEAN>>",
        ),
    ],
)
def test_given_an_avro_schema_when_read_then_the_type_is_exact(kind: Any, flink: str) -> None:
    assert avro_type(kind) == flink


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (["null", "r"], "record r contains itself"),
        (["int", "string"], "it is a union of int, string"),
        (["null"], "it is a union of nothing but null"),
        ("null", "it is always null"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 39}, "39 digits"),
    ],
)
def test_given_what_avro_can_and_no_column_when_read_then_it_is_refused(kind: Any, message: str) -> None:
    with pytest.raises(Refused) as refused:
        avro_type(kind)
    assert (refused.value.problem.field, message in refused.value.problem.message) == ("a", True)


def inferred(*values: Any, name: str = "a") -> tuple[Column, inference.Seen]:
    """The column of a field that has these values, and what was seen of it."""
    (column,), seen = inference.infer([{name: value} for value in values])
    return column, seen[name]


@pytest.mark.parametrize(
    ("values", "kind", "time"),
    [
        ([1, None], "BIGINT", None),
        ([1, 2.5], "DOUBLE", None),
        ([2**70], "DECIMAL(38, 0)", None),
        ([True], "BOOLEAN", None),
        (["2026-01-31"], "DATE", None),
        (["12:30:00"], "TIME", None),
        (["2026-01-31T00:00:00Z", "2026-01-31T00:00:00.5+01:00"], "TIMESTAMP_LTZ(3)", TimeFormat.RFC_3339),
        (["2026-01-31 00:00:00"], "TIMESTAMP(3)", TimeFormat.SQL),
        (["2026-01-31T00:00:00", "2026-01-31 00:00:00"], "TIMESTAMP(3)", TimeFormat.AUTO),
        (["2026-01-31T00:00:00Z", 1769817600], "TIMESTAMP_LTZ(3)", TimeFormat.AUTO),
        ([1769817600000], "BIGINT", None),
        ([["2026-01-31T00:00:00Z"], []], "ARRAY<TIMESTAMP_LTZ(3)>", TimeFormat.RFC_3339),
        ([None], "STRING", None),
        (["2026-01-31", "soon"], "STRING", None),
    ],
)
def test_given_values_when_inferred_then_type_and_spelling_are_theirs(
    values: list[Any], kind: str, time: TimeFormat | None
) -> None:
    column, _ = inferred(*values)
    assert (str(types.of_column(column)), column.time) == (kind, time)


@pytest.mark.parametrize("name", ["ts", "createdAt", "event_time_ms", "since"])
def test_given_a_name_that_says_time_when_numbers_can_be_times_then_they_are(name: str) -> None:
    column, _ = inferred(1769817600000, name=name)
    assert (column.type, column.time) == ("TIMESTAMP_LTZ(3)", TimeFormat.EPOCH_MILLIS)


def test_given_a_field_that_comes_late_and_is_null_when_inferred_then_the_counts_add_up() -> None:
    _, seen = inference.infer([{"b": 1}, {"a": None, "b": 1}, {"a": {"c": 1}}, {"a": {}}])
    assert (seen["a"].present, seen["a"].nulls, seen["a"].missing) == (2, 1, 1)
    assert (seen["a.c"].present, seen["a.c"].missing) == (1, 1)
    assert (seen["b"].present, seen["b"].missing) == (2, 2)


def test_given_times_finer_than_milliseconds_when_inferred_then_that_is_told() -> None:
    _, seen = inferred("2026-01-31T00:00:00.123456Z")
    assert "6 digits after the second" in seen.conflicts[0]
