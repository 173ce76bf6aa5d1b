"""How messages are read, over HTTP on real Flink and Kafka: what is in the topic, and what comes out of the sink."""

from __future__ import annotations

import base64
import io
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from kafka import KafkaConsumer, TopicPartition

from app.errors import InvalidInput
from app.hlink.clusters.models import Cluster
from app.hlink.connections import Connections
from app.hlink.jobs.service import Engine, check_outside
from stream_jobs import formats
from stream_jobs.definitions import Column, Job, KafkaSource, OnError, Role, Table
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.rest import Clusters
from tests.services import Api, Json

MOMENT = "2018-11-26T01:00:00.123Z"
ZONED = {"flinkType": "TIMESTAMP_LTZ(3)", "timeFormat": "auto"}


@dataclass
class Bench:
    """A topic with messages in it, and jobs that read them."""

    api: Api
    topic: Callable[..., str]
    produce: Callable[..., None]
    consume: Callable[..., list[Any]]

    def source(self, messages: Sequence[Any], columns: Mapping[str, Any] | Sequence[Json], **fields: Any) -> str:
        """A source table over a new topic with those messages; its alias. ``body`` are fields of the table itself."""
        topic, alias = self.topic("in"), f"in_{uuid.uuid4().hex[:8]}"
        self.produce(topic, [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages])
        self.api.ok("POST", "/ds/addDO", json=self.body(alias, topic, columns, **fields))
        return alias

    def body(self, alias: str, topic: str, columns: Mapping[str, Any] | Sequence[Json], **fields: Any) -> Json:
        own = fields.pop("body", {})
        listed = (
            [{"name": n, **({"flinkType": c} if isinstance(c, str) else c)} for n, c in columns.items()]
            if isinstance(columns, Mapping)
            else list(columns)
        )
        values = {
            "bootstrap_servers": self.api.endpoints.kafka_bootstrap,
            "connector_topic": topic,
            "group_id": "tests",
            "startup_mode": "earliest-offset",
            **fields,
        }
        return {
            "dsName": alias,
            "tableName": alias,
            "dsType": "source",
            "tableType": "kafka",
            "schemaType": 0,
            "dsSchemaColumnVOS": listed,
            "jsonFieldVO": {"jsonValue": [{"fieldName": k, "fieldValue": v} for k, v in values.items() if v]},
            **own,
        }

    @contextmanager
    def running(
        self, source: str, sql: str, columns: Mapping[str, Any] | Sequence[Json], body: Json | None = None
    ) -> Iterator[tuple[int, str]]:
        """A job from that source into a new topic: its id, and the topic. ``body`` are fields of the sink's own."""
        out, alias = self.topic("out"), f"out_{uuid.uuid4().hex[:8]}"
        table = self.body(
            alias, out, columns, group_id=None, startup_mode=None, body={"dsType": "sink", **(body or {})}
        )
        sink = int(self.api.ok("POST", "/ds/addDO", json=table)["id"])
        found = self.api.ok("GET", "/ds/list", params={"dsType": "source", "tableName": source})["records"]
        body = self.api.job(f"job {source}", [int(found[0]["id"])], {sink: sql.format(source)})
        job_id = int(self.api.ok("POST", "/jobs/addDO", json=body)["id"])
        self.api.run(job_id)
        try:
            yield job_id, out
        finally:
            self.api.call("POST", f"/jobs/cancel/{job_id}?mode=none")

    def rows(self, source: str, sql: str, columns: Mapping[str, Any], n: int) -> list[Any]:
        with self.running(source, sql, columns) as (_, out):
            return self.consume(out, n, timeout=60)


@pytest.fixture
def bench(
    api: Api, kafka_topic: Callable[..., str], produce: Callable[..., None], consume: Callable[..., list[Any]]
) -> Bench:
    return Bench(api, kafka_topic, produce, consume)


def analysed(api: Api, schema: Any, kind: int, structure: int = 1) -> Json:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    answer: Json = api.ok(
        "POST",
        "/ds/schemaAnalysisDO",
        params={"schemaType": kind, "structureType": structure},
        files={"file": ("schema.json", text.encode())},
    )
    return answer


# Times


def test_given_every_spelling_of_a_time_when_mixed_and_nested_then_each_is_read_as_the_moment_it_says(
    bench: Bench,
) -> None:
    spellings = [
        MOMENT,
        "2018-11-26T09:00:00.123+08:00",
        "2018-11-25 20:00:00.123 -0500",
        "2018-11-26 01:00:00.123",
        "2018-11-26T01:00:00.123456",
        1543194000123,
        1543194000.123,
        "1543194000123",
    ]
    rows = [{"n": n, "at": s, "in": {"at": s}, "list": [{"at": s}, {"at": None}]} for n, s in enumerate(spellings)]
    columns = [
        {"name": "n", "flinkType": "INT", "virtualId": "1", "virtualPid": "0", "level": 1},
        {"name": "at", **ZONED, "eventTime": 1, "virtualId": "2", "virtualPid": "0", "level": 1},
        {"name": "in", "flinkType": "ROW", "virtualId": "3", "virtualPid": "0", "level": 1},
        {"name": "at", **ZONED, "virtualId": "4", "virtualPid": "3", "level": 2},
        {"name": "list", "flinkType": "ARRAY", "virtualId": "5", "virtualPid": "0", "level": 1},
        {"name": "at", **ZONED, "virtualId": "6", "virtualPid": "5", "level": 2},
    ]
    source = bench.source(rows, columns)
    sql = "SELECT t.n, t.`at`, t.`in`.`at`, u.`at` FROM {} t, UNNEST(t.list) AS u (`at`)"
    out = {"n": "INT", "a": "TIMESTAMP_LTZ(3)", "b": "TIMESTAMP_LTZ(3)", "c": "TIMESTAMP_LTZ(3)"}
    found = bench.rows(source, sql, out, 2 * len(spellings))
    assert sorted(found, key=lambda row: (row["n"], row["c"] is None)) == [
        {"n": n, "a": MOMENT, "b": MOMENT, "c": c} for n in range(len(spellings)) for c in (MOMENT, None)
    ]


@pytest.mark.parametrize(
    ("kind", "spelling", "text", "read"),
    [
        ("TIMESTAMP_LTZ(3)", "auto", "2018-11-26T01:00:00-00:30", "2018-11-26T01:30:00Z"),
        ("TIMESTAMP_LTZ(3)", "rfc3339", "2018-11-26T09:00:00+08:00", "2018-11-26T01:00:00Z"),
        ("TIMESTAMP_LTZ(3)", "epoch-seconds", 1543194000, "2018-11-26T01:00:00Z"),
        ("TIMESTAMP(3)", "epoch-millis", 1543194000001, "2018-11-26 01:00:00.001"),
        ("TIMESTAMP(3)", "iso-local", "2018-11-26T01:00:00", "2018-11-26 01:00:00"),
        ("TIMESTAMP(3)", "sql", "2018-11-26 01:00:00", "2018-11-26 01:00:00"),
    ],
)
def test_given_one_spelling_when_windowed_by_it_then_the_window_is_the_moments(
    bench: Bench, kind: str, spelling: str, text: Any, read: str
) -> None:
    later = {
        "auto": 1543200000,
        "rfc3339": "2018-11-26T10:00:00+08:00",
        "epoch-seconds": 1543197600,
        "epoch-millis": 1543197600000,
    }.get(spelling, str(text).replace("01:00", "02:00"))
    columns = {"k": "STRING", "ts": {"flinkType": kind, "timeFormat": spelling, "eventTime": 1}}
    source = bench.source([{"k": "a", "ts": text}, {"k": "b", "ts": later}], columns)
    windows = "TUMBLE(TABLE {}, DESCRIPTOR(ts), INTERVAL '1' HOUR)"
    sql = f"SELECT MIN(ts), COUNT(*) FROM {windows} GROUP BY window_start, window_end"
    assert bench.rows(source, sql, {"first": kind, "n": "BIGINT"}, 1) == [{"first": read, "n": 1}]


def test_given_times_that_flink_reads_itself_when_declared_then_no_format_of_ours_is_used(bench: Bench) -> None:
    columns = {"ts": {"flinkType": "TIMESTAMP(3)", "timeFormat": "iso-local"}}
    source = bench.source([], columns)
    (found,) = bench.api.ok("GET", "/ds/list", params={"dsType": "source", "tableName": source})["records"]
    assert "'format' = 'json'" in found["dsDdl"]
    assert "'json.timestamp-format.standard' = 'ISO-8601'" in found["dsDdl"]


# Messages that cannot be read

GOOD = [{"n": n, "ts": MOMENT} for n in range(5)]
BAD: list[Any] = [b"{torn", b'"text"', {"n": "x"}, {"n": 7, "ts": "yesterday"}, b'[{"n": 8}, {"n": "y"}]', b"\xff\xfe"]


def counts(api: Api, job_id: int, failed: int) -> Json:
    """The counts of the job's only source, once that many have failed: Flink fetches its metrics now and then."""
    deadline = time.monotonic() + 60
    while True:
        found: list[Json] = api.ok("GET", f"/jobs/overview/{job_id}")["flink"]["messages"]
        if [one["failed"] for one in found] == [failed]:
            return found[0]
        assert time.monotonic() < deadline, found
        time.sleep(0.3)


def test_given_a_message_that_cannot_be_read_when_nothing_is_said_then_the_job_ends_with_the_reason(
    bench: Bench,
) -> None:
    source = bench.source([GOOD[0], {"n": 1, "ts": "26.11.2018"}], {"n": "INT", "ts": ZONED})
    with bench.running(source, "SELECT n FROM {}", {"n": "INT"}) as (job_id, _):
        deadline = time.monotonic() + 60
        while not (told := bench.api.ok("GET", f"/jobs/overview/{job_id}")["flink"]["exceptions"]):
            assert time.monotonic() < deadline
            time.sleep(0.3)
    assert "column ts: '26.11.2018' is not a time" in told[0]["rootCause"]


def test_given_messages_that_cannot_be_read_when_skipped_then_the_job_goes_on_and_counts_them(bench: Bench) -> None:
    columns = {"n": "INT", "ts": {"flinkType": "TIMESTAMP_LTZ(3)", "eventTime": 1}}
    messages = [one for pair in zip(GOOD, BAD, strict=False) for one in pair] + BAD[5:]
    source = bench.source(messages, columns, on_parse_error="skip")
    with bench.running(source, "SELECT n FROM {}", {"n": "INT"}) as (job_id, out):
        assert [row["n"] for row in bench.consume(out, 5, timeout=60)] == [0, 1, 2, 3, 4]
        found = counts(bench.api, job_id, len(BAD))
        assert (found["parsed"], found["failed"]) == (5, 6)


def test_given_a_dead_letter_topic_when_messages_cannot_be_read_then_it_has_each_with_place_and_reason(
    bench: Bench,
) -> None:
    dead = bench.topic("dead")
    columns = {"n": {"flinkType": "INT NOT NULL"}, "ts": {"flinkType": "TIMESTAMP_LTZ(3)", "eventTime": 1}}
    source = bench.source([*GOOD, *BAD], columns, on_parse_error="dead-letter", dead_letter_topic=dead)
    with bench.running(source, "SELECT * FROM {}", {"n": "INT", "ts": "TIMESTAMP_LTZ(3)"}) as (job_id, out):
        assert bench.consume(out, 5, timeout=60) == GOOD
        letters = bench.consume(dead, 6, timeout=60)
        found = counts(bench.api, job_id, len(BAD))
        script = bench.api.ok("GET", f"/jobs/overview/{job_id}")["flink"]["vertices"]
    raw = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in BAD]
    assert [base64.b64decode(letter["raw"]) for letter in letters] == raw
    assert [(letter["partition"], letter["offset"]) for letter in letters] == [(0, 5 + n) for n in range(6)]
    assert len({letter["topic"] for letter in letters}) == 1
    assert letters[3]["error"] == "column ts: 'yesterday' is not a time"
    assert letters[2]["text"] == '{"n": "x"}'
    assert (found["parsed"], found["failed"]) == (5, 6)
    assert sum("Source" in vertex["name"] for vertex in script) == 1


def test_given_a_dead_letter_topic_when_rows_are_windowed_then_what_could_not_be_read_holds_no_window_up(
    bench: Bench,
) -> None:
    dead = bench.topic("dead")
    rows = [b"{", {"n": 1, "ts": MOMENT}, {"n": 2, "ts": "?"}, {"n": 3, "ts": "2018-11-26T03:00:00Z"}, b"}"]
    columns = {"n": "INT", "ts": {**ZONED, "eventTime": 1}}
    source = bench.source(rows, columns, on_parse_error="dead-letter", dead_letter_topic=dead)
    windows = "TUMBLE(TABLE {}, DESCRIPTOR(ts), INTERVAL '1' HOUR)"
    sql = f"SELECT SUM(n), COUNT(*) FROM {windows} GROUP BY window_start, window_end"
    assert bench.rows(source, sql, {"sum": "INT", "n": "BIGINT"}, 1) == [{"sum": 1, "n": 1}]
    assert [letter["offset"] for letter in bench.consume(dead, 3, timeout=60)] == [0, 2, 4]


def test_given_a_dead_letter_topic_that_does_not_exist_when_run_then_it_is_named(bench: Bench) -> None:
    source = bench.source([], {"n": "INT"}, on_parse_error="dead-letter", dead_letter_topic="no-such-dead-letters")
    out = bench.topic("out")
    sink = bench.api.kafka_sink(f"out_{uuid.uuid4().hex[:8]}", out, {"n": "INT"})
    (found,) = bench.api.ok("GET", "/ds/list", params={"dsType": "source", "tableName": source})["records"]
    body = bench.api.job(f"job {source}", [int(found["id"])], {sink: f"SELECT n FROM {source}"})
    job_id = bench.api.ok("POST", "/jobs/addDO", json=body)["id"]
    (problem,) = bench.api.refused("POST", f"/jobs/run/{job_id}")["problems"]
    assert (problem["field"], problem["table"]) == ("dead_letter_topic", source)
    assert "no-such-dead-letters" in problem["message"]


async def test_given_a_cluster_without_our_formats_when_a_table_needs_them_then_the_run_is_refused(
    endpoints: Endpoints, kafka_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "jar_name", lambda: "hlink-formats-of-another-version.jar")
    source = KafkaSource(endpoints.kafka_bootstrap, kafka_topic("in"), "tests", on_error=OnError.SKIP)
    cluster = Cluster(id=1, name="main", address=endpoints.flink_url)
    flink, outside = Clusters(), Connections()
    # What else the service has is not asked.
    parts = dict.fromkeys(field.name for field in fields(Engine)) | {"clusters": flink, "connections": outside}
    engine = Engine(**parts)  # type: ignore[arg-type]
    try:
        table = Table("t", Role.SOURCE, replace(source, on_error=OnError.FAIL), (Column("n", "INT"),))
        await check_outside(engine, cluster, Job("j", (table,), ()))
        with pytest.raises(InvalidInput, match=r"table t: .*another-version\.jar, which cluster 'main' does not have"):
            await check_outside(
                engine, cluster, Job("j", (Table("t", Role.SOURCE, source, (Column("n", "INT"),)),), ())
            )
    finally:
        await flink.close()
        await outside.close()


# Avro

TRADE = {
    "type": "record",
    "name": "Trade",
    "namespace": "market",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "note", "type": ["string", "null"], "doc": "free text"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "seen", "type": ["null", {"type": "long", "logicalType": "local-timestamp-micros"}], "default": None},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "tags", "type": {"type": "map", "values": "int"}},
        {
            "name": "legs",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Leg",
                    "fields": [{"name": "venue", "type": "string"}, {"name": "share", "type": ["null", "double"]}],
                },
            },
        },
    ],
}
TRADES = [
    {
        "id": 2**60 + n,
        "side": ["BUY", "SELL"][n],
        "price": Decimal("-12.34"),
        "note": [None, "é"][n],
        "at": datetime(2026, 1, 1, 0, 0, n, tzinfo=UTC),
        "seen": [None, datetime(2026, 1, 1, 0, 0, 0, 123456)][n],
        "day": date(2026, 1, 31),
        "tags": {"a": n},
        "legs": [{"venue": "X", "share": None}, {"venue": "Y", "share": 0.5}],
    }
    for n in range(2)
]


def avro(schema: Any, record: Any) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(schema), record)
    return written.getvalue()


def test_given_an_avro_schema_when_its_columns_are_sent_back_then_the_table_reads_its_messages(bench: Bench) -> None:
    found = analysed(bench.api, TRADE, 1)
    columns = found["dsSchemaColumnVOS"]
    for column in columns:
        column["eventTime"] = int(column["name"] == "at")
    own = {"schemaFile": found["schemaFile"], "schemaType": 1}
    messages = [avro(TRADE, one) for one in TRADES]
    # A length of a gigabyte in a message of ten bytes must not be allocated.
    torn = [messages[0][:-4], b"\x02\x00\xfe\xff\xff\xff\x07\x00\x00\x00"]
    source = bench.source([*messages, *torn], columns, body=own, on_parse_error="skip")
    legs = "UNNEST(t.legs) AS l (venue, share)"
    sql = f"SELECT id, side, price, note, `at`, seen, `day`, tags, legs, l.venue, l.share FROM {{}} t, {legs}"
    out = {
        "id": "BIGINT",
        "side": "STRING",
        "price": "DECIMAL(10, 2)",
        "note": "STRING",
        "at": "TIMESTAMP_LTZ(3)",
        "seen": "TIMESTAMP(6)",
        "day": "DATE",
        "tags": "MAP<STRING, INT>",
        "legs": "ARRAY<ROW<venue STRING, share DOUBLE>>",
        "venue": "STRING",
        "share": "DOUBLE",
    }
    with bench.running(source, sql, out) as (job_id, topic):
        rows = bench.consume(topic, 4, timeout=60)
        assert counts(bench.api, job_id, 2)["parsed"] == 2
    assert rows[2] == {
        "id": 2**60 + 1,
        "side": "SELL",
        "price": -12.34,
        "note": "é",
        "at": "2026-01-01T00:00:01Z",
        "seen": "2026-01-01T00:00:00.123456",
        "day": "2026-01-31",
        "tags": {"a": 1},
        "legs": [{"venue": "X", "share": None}, {"venue": "Y", "share": 0.5}],
        "venue": "X",
        "share": None,
    }
    assert (rows[0]["note"], rows[0]["seen"], rows[1]["share"]) == (None, None, 0.5)


def test_given_a_schema_on_an_avro_sink_when_rows_are_written_then_they_are_records_of_that_schema(
    bench: Bench, endpoints: Endpoints
) -> None:
    schema = {**TRADE, "fields": [*TRADE["fields"], {"name": "origin", "type": "string", "default": "hlink"}]}
    columns = analysed(bench.api, TRADE, 1)["dsSchemaColumnVOS"]
    source = bench.source(
        [avro(TRADE, one) for one in TRADES], columns, body={"schemaFile": json.dumps(TRADE), "schemaType": 1}
    )
    own = {"schemaFile": json.dumps(schema), "schemaType": 1}
    with bench.running(source, "SELECT * FROM {}", columns, body=own) as (_, topic):
        written = raw(endpoints, topic, 2)
    read = [fastavro.schemaless_reader(io.BytesIO(one), fastavro.parse_schema(schema), None) for one in written]
    assert read == [{**one, "origin": "hlink"} for one in TRADES]


def test_given_an_avro_sink_without_a_schema_when_read_by_a_source_with_its_columns_then_rows_come_back(
    bench: Bench, endpoints: Endpoints
) -> None:
    columns = {"n": "INT", "s": "STRING", "ts": "TIMESTAMP(3)", "r": "ROW<a DECIMAL(10, 2), b ARRAY<BIGINT>>"}
    rows = [{"n": 1, "s": None, "ts": "2026-01-01 00:00:00", "r": {"a": 1.25, "b": [2**60]}}]
    source = bench.source(rows, columns)
    with bench.running(source, "SELECT * FROM {}", columns, body={"schemaType": 1}) as (_, topic):
        (message,) = raw(endpoints, topic, 1)
    again = bench.source([message], columns, body={"schemaType": 1})
    assert bench.rows(again, "SELECT * FROM {}", columns, 1) == rows


def raw(endpoints: Endpoints, topic: str, n: int) -> list[bytes]:
    """The first n messages of a topic of one partition, as bytes."""
    consumer = KafkaConsumer(bootstrap_servers=endpoints.kafka_bootstrap, auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(topic, 0)])
        found: list[bytes] = []
        deadline = time.monotonic() + 60
        while len(found) < n:
            assert time.monotonic() < deadline, f"{topic}: {len(found)} of {n} messages"
            found += [one.value for records in consumer.poll(timeout_ms=200).values() for one in records]
        return found
    finally:
        consumer.close()


def test_given_avro_columns_that_are_not_the_schemas_when_added_then_each_is_named(bench: Bench) -> None:
    own = {"schemaFile": json.dumps(TRADE), "schemaType": 1}
    columns = {"price": "DECIMAL(10, 4)", "prize": "BIGINT", "at": "TIMESTAMP(3)"}
    answer = bench.api.refused("POST", "/ds/addDO", json=bench.body("t1", "t", columns, body=own))
    assert [(p["field"], p["message"]) for p in answer["problems"]] == [
        ("column price", "the Avro schema has it as DECIMAL(10, 2), not DECIMAL(10, 4)"),
        ("column prize", "the Avro schema has no such field"),
    ]


# Schemas and samples

ORDER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "money": {"type": "object", "properties": {"amount": {"type": "number"}, "unit": {"enum": ["EUR", None]}}}
    },
    "properties": {
        "id": {"type": "integer", "description": "the order's number"},
        "value": {"type": ["null", "integer"]},
        "placed": {"type": "string", "format": "date-time"},
        "due": {"type": "string", "format": "date"},
        "opens": {"type": "string", "format": "time"},
        "photo": {"type": "string", "contentEncoding": "base64"},
        "paid": {"$ref": "#/$defs/money"},
        "items": {
            "type": "array",
            "items": {"allOf": [{"$ref": "#/$defs/money"}, {"properties": {"sku": {"type": "string"}}}]},
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "marks": {"type": "array", "items": {"type": "boolean"}},
    },
}


def test_given_a_json_schema_when_its_columns_are_sent_back_then_the_table_reads_its_messages(bench: Bench) -> None:
    columns = analysed(bench.api, ORDER, 0)["dsSchemaColumnVOS"]
    root, level1 = columns[0], [column for column in columns if column["level"] == 1]
    assert (root["name"], root["level"], root["flinkType"], root["virtualPid"]) == ("root", 0, "ROW", "0")
    assert {column["virtualPid"] for column in level1} == {root["virtualId"]}
    assert [(column["name"], column["flinkType"], column["basicType"]) for column in level1] == [
        ("id", "BIGINT", "Long"),
        ("value", "BIGINT", "Long"),
        ("placed", "TIMESTAMP_LTZ(3)", "Timestamp"),
        ("due", "DATE", "Date"),
        ("opens", "TIME", "Time"),
        ("photo", "BYTES", "Bytes"),
        ("paid", "ROW", "Row"),
        ("items", "ARRAY", "List"),
        ("labels", "MAP<STRING, STRING>", "Map"),
        ("marks", "ARRAY<BOOLEAN>", "List"),
    ]
    assert [column["res1"] for column in level1 if column["res1"]] == ["value"]
    order = {
        "id": 1,
        "value": None,
        "placed": "2018-11-26T09:00:00+08:00",
        "due": "2026-01-31",
        "opens": "01:30:00+02:00",
        "photo": base64.b64encode(b"\0\xff").decode(),
        "paid": {"amount": 1.5, "unit": "EUR"},
        "items": [{"amount": 2.5, "unit": None, "sku": "s"}],
        "labels": {"a": "b"},
        "marks": [True, False],
    }
    source = bench.source([order], columns)
    kinds = {c["name"]: c["flinkType"] for c in level1} | {
        "paid": "ROW<amount DOUBLE, unit STRING>",
        "items": "ARRAY<ROW<amount DOUBLE, unit STRING, sku STRING>>",
    }
    assert bench.rows(source, "SELECT * FROM {}", kinds, 1) == [
        order | {"placed": "2018-11-26T01:00:00Z", "opens": "23:30:00"}
    ]


def test_given_messages_in_a_topic_when_inferred_then_the_columns_read_them_and_conflicts_are_told(
    bench: Bench,
) -> None:
    messages: list[Any] = [
        {"id": 1, "ts": MOMENT, "user": {"name": "a", "since": 1543194000}, "v": 1, "mixed": 1},
        {"id": 2, "ts": "2018-11-26T09:00:00.123+08:00", "user": {"name": None}, "v": 1.5, "mixed": "x"},
        {"id": 3, "ts": 1543194000123, "user": None, "mixed": {"a": 1}},
    ]
    topic = bench.topic("sample")
    bench.produce(topic, [*messages, b"{torn"])
    servers = bench.api.endpoints.kafka_bootstrap
    found = bench.api.ok("POST", "/ds/schemaInferDO", json={"bootstrap_servers": servers, "topic": topic})
    columns = {column["name"]: column for column in found["dsSchemaColumnVOS"]}
    assert (found["messageCount"], found["unreadableCount"]) == (3, 1)
    assert found["unreadable"][0].startswith("partition 0, offset 3: ")
    assert (columns["ts"]["flinkType"], columns["ts"]["timeFormat"]) == ("TIMESTAMP_LTZ(3)", "auto")
    assert columns["ts"]["timeFormats"] == {"rfc3339": 2, "epoch-millis": 1}
    assert columns["since"]["timeFormat"] == "epoch-seconds"
    assert columns["v"]["flinkType"] == "DOUBLE"
    assert [columns[name][count] for name, count in (("v", "missingCount"), ("name", "nullCount"))] == [1, 1]
    assert columns["mixed"]["conflicts"] == ["it was integer (1), text (1), object (1): read as text"]

    source = bench.source(messages, found["dsSchemaColumnVOS"])
    out = {"id": "INT", "ts": "TIMESTAMP_LTZ(3)", "since": "TIMESTAMP_LTZ(3)", "mixed": "STRING"}
    assert bench.rows(source, "SELECT CAST(id AS INT), ts, `user`.since, mixed FROM {}", out, 3) == [
        {"id": 1, "ts": MOMENT, "since": "2018-11-26T01:00:00Z", "mixed": "1"},
        {"id": 2, "ts": MOMENT, "since": None, "mixed": "x"},
        {"id": 3, "ts": MOMENT, "since": None, "mixed": '{"a":1}'},
    ]


def test_given_a_topic_that_is_not_there_or_empty_when_inferred_then_that_is_told(bench: Bench) -> None:
    sample = {"bootstrap_servers": bench.api.endpoints.kafka_bootstrap, "topic": "no-such-sample"}
    (problem,) = bench.api.refused("POST", "/ds/schemaInferDO", json=sample)["problems"]
    assert (problem["field"], "does not exist" in problem["message"]) == ("topic", True)
    (problem,) = bench.api.refused("POST", "/ds/schemaInferDO", json=sample | {"topic": bench.topic("empty")})[
        "problems"
    ]
    assert "is empty" in problem["message"]
    answer = bench.api.refused("POST", "/ds/schemaInferDO", json=sample | {"bootstrap_servers": "127.0.0.1:1"})
    assert answer["msg"].startswith("no Kafka broker answers at 127.0.0.1:1 (connection refused)")


def test_given_a_file_of_lines_or_an_array_when_inferred_then_both_say_the_same(api: Api) -> None:
    rows = [{"a": 1, "t": "2018-11-26 01:00:00"}, {"a": None, "t": "2018-11-26 02:00:00"}]
    contents = (json.dumps(rows), "\n".join(map(json.dumps, rows)))
    answers = [api.ok("POST", "/ds/schemaInferDO", files={"file": ("m.json", text.encode())}) for text in contents]
    seen = [
        [(c["name"], c["flinkType"], c["timeFormat"], c["nullCount"]) for c in a["dsSchemaColumnVOS"]] for a in answers
    ]
    assert seen[0] == seen[1] == [("root", "ROW", None, 0), ("a", "BIGINT", None, 1), ("t", "TIMESTAMP(3)", "sql", 0)]


@pytest.mark.parametrize(
    ("kind", "schema", "field", "message"),
    [
        (0, '{"type": "objct"}', "#/type", "it is not a JSON Schema"),
        (0, '{"properties": {"a": {"$ref": "#"}}}', "#/properties/a", "# contains itself"),
        (0, '{"properties": {"a": {"$ref": "b.json"}}}', "#/properties/a", "b.json is in another file"),
        (0, '{"properties": {"a": {"type": ["string", "integer"]}}}', "#/properties/a", "it may be integer or string"),
        (0, "[" * 100_000, "the schema", "it is not JSON"),
        (
            1,
            '{"type": "record", "name": "r", "fields": [{"name": "n", "type": ["null", "r"]}]}',
            "n",
            "contains itself",
        ),
        (
            1,
            '{"type": "record", "name": "r", "fields": [{"name": "n", "type": ["int", "long"]}]}',
            "n",
            "a union of int",
        ),
        (0, "x" * (1024 * 1024 + 1), "file", "larger than 1048576 bytes"),
    ],
)
def test_given_a_schema_that_no_table_can_have_when_analysed_then_place_and_reason_are_told(
    api: Api, kind: int, schema: str, field: str, message: str
) -> None:
    params = {"schemaType": kind, "structureType": 1}
    answer = api.refused("POST", "/ds/schemaAnalysisDO", params=params, files={"file": ("s", schema.encode())})
    (problem,) = answer["problems"]
    assert problem["field"] == field
    assert message in problem["message"]
    assert problem["remedy"]
