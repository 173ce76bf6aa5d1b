"""A topic's messages as rows, read as the table declares them: JSON, or Avro with or without a registry."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import fastavro

from app.hlink.extracts.orders import Leaf
from app.hlink.extracts.rows import Refused, cell
from stream_jobs.definitions import AvroFormat, Format, Table, TimeFormat
from stream_jobs.sql import types
from stream_jobs.sql.types import DataType

_LONGEST_SECONDS = 100_000_000_000
"""Numbers from here on are milliseconds where both may come."""
_FRAME = 5
"""Bytes before a message that is framed for a registry: a zero, and the number of its schema."""
_TIMEOUT_S = 10.0


class Unreadable(Exception):
    """A message is not what the table declares."""


Reader = Callable[[bytes], Sequence[Mapping[str, Any]]]
"""A message to its objects. Raises :class:`Unreadable`."""


def reader_of(table: Table, form: Format) -> Reader:
    """What reads the table's messages."""
    if not isinstance(form, AvroFormat):
        return _json
    if form.registry_url:
        return _Registry(form.registry_url).read
    schema = fastavro.parse_schema(json.loads(form.schema) if form.schema else schema_of(table))
    return lambda message: _avro(schema, message)


def cells(leaves: Sequence[Leaf], found: Mapping[str, Any]) -> list[str]:
    """The cells of an object's row."""
    return [cell(_value(leaf, found)) for leaf in leaves]


def _value(leaf: Leaf, found: Mapping[str, Any]) -> Any:
    value: Any = found
    for name in leaf.path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    if leaf.type.name in ("TIMESTAMP", "TIMESTAMP_LTZ") and isinstance(value, int | float):
        return _moment(leaf, value)
    return value


def _moment(leaf: Leaf, value: float) -> Any:
    """A time that is a number; a plain TIMESTAMP has no zone."""
    seconds = leaf.time is TimeFormat.EPOCH_SECONDS or (
        leaf.time is not TimeFormat.EPOCH_MILLIS and abs(value) < _LONGEST_SECONDS
    )
    try:
        moment = datetime.fromtimestamp(value if seconds else value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise Unreadable(f"{leaf.name} is {value}, which is no time") from None
    return moment if leaf.type.name == "TIMESTAMP_LTZ" else moment.replace(tzinfo=None)


def _json(message: bytes) -> Sequence[Mapping[str, Any]]:
    try:
        found = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON: {error}") from None
    several = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) for one in several):
        raise Unreadable("it is no JSON object")
    return several


def _avro(schema: Any, message: bytes) -> Sequence[Mapping[str, Any]]:
    stream = io.BytesIO(message)
    try:
        found = fastavro.schemaless_reader(stream, schema, None)
    # Whatever the bytes of another schema come to: the library does not say what it raises.
    except Exception as error:  # noqa: BLE001
        raise Unreadable(f"it is not Avro of the table's schema: {type(error).__name__}") from None
    if stream.read(1):
        raise Unreadable("it is longer than Avro of the table's schema")
    if not isinstance(found, dict):
        raise Unreadable("it is no record")
    return [found]


class _Registry:
    """Reads messages that name their schema by its number in a registry."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._schemas: dict[int, Any] = {}

    def read(self, message: bytes) -> Sequence[Mapping[str, Any]]:
        """A framed message. Raises :class:`Refused` where the registry does not help."""
        if len(message) < _FRAME or message[0]:
            raise Unreadable("it does not begin with the number of a schema in the registry")
        number = int.from_bytes(message[1:_FRAME], "big")
        if number not in self._schemas:
            self._schemas[number] = self._ask(number)
        return _avro(self._schemas[number], message[_FRAME:])

    def _ask(self, number: int) -> Any:
        import httpx  # takes long, and few need it

        try:
            answer = httpx.get(f"{self._url}/schemas/ids/{number}", timeout=_TIMEOUT_S)
            answer.raise_for_status()
            return fastavro.parse_schema(json.loads(answer.json()["schema"]))
        except httpx.HTTPStatusError as error:
            raise Refused(f"the schema registry answers {error.response.status_code} to schema {number}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Refused(
                f"the schema registry does not answer ({type(error).__name__}): correct registry_url"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(f"schema {number} of the registry cannot be read: {type(error).__name__}") from None


def schema_of(table: Table) -> dict[str, Any]:
    """The Avro schema that Flink makes of a table's columns where it has none of its own."""
    fields = []
    for column in table.columns:
        if not column.expression and not column.metadata:
            known = _schema(types.of_column(column), f"record_{column.name}")
            never_null = column.not_null or column.name in table.primary_key
            fields.append({"name": column.name, "type": known if never_null else ["null", known]})
    return {"type": "record", "name": "record", "fields": fields}


_AVRO: Mapping[str, str] = {
    "BOOLEAN": "boolean",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT"), "int"),
    "BIGINT": "long",
    "FLOAT": "float",
    "DOUBLE": "double",
    **dict.fromkeys(("CHAR", "VARCHAR", "STRING"), "string"),
    **dict.fromkeys(("BINARY", "VARBINARY", "BYTES"), "bytes"),
}
_MICROSECONDS = 3
"""Times with more digits than these have microseconds."""


def _schema(kind: DataType, name: str) -> Any:
    match kind.name:
        case "ROW":
            parts = zip(kind.field_names, kind.elements, strict=True)
            fields = [{"name": one, "type": ["null", _schema(part, f"{name}_{one}")]} for one, part in parts]
            return {"type": "record", "name": name, "fields": fields}
        case "ARRAY":
            return {"type": "array", "items": ["null", _schema(kind.elements[0], name)]}
        case "MAP":
            return {"type": "map", "values": ["null", _schema(kind.elements[1], name)]}
        case "MULTISET":
            return {"type": "map", "values": "int"}
        case "DATE":
            return {"type": "int", "logicalType": "date"}
        case "TIME":
            return {"type": "int", "logicalType": "time-millis"}
        case "DECIMAL":
            precision, scale = (*kind.parameters, *(10, 0)[len(kind.parameters) :])
            return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
        case "TIMESTAMP" | "TIMESTAMP_LTZ":
            digits = kind.parameters[0] if kind.parameters else 6
            unit = "micros" if digits > _MICROSECONDS else "millis"
            prefix = "local-" if kind.name == "TIMESTAMP" else ""
            return {"type": "long", "logicalType": f"{prefix}timestamp-{unit}"}
    return _AVRO[kind.name]
