"""The forms of feature SQL that users write, each as a job of its own over HTTP, checked in the sink's contents.

All jobs read the same two topics. Their last rows lie an hour ahead, so that every window before them closes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from stream_jobs.local.endpoints import Endpoints
from tests.services import Api

CLICKS = [
    {"visitor": "ann", "page": "home", "n": 1, "ts": "2026-01-01 00:00:05"},
    {"visitor": "ann", "page": "shop", "n": 5, "ts": "2026-01-01 00:00:20"},
    {"visitor": "bob", "page": "home", "n": 3, "ts": "2026-01-01 00:00:50"},
    {"visitor": "ann", "page": "home", "n": 4, "ts": "2026-01-01 00:01:10"},
    {"visitor": "bob", "page": "shop", "n": 2, "ts": "2026-01-01 00:02:30"},
    {"visitor": "end", "page": "end", "n": 0, "ts": "2026-01-01 01:00:00"},
]
ORDERS = [
    {"visitor": "ann", "amount": 10.0, "ts": "2026-01-01 00:00:30"},
    {"visitor": "bob", "amount": 20.0, "ts": "2026-01-01 00:02:00"},
    {"visitor": "end", "amount": 0.0, "ts": "2026-01-01 01:00:00"},
]
_EVENT_TIME = {"flinkType": "TIMESTAMP(3)", "eventTime": 1}


@dataclass
class Shop:
    """The two sources; ``{clicks}`` and ``{orders}`` in a statement are their names."""

    api: Api
    tag: str
    sources: tuple[int, int]

    def sql(self, statement: str) -> str:
        return statement.format(clicks=f"clicks_{self.tag}", orders=f"orders_{self.tag}")

    def start(self, sink: int, statement: str, *more: int) -> int:
        body = self.api.job(
            f"form {uuid.uuid4().hex[:8]}",
            [*self.sources, *more],
            {sink: self.sql(statement)},
            checkpointInterval=0,
        )
        job_id = int(self.api.ok("POST", "/jobs/addDO", json=body)["id"])
        self.api.run(job_id)
        return job_id

    def stop(self, job_id: int) -> None:
        self.api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


@pytest.fixture(scope="module")
def shop(api: Api, endpoints: Endpoints) -> Iterator[Shop]:
    tag = uuid.uuid4().hex[:8]
    admin = KafkaAdminClient(bootstrap_servers=endpoints.kafka_bootstrap)
    topics = [f"clicks-{tag}", f"orders-{tag}"]
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1} for topic in topics})
    producer = KafkaProducer(bootstrap_servers=endpoints.kafka_bootstrap)
    for topic, rows in zip(topics, (CLICKS, ORDERS), strict=True):
        for row in rows:
            producer.send(topic, str(row).replace("'", '"').encode()).get(timeout=30)
    producer.close()
    clicks = api.kafka_source(
        f"clicks_{tag}", topics[0], {"visitor": "STRING", "page": "STRING", "n": "INT", "ts": _EVENT_TIME}
    )
    orders = api.kafka_source(f"orders_{tag}", topics[1], {"visitor": "STRING", "amount": "DOUBLE", "ts": _EVENT_TIME})
    yield Shop(api, tag, (clicks, orders))
    admin.delete_topics(topics, raise_errors=False)
    admin.close()


@dataclass(frozen=True)
class Form:
    """A statement, the sink's columns, and the rows that must come out, whatever their order."""

    statement: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]


def _at(minute: int, second: int = 0) -> str:
    return f"2026-01-01 00:{minute:02d}:{second:02d}"


_WINDOWED = {"w": "TIMESTAMP(3)", "visitor": "STRING", "n": "BIGINT"}

APPENDING = {
    "tumbling window": Form(
        "SELECT window_start, visitor, COUNT(*) "
        "FROM TABLE(TUMBLE(TABLE {clicks}, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) "
        "GROUP BY window_start, window_end, visitor",
        _WINDOWED,
        [(_at(0), "ann", 2), (_at(0), "bob", 1), (_at(1), "ann", 1), (_at(2), "bob", 1)],
    ),
    "tumbling window as it was written for Flink 1.9": Form(
        "SELECT TUMBLE_START(ts, INTERVAL '1' MINUTE), visitor, COUNT(*) FROM {clicks} "
        "GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), visitor",
        _WINDOWED,
        [(_at(0), "ann", 2), (_at(0), "bob", 1), (_at(1), "ann", 1), (_at(2), "bob", 1)],
    ),
    "hopping window": Form(
        "SELECT window_start, visitor, SUM(n) FROM TABLE(HOP(TABLE {clicks}, DESCRIPTOR(ts), INTERVAL '1' MINUTE, "
        "INTERVAL '2' MINUTE)) WHERE visitor = 'ann' GROUP BY window_start, window_end, visitor",
        {"w": "TIMESTAMP(3)", "visitor": "STRING", "n": "INT"},
        [("2025-12-31 23:59:00", "ann", 6), (_at(0), "ann", 10), (_at(1), "ann", 4)],
    ),
    "session window": Form(
        "SELECT window_start, visitor, COUNT(*) "
        "FROM TABLE(SESSION(TABLE {clicks} PARTITION BY visitor, DESCRIPTOR(ts), "
        "INTERVAL '55' SECOND)) GROUP BY window_start, window_end, visitor",
        _WINDOWED,
        [(_at(0, 5), "ann", 3), (_at(0, 50), "bob", 1), (_at(2, 30), "bob", 1)],
    ),
    "interval join": Form(
        "SELECT c.visitor, c.page, o.amount FROM {clicks} c JOIN {orders} o ON c.visitor = o.visitor "
        "AND o.ts BETWEEN c.ts AND c.ts + INTERVAL '30' SECOND AND c.visitor <> 'end'",
        {"visitor": "STRING", "page": "STRING", "amount": "DOUBLE"},
        [("ann", "home", 10.0), ("ann", "shop", 10.0)],
    ),
    "regular join": Form(
        "SELECT c.page, o.amount FROM {clicks} c, {orders} o WHERE c.visitor = o.visitor AND c.visitor = 'bob'",
        {"page": "STRING", "amount": "DOUBLE"},
        [("home", 20.0), ("shop", 20.0)],
    ),
    "running total": Form(
        "SELECT visitor, SUM(n) OVER (PARTITION BY visitor ORDER BY ts "
        "RANGE BETWEEN INTERVAL '30' SECOND PRECEDING AND CURRENT ROW) FROM {clicks} WHERE visitor IN ('ann', 'end')",
        {"visitor": "STRING", "n": "INT"},
        [("ann", 1), ("ann", 6), ("ann", 4), ("end", 0)],
    ),
    "union": Form(
        "SELECT visitor FROM {clicks} WHERE n > 3 UNION ALL SELECT visitor FROM {orders} WHERE amount > 10",
        {"visitor": "STRING"},
        [("ann",), ("ann",), ("bob",)],
    ),
    "pattern": Form(
        "SELECT * FROM {clicks} MATCH_RECOGNIZE (PARTITION BY visitor ORDER BY ts "
        "MEASURES A.n AS a, B.n AS b ONE ROW PER MATCH "
        "AFTER MATCH SKIP PAST LAST ROW PATTERN (A B) DEFINE A AS A.page = 'home', B AS B.page = 'shop')",
        {"visitor": "STRING", "a": "INT", "b": "INT"},
        [("ann", 1, 5), ("bob", 3, 2)],
    ),
    "insert with a list of columns": Form(
        "INSERT INTO {{sink}} (n, visitor) SELECT n, visitor FROM {clicks} WHERE n = 5",
        {"visitor": "STRING", "n": "INT"},
        [("ann", 5)],
    ),
}

UPSERTING = {
    "top-n": Form(
        "SELECT page, visitor, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY page ORDER BY n DESC) AS place "
        "FROM {clicks} WHERE page <> 'end') WHERE place <= 1",
        {"page": "STRING", "visitor": "STRING", "n": "INT"},
        [("home", "ann", 4), ("shop", "ann", 5)],
    ),
    "first row of each": Form(
        "SELECT visitor, page, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts ASC) AS place "
        "FROM {clicks} WHERE visitor <> 'end') WHERE place = 1",
        {"visitor": "STRING", "page": "STRING", "n": "INT"},
        [("ann", "home", 1), ("bob", "home", 3)],
    ),
    "page views and visitors by the hour": Form(
        "SELECT DATE_FORMAT(ts, 'yyyy-MM-dd HH:00'), COUNT(*), COUNT(DISTINCT visitor) FROM {clicks} "
        "WHERE visitor <> 'end' GROUP BY DATE_FORMAT(ts, 'yyyy-MM-dd HH:00')",
        {"hr": "STRING", "pv": "BIGINT", "uv": "BIGINT"},
        [("2026-01-01 00:00", 5, 2)],
    ),
}
_POSTGRESQL = {"STRING": "text", "INT": "int", "BIGINT": "bigint", "DOUBLE": "double precision"}


def _sorted(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in rows)


@pytest.mark.parametrize("name", APPENDING)
def test_rows_that_are_only_added_arrive_in_kafka(
    shop: Shop, kafka_topic: Callable[..., str], consume: Callable[..., list[Any]], name: str
) -> None:
    form, topic = APPENDING[name], kafka_topic("out")
    alias = f"out_{uuid.uuid4().hex[:8]}"
    sink = shop.api.kafka_sink(alias, topic, form.columns)
    job_id = shop.start(sink, form.statement.replace("{{sink}}", alias))
    found = consume(topic, len(form.rows), timeout=60)
    shop.stop(job_id)

    assert _sorted([tuple(row.values()) for row in found]) == _sorted(form.rows)
    assert len(consume(topic, None)) == len(form.rows)


@pytest.mark.parametrize("name", UPSERTING)
def test_rows_that_change_are_right_at_the_end_in_postgresql(
    shop: Shop, pg_table: Callable[..., str], postgres: Callable[[], Any], name: str
) -> None:
    form = UPSERTING[name]
    columns = [f"{column} {_POSTGRESQL[kind]}" for column, kind in form.columns.items()]
    table = pg_table(f"{columns[0]} primary key, {', '.join(columns[1:])}")
    key = next(iter(form.columns))
    sink = shop.api.postgresql(
        f"out_{uuid.uuid4().hex[:8]}", "sink", table, form.columns, primary_key=key, flush_interval="100"
    )
    job_id = shop.start(sink, form.statement)
    connection, deadline = postgres(), time.monotonic() + 60
    while _sorted(found := connection.execute(f"SELECT * FROM {table}".encode()).fetchall()) != _sorted(form.rows):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    shop.stop(job_id)


@pytest.fixture
def names(shop: Shop, pg_table: Callable[..., str]) -> tuple[str, int]:
    """A side table with the visitors' full names: what SQL calls it, and its id."""
    alias = f"names_{uuid.uuid4().hex[:8]}"
    table = pg_table("k text primary key, name text", [("ann", "Ann Lee"), ("bob", "Bob May"), ("end", "End")])
    columns = {"k": {"flinkType": "STRING", "joinKey": 1}, "name": "STRING"}
    return alias, shop.api.postgresql(alias, "side", table, columns, cacheType="W_TinyLFU")


LOOKING_UP = {
    "a lookup in a query that is windowed": (
        "WITH named AS (SELECT s.name, c.ts FROM {clicks} c JOIN {names} s ON c.visitor = s.k) "
        "SELECT window_start, name, COUNT(*) FROM TABLE(TUMBLE(TABLE named, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) "
        "GROUP BY window_start, window_end, name"
    ),
    "a lookup of what a window gave": (
        "SELECT w.window_start, s.name, w.n FROM (SELECT window_start, visitor, COUNT(*) AS n "
        "FROM TABLE(TUMBLE(TABLE {clicks}, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) "
        "GROUP BY window_start, window_end, visitor) w JOIN {names} s ON w.visitor = s.k"
    ),
}


@pytest.mark.parametrize("name", LOOKING_UP)
def test_lookups_go_with_windows(
    shop: Shop,
    names: tuple[str, int],
    kafka_topic: Callable[..., str],
    consume: Callable[..., list[Any]],
    name: str,
) -> None:
    topic = kafka_topic("out")
    columns = {"w": "TIMESTAMP(3)", "name": "STRING", "n": "BIGINT"}
    sink = shop.api.kafka_sink(f"out_{uuid.uuid4().hex[:8]}", topic, columns)
    statement = LOOKING_UP[name].replace("{names}", names[0])
    job_id = shop.start(sink, statement, names[1])
    found = consume(topic, 4, timeout=60)
    shop.stop(job_id)

    expected = [(_at(0), "Ann Lee", 2), (_at(0), "Bob May", 1), (_at(1), "Ann Lee", 1), (_at(2), "Bob May", 1)]
    assert _sorted([tuple(row.values()) for row in found]) == _sorted(expected)


def test_given_a_pattern_with_an_offset_when_it_would_be_ignored_then_the_right_form_is_told(shop: Shop) -> None:
    call = "TO_TIMESTAMP_LTZ(page, 'yyyy-MM-dd''T''HH:mm:ss[XXX]')"
    sink = shop.api.kafka_sink(f"out_{uuid.uuid4().hex[:8]}", "nowhere", {"t": "TIMESTAMP_LTZ(3)"})
    body = shop.api.job("offsets", list(shop.sources), {sink: shop.sql(f"SELECT {call} FROM {{clicks}}")})
    (problem,) = shop.api.refused("POST", "/jobs/validate", json=body)["problems"]
    assert (problem["line"], problem["column"]) == (1, 8)
    assert "ignores it" in problem["message"]
    assert "rfc3339" in problem["remedy"]

    refusal = shop.api.refused(
        "POST",
        "/ds/addDO",
        json={
            "dsName": "offsets",
            "tableName": f"offsets_{shop.tag}",
            "dsType": "source",
            "tableType": "kafka",
            "dsSchemaColumnVOS": [{"name": "page", "flinkType": "STRING"}, {"name": "t", "expression": call}],
            "jsonFieldVO": {
                "jsonValue": [
                    {"fieldName": "bootstrap_servers", "fieldValue": "localhost:9092"},
                    {"fieldName": "connector_topic", "fieldValue": "x"},
                    {"fieldName": "group_id", "fieldValue": "x"},
                ]
            },
        },
    )
    assert "ignores it" in refusal["msg"]
