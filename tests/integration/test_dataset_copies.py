"""Rows of stream jobs' tables as data sets: what real Kafka and PostgreSQL hold is what the copies have."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import psycopg
import pytest
from kafka import KafkaProducer
from psycopg import sql

from app.hlink.tables.models import StoredTable
from app.visual.datasets import uploads
from app.visual.datasets.models import DataSet
from app.visual.datasets.routes import PART
from app.visual.family import family
from stream_jobs.local.endpoints import Endpoints
from tests.airport import Airport
from tests.services import Api, Json, Serve, ServiceProcess

NOT_UPLOADED, UPLOADED, PROCESSING = 1, 3, 4
WITHIN_S = 60.0
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
MIDNIGHT_MS = int(MIDNIGHT.timestamp() * 1000)


class Copies:
    """The API of data sets, as far as copies go."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def call(self, method: str, path: str, **request: Any) -> Json:
        envelope: Json = self.api.http.request(method, f"/visualmodule/dataset{path}", **request).json()
        return envelope

    def ok(self, method: str, path: str, **request: Any) -> Any:
        envelope = self.call(method, path, **request)
        assert envelope["status"] == 200, envelope
        return envelope["obj"]

    def begin(self, table: int, **wanted: Any) -> int:
        return int(self.ok("POST", "/fromStream", json={"tableId": table, **wanted})["dataId"])

    def refused(self, table: int, **wanted: Any) -> tuple[int, str]:
        envelope = self.call("POST", "/fromStream", json={"tableId": table, **wanted})
        assert envelope["status"] in (400, 404), envelope
        return envelope["status"], envelope["msg"]

    def detail(self, data_id: int) -> Json:
        found: Json = self.ok("GET", f"/{data_id}")
        return found

    def until(self, data_id: int, holds: Callable[[Json], Any]) -> Json:
        deadline = time.monotonic() + WITHIN_S
        while not holds(found := self.detail(data_id)):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def copied(self, table: int, **wanted: Any) -> Json:
        """The detail of a copy that was made, with all of its rows beside it."""
        data_id = self.begin(table, **wanted)
        found = self.until(data_id, lambda one: one["dataStatus"] != PROCESSING)
        assert (found["dataStatus"], found["copy"]) == (UPLOADED, None), found
        page = self.ok("GET", "/csv", params={"dataId": data_id, "limit": 500})
        assert page["total"] == found["rows"]
        return {**found, "cells": page["data"]}

    def failed(self, table: int, **wanted: Any) -> str:
        """Why a copy that was begun came to nothing."""
        data_id = self.begin(table, **wanted)
        found = self.until(data_id, lambda one: one["dataStatus"] != PROCESSING)
        assert (found["dataStatus"], found["copy"], len(found["problems"])) == (NOT_UPLOADED, None, 1), found
        return str(found["problems"][0])


@pytest.fixture
def copies(api: Api) -> Copies:
    return Copies(api)


@pytest.fixture
def producer(endpoints: Endpoints) -> Iterator[KafkaProducer]:
    opened = KafkaProducer(bootstrap_servers=endpoints.kafka_bootstrap)
    yield opened
    opened.close()


@pytest.fixture
def slow_view(postgres: Callable[[], psycopg.Connection[Any]], pg_table: Callable[..., str]) -> str:
    """A view with more rows than anybody waits for: each takes a hundredth of a second."""
    table = pg_table("id int primary key, pause text")
    view = sql.Identifier(f"{table}_slow")
    pause = "pg_sleep(0.01)::text || repeat('x', 1000) AS pause"
    query = sql.SQL("CREATE VIEW {} AS SELECT n, {} FROM generate_series(1, 100000) n").format(view, sql.SQL(pause))
    postgres().execute(query)
    return f"{table}_slow"


def alias(copies: Copies, hint: str) -> str:
    return f"{hint}_{time.monotonic_ns()}"


def names(found: Json) -> dict[str, str]:
    return {column["name"]: column["type"] for column in found["columns"]}


# What stream jobs write


def test_given_a_running_job_when_its_sinks_are_copied_then_the_rows_are_those_that_it_wrote(
    airport: Airport, copies: Copies, kafka_topic: Callable[..., str], consume: Callable[..., list[Any]]
) -> None:
    features = {"k": "STRING", "name": "STRING", "v": "DOUBLE"}
    once, avro = kafka_topic("once"), kafka_topic("avro")
    api = airport.api
    exactly = api.kafka_sink(f"once_{airport.tag}", once, features, exactly_once="yes")
    body = {
        "dsName": f"avro_{airport.tag}",
        "tableName": f"avro_{airport.tag}",
        "dsType": "sink",
        "tableType": "kafka",
        "schemaType": 1,
        "dsSchemaColumnVOS": [
            {"name": "k", "flinkType": "STRING"},
            {"name": "v", "flinkType": "DECIMAL(10, 2)"},
            {"name": "ts", "flinkType": "TIMESTAMP(3)"},
        ],
        "jsonFieldVO": {
            "jsonValue": [
                {"fieldName": "bootstrap_servers", "fieldValue": api.endpoints.kafka_bootstrap},
                {"fieldName": "connector_topic", "fieldValue": avro},
            ]
        },
    }
    typed = int(api.ok("POST", "/ds/addDO", json=body)["id"])
    totals = f"SELECT name, COUNT(*), SUM(v) FROM ({airport.enriched()}) GROUP BY name"
    sinks = {
        exactly: airport.enriched(),
        typed: f"SELECT k, CAST(v AS DECIMAL(10, 2)), ts FROM {airport.events}",
        airport.totals: totals,
    }
    job = api.job(f"job {airport.tag}", [airport.source, airport.names], sinks, checkpointInterval=1000)
    job_id = int(api.ok("POST", "/jobs/addDO", json=job)["id"])
    api.run(job_id)
    try:
        written = consume(once, 120, timeout=60, committed=True)
        found = copies.copied(exactly, dataName="written")
        assert sorted(found["cells"]) == sorted([row["k"], row["name"], repr(row["v"])] for row in written)
        assert (found["dataName"], found["rows"]) == ("written", 120)
        assert names(found) == {"k": "text", "name": "text", "v": "float"}
        origin = found["origin"]
        assert (origin["tableId"], origin["tableName"], origin["fromTime"]) == (exactly, f"once_{airport.tag}", None)

        deadline = time.monotonic() + WITHIN_S
        while len(rows := copies.copied(typed)["cells"]) < 120:
            assert time.monotonic() < deadline, len(rows)
        assert sorted(rows, key=lambda row: row[2]) == [
            ["ab"[n % 2], f"{n}.00", f"2026-01-01 00:{n // 60:02d}:{n % 60:02d}"] for n in range(120)
        ]

        while sorted(rows := copies.copied(airport.totals)["cells"]) != [
            ["Alpha", "60", "3540"],
            ["Beta", "60", "3600"],
        ]:
            assert time.monotonic() < deadline, rows
            time.sleep(0.2)
    finally:
        api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


# Tables of PostgreSQL

TYPED = {
    "id": {"flinkType": "INT", "joinKey": 1},
    "ok": "BOOLEAN",
    "x": "DOUBLE",
    "d": "DECIMAL(38, 10)",
    "word": "STRING",
    "at": "TIMESTAMP(6)",
    "zoned": "TIMESTAMP(6)",
    "day": "DATE",
    "raw": "BYTES",
    "tags": "ARRAY<STRING>",
}
DDL = (
    "id int primary key, ok boolean, x double precision, d numeric(38, 10), word text, at timestamp, "
    "zoned timestamptz, day date, raw bytea, tags text[]"
)
ROWS: Sequence[Sequence[Any]] = [
    (1, True, 0.1 + 0.2, Decimal("12345678901234567890.5"), 'say "é",\nthen go', datetime(2026, 1, 1, 8, 0, 0, 5),
     MIDNIGHT, date(2026, 1, 1), b"\0\xff" * 50, ["a", 'b"']),
    (2, False, 1e-300, None, "", datetime(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC), None, None, None),
    (3, None, None, None, None, None, None, date(2026, 1, 3), None, []),
]  # fmt: skip
CELLS = [
    ["1", "true", "0.30000000000000004", "12345678901234567890.5000000000", 'say "é",\nthen go',
     "2026-01-01 08:00:00.000005", "2026-01-01T00:00:00.000000Z", "2026-01-01",
     base64.b64encode(b"\0\xff" * 50).decode(), '["a","b\\""]'],
    ["2", "false", "1e-300", "", "", "2026-01-02 00:00:00", "2026-01-02T00:00:00.000000Z", "", "", ""],
    ["3", "", "", "", "", "", "", "2026-01-03", "", "[]"],
]  # fmt: skip


def test_given_a_table_of_postgresql_then_the_copy_has_its_values_to_the_last_digit(
    copies: Copies, pg_table: Callable[..., str]
) -> None:
    table = pg_table(DDL, ROWS)
    source = copies.api.postgresql(alias(copies, "typed"), "side", table, TYPED)
    found = copies.copied(source)
    assert sorted(found["cells"]) == CELLS
    assert (found["encoding"], found["delimiter"], found["header"], found["problems"]) == ("utf-8", ",", True, [])
    types = ["int", "bool", "float", "float", "text", "date", "date", "date", "text", "text"]
    assert names(found) == dict(zip(TYPED, types, strict=True))

    some = copies.copied(source, columns=["day", "id"], limit=2)
    assert (list(names(some)), some["rows"]) == (["day", "id"], 2)
    day = {"fromTime": "2026-01-01T00:00:00Z", "toTime": MIDNIGHT_MS + 24 * 3600 * 1000}
    for column, ids in (("at", ["1"]), ("zoned", ["1"]), ("day", ["1"])):
        within = copies.copied(source, timeColumn=column, columns=["id"], **day)
        assert [row[0] for row in within["cells"]] == ids, column
        assert within["origin"]["toTime"].startswith("2026-01-02T00:00:00")


def test_given_one_column_whose_values_are_missing_then_its_rows_are_there(
    copies: Copies, pg_table: Callable[..., str]
) -> None:
    table = pg_table("id int primary key, note text", [(n, None if n % 2 else "a; b; c") for n in range(6)])
    source = copies.api.postgresql(alias(copies, "notes"), "side", table, {
        "id": {"flinkType": "INT", "joinKey": 1}, "note": "STRING",
    })  # fmt: skip
    found = copies.copied(source, columns=["note"])
    assert sorted(found["cells"]) == [[""], [""], [""], ["a; b; c"], ["a; b; c"], ["a; b; c"]]


# Topics


def test_given_a_topic_then_the_copy_has_the_messages_between_two_times(
    copies: Copies, kafka_topic: Callable[..., str], producer: KafkaProducer
) -> None:
    topic = kafka_topic("events", 3)
    for n in range(60):
        row = {"n": n, "user": {"id": n % 7, "tags": ["x", n]}, "seen": MIDNIGHT_MS + n, "text": None if n % 2 else "é"}
        producer.send(topic, json.dumps(row).encode(), partition=n % 3, timestamp_ms=MIDNIGHT_MS + n * 1000)
    producer.send(topic, None, key=b"gone", partition=0, timestamp_ms=MIDNIGHT_MS + 30_500)
    producer.flush()
    columns = [
        {"name": "n", "flinkType": "BIGINT"},
        {"name": "user", "flinkType": "ROW", "virtualId": "u", "virtualPid": "0", "level": 1},
        {"name": "id", "flinkType": "INT", "virtualId": "i", "virtualPid": "u", "level": 2},
        {"name": "tags", "flinkType": "ARRAY<STRING>", "virtualId": "t", "virtualPid": "u", "level": 2},
        {"name": "seen", "flinkType": "TIMESTAMP_LTZ(3)", "timeFormat": "epoch-millis"},
        {"name": "text", "flinkType": "STRING"},
    ]
    name = alias(copies, "nested")
    body = {
        "dsName": name, "tableName": name, "dsType": "source", "tableType": "kafka", "schemaType": 0,
        "dsSchemaColumnVOS": columns,
        "jsonFieldVO": {"jsonValue": [{"fieldName": k, "fieldValue": v} for k, v in {
            "bootstrap_servers": copies.api.endpoints.kafka_bootstrap, "connector_topic": topic, "group_id": "tests",
            "startup_mode": "earliest-offset",
        }.items()]},
    }  # fmt: skip
    source = int(copies.api.ok("POST", "/ds/addDO", json=body)["id"])

    found = copies.copied(source, fromTime=MIDNIGHT_MS + 10_000, toTime=MIDNIGHT_MS + 40_000)
    expected = [
        [str(n), str(n % 7), f'["x", {n}]', _shown(MIDNIGHT_MS + n), "" if n % 2 else "é"] for n in range(10, 40)
    ]
    assert sorted(found["cells"]) == sorted(expected)
    assert names(found) == {"n": "int", "user.id": "int", "user.tags": "text", "seen": "date", "text": "text"}
    chosen = copies.copied(source, columns=["user", "n"], fromTime=MIDNIGHT_MS + 59_000)
    assert (list(names(chosen)), chosen["cells"]) == (["user.id", "user.tags", "n"], [["3", '["x", 59]', "59"]])
    assert copies.copied(source, limit=5)["rows"] == 5
    assert copies.copied(source, toTime=MIDNIGHT_MS + 1)["cells"][0][0] == "0"


def _shown(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


TRADE = {
    "type": "record",
    "name": "Trade",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "note", "type": ["null", "string"]},
    ],
}


def test_given_avro_messages_then_the_copy_has_what_their_schema_says(
    copies: Copies, kafka_topic: Callable[..., str], produce: Callable[..., None]
) -> None:
    topic, name = kafka_topic("trades"), alias(copies, "trades")
    trades = [
        {"id": 2**60 + n, "price": Decimal("-12.34"), "at": datetime(2026, 1, 1, 0, 0, n, tzinfo=UTC), "note": None}
        for n in range(3)
    ]
    produce(topic, [_avro(one) for one in trades] + [b"\x02\xfe\xff\xff\xff\x07\x00"])
    body = {
        "dsName": name, "tableName": name, "dsType": "source", "tableType": "kafka", "schemaType": 1,
        "schemaFile": json.dumps(TRADE),
        "dsSchemaColumnVOS": [
            {"name": "id", "flinkType": "BIGINT"}, {"name": "price", "flinkType": "DECIMAL(10, 2)"},
            {"name": "at", "flinkType": "TIMESTAMP_LTZ(3)"}, {"name": "note", "flinkType": "STRING"},
        ],
        "jsonFieldVO": {"jsonValue": [{"fieldName": k, "fieldValue": v} for k, v in {
            "bootstrap_servers": copies.api.endpoints.kafka_bootstrap, "connector_topic": topic, "group_id": "tests",
            "startup_mode": "earliest-offset", "on_parse_error": "skip",
        }.items()]},
    }  # fmt: skip
    found = copies.copied(int(copies.api.ok("POST", "/ds/addDO", json=body)["id"]))
    assert found["cells"] == [[str(2**60 + n), "-12.34", f"2026-01-01T00:00:0{n}Z", ""] for n in range(3)]
    assert found["problems"] == ["1 messages could not be read and are left out"]


def _avro(record: Json) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(TRADE), record)
    return written.getvalue()


# What cannot be copied


def test_given_what_cannot_be_copied_then_it_is_said_why_and_what_to_do(
    copies: Copies, pg_table: Callable[..., str], kafka_topic: Callable[..., str], produce: Callable[..., None]
) -> None:
    api, topic = copies.api, kafka_topic("broken")
    produce(topic, [{"n": 1}, b"{no json"])
    events = api.kafka_source(alias(copies, "broken"), topic, {"n": "INT"})
    table = pg_table("id int primary key, at timestamp, seen timestamp")
    columns = {"id": "INT", "at": "TIMESTAMP(3)", "seen": "TIMESTAMP(3)"}
    stored = api.postgresql(alias(copies, "empty"), "sink", table, columns)

    assert copies.refused(17) == (404, "There is no table 17: /ds/list shows those there are")
    times = {"fromTime": MIDNIGHT_MS, "toTime": MIDNIGHT_MS}
    for source, wanted, said in (
        (events, times, "toTime: it is not after fromTime"),
        (events, {"timeColumn": "n"}, "is a topic: fromTime and toTime are about the times of its messages"),
        (events, {"columns": ["m"]}, "has no column 'm' (it has n)"),
        (stored, {"fromTime": MIDNIGHT_MS}, "it is not said which column the times are of: it has at, seen"),
        (stored, {"limit": 0}, "limit"),
        (stored, {"fromTime": 10**30}, "milliseconds are no time"),
    ):
        status, message = copies.refused(source, **wanted)
        assert (status, said in message) == (400, True), message

    assert "the message at offset 1 of partition 0 cannot be read: it is not JSON" in copies.failed(events)
    assert "has no row there: choose other times" in copies.failed(stored)
    assert "has no row there" in copies.failed(events, fromTime="2100-01-01")
    bad = api.postgresql(alias(copies, "bad"), "sink", table, columns, connector_password="not it, surely")
    said = copies.failed(bad)
    assert "password authentication failed" in said
    assert "not it, surely" not in said
    gone = api.postgresql(alias(copies, "gone"), "sink", "no_such_table", columns)
    assert "table 'no_such_table' does not exist" in copies.failed(gone)
    lacking = api.postgresql(alias(copies, "lacking"), "sink", table, {"id": "INT", "other": "STRING"})
    assert "has no column 'other': it has id, at, seen" in copies.failed(lacking)


# Life


def sessions(connection: psycopg.Connection[Any]) -> int:
    """How many copies are under way, as the database sees it."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hlink-extract'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_given_a_copy_under_way_when_its_data_set_is_deleted_or_cleared_then_it_ends(
    copies: Copies, slow_view: str, postgres: Callable[[], psycopg.Connection[Any]]
) -> None:
    source = copies.api.postgresql(alias(copies, "slow"), "sink", slow_view, {"n": "INT", "pause": "STRING"})
    first, second = copies.begin(source), copies.begin(source)
    connection = postgres()
    going = copies.until(first, lambda found: found["copy"]["rows"] > 0)
    assert (going["dataStatus"], going["copy"]["tableId"], going["copy"]["share"]) == (PROCESSING, source, None)
    assert going["copy"]["dataSize"] != "0 B"
    assert sessions(connection) == 2
    fields = {"dataId": first, "fileMd5": "0" * 32, "fileName": "t", "fragmentName": "t", "fragmentMd5": "0" * 32}
    sent = {**fields, "fragmentIndex": 0, "fragmentCount": 1, "fragmentMd5": "9dd4e461268c8034f5c8564e155c67a6"}
    said = copies.call("POST", "/file", data=sent, files={"file": ("t", b"x")})
    assert (said["status"], "is being copied from the table" in said["msg"]) == (409, True), said
    copies.ok("DELETE", f"/{first}")
    copies.ok("POST", "/clear", json={"dataId": second, "uploadOnly": True})
    until(lambda: sessions(connection) == 0)
    assert copies.call("GET", f"/{first}")["status"] == 404
    cleared = copies.detail(second)
    assert (cleared["dataStatus"], cleared["copy"], cleared["problems"]) == (NOT_UPLOADED, None, [])


def test_given_a_service_that_is_killed_then_its_copies_end_with_it(
    service: ServiceProcess, copies: Copies, slow_view: str, postgres: Callable[[], psycopg.Connection[Any]]
) -> None:
    source = copies.api.postgresql(alias(copies, "slow"), "sink", slow_view, {"n": "INT", "pause": "STRING"})
    data_id = copies.begin(source)
    connection = postgres()
    until(lambda: sessions(connection) == 1)
    service.kill()
    until(lambda: sessions(connection) == 0)
    service.start()
    assert copies.detail(data_id)["dataStatus"] == PROCESSING  # it is begun again when the lease is over
    copies.ok("DELETE", f"/{data_id}")


async def test_given_a_copy_whose_service_died_then_it_is_begun_again_with_a_folder_of_its_own(
    serve: Serve, pg_table: Callable[..., str], endpoints: Endpoints
) -> None:
    http, running = await serve(family)
    table = pg_table("id int primary key", [(n,) for n in range(1000)])
    postgres = endpoints.postgres
    stored = StoredTable(
        name="numbers", alias="numbers", role="sink", kind="postgresql",
        columns=[{"name": "id", "flink_type": "INT"}],
        fields={
            "connector_url": postgres.jdbc_url, "table_name": table, "connector_username": postgres.user,
            "connector_password": "******", "write_max_rows": "5000", "flush_interval": "1000",
        },
        secrets={"connector_password": postgres.password},
    )  # fmt: skip
    order = {"table": "numbers", "most_rows": 900}
    async with running.database.write() as session:
        session.add(stored)
        await session.flush()
        data_set = DataSet(
            name="dead", type=2, upload_id=7, upload_name="numbers.csv", worker="dead", worker_until=0,
            order={**order, "table_id": stored.id}, progress={"rows": 5, "size": 50},
        )  # fmt: skip
        session.add(data_set)
    left = running.settings.home / "visual" / "datasets" / str(data_set.id) / "7"
    left.mkdir(parents=True)
    (left / ".copy").write_bytes(b"half")
    parts: uploads.Uploads = running.parts[PART]
    before = (await http.get(f"/visualmodule/dataset/{data_set.id}")).json()["obj"]
    assert (before["dataStatus"], before["copy"]["rows"], before["copy"]["limit"]) == (PROCESSING, 5, 900)
    await parts.look_after()
    while (await http.get(f"/visualmodule/dataset/{data_set.id}")).json()["obj"]["dataStatus"] == PROCESSING:
        await parts.next_index(data_set.id, "0" * 32)
    found = (await http.get(f"/visualmodule/dataset/{data_set.id}")).json()["obj"]
    assert (found["dataStatus"], found["rows"], found["problems"]) == (UPLOADED, 900, [])
    await parts.look_after()
    (folder,) = left.parent.iterdir()
    assert (folder.name != "7", sorted(one.name for one in folder.iterdir())) == (True, ["data.csv", "rows"])
