"""An Avro schema to columns; fastavro parses it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from app.hlink.schemas.described import Budget, Refused, array, mapping, row
from stream_jobs.definitions import Column
from stream_jobs.sql import types
from stream_jobs.sql.types import DataType

_LARGEST_PRECISION = 38
_SCALARS = {
    "boolean": "BOOLEAN",
    "int": "INT",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "STRING",
    "bytes": "BYTES",
    "enum": "STRING",
    "fixed": "BYTES",
}
_LOGICAL: Mapping[tuple[str, Any], str] = {
    ("int", "date"): "DATE",
    ("int", "time-millis"): "TIME(3)",
    ("long", "time-micros"): "TIME(3)",
    ("long", "timestamp-millis"): "TIMESTAMP_LTZ(3)",
    ("long", "timestamp-micros"): "TIMESTAMP_LTZ(6)",
    ("long", "local-timestamp-millis"): "TIMESTAMP(3)",
    ("long", "local-timestamp-micros"): "TIMESTAMP(6)",
    ("string", "uuid"): "STRING",
}


def columns(text: str) -> tuple[Column, ...]:
    """The columns of records that were written with the schema.

    Raises Refused: it is no Avro schema, not of a record, or describes what no table can have.
    """
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("", f"it is not JSON: {error}", "send an Avro schema (.avsc)") from None
    named: dict[str, Any] = {}
    try:
        parsed = parse_schema(schema, named_schemas=named, _write_hint=False)
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused("", f"it is not an Avro schema: {_reason(error)}", "correct it") from None
    except RecursionError:
        raise Refused("", "it is nested too deeply", "flatten it") from None
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise Refused("", "it is not the schema of a record", 'send one schema whose "type" is "record"')
    return _Reader(named).read("", parsed, "", ()).fields


def differences(columns: Sequence[Column], described: Sequence[Column]) -> Iterator[tuple[str, str, str]]:
    """Where a table's columns are not what its schema describes: the column, what is wrong, the remedy.

    Columns are found by their names, and may be fewer. A time's digits and whether it is zoned are the table's to say.
    """
    known = {column.name: types.of_column(column) for column in described}
    for column in columns:
        yield from _differences(column.name, types.of_column(column), known.get(column.name), list(known))


def unfilled(text: str, columns: Sequence[Column]) -> list[str]:
    """The fields of a schema that was found in order, which no column fills and which have no default."""
    filled = {column.name for column in columns}
    return [one["name"] for one in json.loads(text)["fields"] if one["name"] not in filled and "default" not in one]


def _differences(
    path: str, kind: DataType, described: DataType | None, siblings: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    if described is None:
        yield path, "the Avro schema has no such field", f"it has {', '.join(siblings)}"
    elif kind.name == described.name == "ROW":
        known = dict(zip(described.field_names, described.elements, strict=True))
        for name, element in zip(kind.field_names, kind.elements, strict=True):
            yield from _differences(f"{path}.{name}", element, known.get(name), list(known))
    elif kind.name == described.name and kind.elements:
        for one, other in zip(kind.elements, described.elements, strict=True):
            yield from _differences(path, one, other, ())
    elif _essential(kind) != _essential(described):
        yield path, f"the Avro schema has it as {described}, not {kind}", f"make it {described}"


def _essential(kind: DataType) -> tuple[str, tuple[int, ...]]:
    if kind.name in ("TIME", "TIMESTAMP", "TIMESTAMP_LTZ"):
        return kind.name.removesuffix("_LTZ"), ()
    return kind.name, kind.parameters


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else str(error)[:300]


class _Reader:
    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._budget = Budget()

    def read(self, name: str, schema: Any, place: str, above: tuple[str, ...]) -> Column:
        """The column of one place; ``above`` are the records that it is in."""
        self._budget.step(place, len(above))
        if isinstance(schema, list):
            return self.read(name, _only(schema, place), place, above)
        if isinstance(schema, str):
            if schema not in self._named:
                return Column(name, self._scalar({"type": schema}, place))
            schema = self._named[schema]
        if isinstance(schema["type"], dict | list):
            return self.read(name, schema["type"], place, above)
        match schema["type"]:
            case "record" | "error":
                if schema["name"] in above:
                    raise Refused(
                        place,
                        f"record {schema['name']} contains itself, and a table's nesting has an end",
                        "write the messages with a schema that has an end",
                    )
                return row(name, [self._field(one, place, (*above, schema["name"])) for one in schema["fields"]])
            case "array":
                return array(name, self.read("", schema["items"], f"{place}[]", above))
            case "map":
                return mapping(name, self.read("", schema["values"], f"{place}{{}}", above))
            case str() as known if known in self._named:
                return self.read(name, known, place, above)
            case _:
                return Column(name, self._scalar(schema, place))

    def _field(self, field: Mapping[str, Any], place: str, above: tuple[str, ...]) -> Column:
        path = f"{place}.{field['name']}" if place else str(field["name"])
        return replace(self.read(field["name"], field["type"], path, above), comment=str(field.get("doc") or ""))

    def _scalar(self, schema: Mapping[str, Any], place: str) -> str:
        kind, logical = schema["type"], schema.get("logicalType")
        if logical == "decimal" and kind in ("bytes", "fixed"):
            if schema["precision"] > _LARGEST_PRECISION:
                raise Refused(
                    place,
                    f"a decimal of {schema['precision']} digits is more than Flink's {_LARGEST_PRECISION}",
                    "leave the field out of the columns' schema, or write it as a string",
                )
            return f"DECIMAL({schema['precision']}, {schema.get('scale', 0)})"
        if kind == "null":
            raise Refused(place, "it is always null", "leave it out")
        return _LOGICAL.get((kind, logical), _SCALARS[kind])


def _only(branches: list[Any], place: str) -> Any:
    real = [one for one in branches if one != "null" and not (isinstance(one, dict) and one.get("type") == "null")]
    if len(real) == 1:
        return real[0]
    kinds = ", ".join(str(one.get("name", one["type"]) if isinstance(one, dict) else one) for one in real)
    raise Refused(
        place,
        f"it is a union of {kinds or 'nothing but null'}, and a column has one type",
        "write the messages with one type beside null",
    )
