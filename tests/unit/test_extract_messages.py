"""A topic's messages as rows of a copy: what the table declares, and what is none of it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import pytest

from app.hlink.extracts.messages import Unreadable, cells, reader_of, schema_of
from app.hlink.extracts.orders import Leaf
from app.hlink.extracts.rows import Refused, cell
from stream_jobs.definitions import AvroFormat, Column, JsonFormat, KafkaSink, Role, Table, TimeFormat
from stream_jobs.sql import types

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}, {"name": "s", "type": "string"}]}


def table(*columns: Column, primary_key: tuple[str, ...] = ()) -> Table:
    return Table("t", Role.SINK, KafkaSink("b:1", "t"), columns, primary_key)


def written(schema: Any, record: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    return stream.getvalue()


@pytest.fixture
def registry() -> Iterator[str]:
    """A server that answers as a schema registry does: it has the schema 7."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"/schemas/ids/7": {"schema": json.dumps(SCHEMA)}, "/schemas/ids/8": {}}.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "true"),
        (2**70, str(2**70)),
        (0.1 + 0.2, "0.30000000000000004"),
        (Decimal("1E+3"), "1000"),
        (b"\xff", "/w=="),
        (datetime(2026, 1, 31, 8, tzinfo=UTC), "2026-01-31T08:00:00Z"),
        (datetime(2026, 1, 31, 8, 0, 0, 5), "2026-01-31 08:00:00.000005"),
        (date(2026, 1, 31), "2026-01-31"),
        ({"a": [1, Decimal("1.50"), None]}, '{"a": [1, "1.50", null]}'),
    ],
)
def test_given_a_value_then_its_cell_can_be_read_again(value: Any, shown: str) -> None:
    assert cell(value) == shown


def test_given_json_then_nested_fields_and_times_are_as_declared() -> None:
    leaves = [
        Leaf(("n",), types.parse("INT")),
        Leaf(("r", "a"), types.parse("STRING")),
        Leaf(("ms",), types.parse("TIMESTAMP_LTZ(3)"), TimeFormat.EPOCH_MILLIS),
        Leaf(("s",), types.parse("TIMESTAMP(3)"), TimeFormat.EPOCH_SECONDS),
        Leaf(("any",), types.parse("TIMESTAMP_LTZ(3)"), TimeFormat.AUTO),
    ]
    read = reader_of(table(), JsonFormat())
    (found,) = read(b'{"n": 1, "r": {"a": "x"}, "ms": 1500, "s": 60, "any": 100000000000}')
    times = ["1970-01-01T00:00:01.500000Z", "1970-01-01 00:01:00", "1973-03-03T09:46:40Z"]
    assert cells(leaves, found) == ["1", "x", *times]
    assert cells(leaves, {"r": 5, "any": "2026-01-01T00:00:00Z"}) == ["", "", "", "", "2026-01-01T00:00:00Z"]
    assert [one["n"] for one in read(b'[{"n": 1}, {"n": 2}]')] == [1, 2]
    for message in (b"{", b"1", b"[1]", b"\xff", b"[" * 100_000):
        with pytest.raises(Unreadable):
            read(message)
    with pytest.raises(Unreadable, match="which is no time"):
        cells(leaves, {"ms": 10**30})


def test_given_columns_without_a_schema_then_messages_are_read_as_flink_writes_them() -> None:
    columns = (
        Column("k", "STRING"),
        Column("r", "ROW<a DECIMAL(10, 2), b ARRAY<BIGINT>>"),
        Column("m", "MAP<STRING, INT>"),
        Column("at", "TIMESTAMP(3)"),
        Column("zoned", "TIMESTAMP_LTZ(6)"),
        Column("never", "INT", not_null=True),
        Column("computed", "", expression="PROCTIME()"),
    )
    declared = table(*columns, primary_key=("k",))
    record = {
        "k": "a",
        "r": {"a": Decimal("1.25"), "b": [2**60, None]},
        "m": {"x": None},
        "at": datetime(2026, 1, 1, 8),
        "zoned": datetime(2026, 1, 1, 8, tzinfo=UTC),
        "never": 5,
    }
    schema = schema_of(declared)
    assert {one["name"]: isinstance(one["type"], list) for one in schema["fields"]} == {
        "k": False, "r": True, "m": True, "at": True, "zoned": True, "never": False,
    }  # fmt: skip
    assert list(reader_of(declared, AvroFormat())(written(schema, record))) == [record]


def test_given_a_registry_then_a_message_is_read_by_the_schema_that_it_names(registry: str) -> None:
    read = reader_of(table(), AvroFormat(registry))
    body = written(SCHEMA, {"n": 1, "s": "x"})
    assert list(read(b"\0\0\0\0\7" + body)) == [{"n": 1, "s": "x"}]
    for message in (body, b"", b"\0\0\0\0\7" + body[:-1], b"\0\0\0\0\7" + body + b"x"):
        with pytest.raises(Unreadable):
            read(message)
    with pytest.raises(Refused, match="answers 404 to schema 9"):
        read(b"\0\0\0\0\x09" + body)
    with pytest.raises(Refused, match="schema 8 of the registry cannot be read"):
        read(b"\0\0\0\0\x08" + body)
    with pytest.raises(Refused, match="does not answer"):
        reader_of(table(), AvroFormat("http://127.0.0.1:1"))(b"\0\0\0\0\7" + body)
