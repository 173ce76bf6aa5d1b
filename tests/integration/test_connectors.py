"""Side tables and sinks at work: definitions over HTTP in, rows of a real Flink out."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import psycopg
import pytest

from stream_jobs.local import ports
from stream_jobs.local.endpoints import Endpoints
from tests.databases import mysql_server
from tests.services import Api, Json

NewTopic = Callable[..., str]
Produce = Callable[..., None]
Consume = Callable[..., list[Any]]

KEY = {"flinkType": "STRING", "joinKey": 1}
ROWTIME = {"flinkType": "TIMESTAMP(3)", "eventTime": 1}
CACHE = {"cacheType": "W_TinyLFU", "maximumSize": "100", "expireAfterWrite": "600"}


@dataclass(frozen=True)
class Database:
    """A database that tests read and write: its kind, the fields of a connector to it, a way to ask it."""

    kind: str
    fields: Json
    execute: Callable[[str], list[tuple[Any, ...]]]

    def table(self, api: Api, alias: str, role: str, name: str, columns: Json, **more: str) -> int:
        return api.table(alias, role, self.kind, columns, table_name=name, **(self.fields | more))


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with mysql_server(tmp_path_factory.mktemp("mysql")) as server:
        fields = {
            "connector_url": server.jdbc_url,
            "connector_username": server.user,
            "connector_password": server.password,
        }
        yield Database("mysql", fields, server.execute)


@pytest.fixture(scope="module")
def postgresql(endpoints: Endpoints) -> Iterator[Database]:
    server = endpoints.postgres
    fields = {
        "connector_url": server.jdbc_url,
        "connector_username": server.user,
        "connector_password": server.password,
    }
    with psycopg.connect(**server.parameters(), autocommit=True) as connection:

        def execute(statement: str) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        yield Database("postgresql", fields, execute)


@pytest.fixture(params=["mysql", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex[:8]


@contextmanager
def running(api: Api, body: Json) -> Iterator[int]:
    """A stored job that runs; cancelled at the end."""
    job_id = api.ok("POST", "/jobs/addDO", json=body)["id"]
    api.run(job_id)
    try:
        yield job_id
    finally:
        api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


@dataclass
class Lookups:
    """A server of side-table rows: the answers by their query, and how often each was asked for."""

    rows: dict[str, Json]
    charset: str = "utf-8"
    token: str = ""
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self.token and request.headers["Authorization"] != self.token:
            request.send_error(401)
            return
        query = urlsplit(request.path).query
        key = ",".join(f"{name}={value}" for name, value in sorted(parse_qsl(query)))
        if "k=" in key:  # not what the service asks before it runs a job
            self.asked[key] += 1
        row = self.rows.get(key)
        body = b"" if row is None else json.dumps(row, ensure_ascii=False).encode(self.charset)
        request.send_response(404 if row is None else 200)
        request.send_header("Content-Type", f"application/json; charset={self.charset}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@contextmanager
def serving(lookups: Lookups) -> Iterator[Lookups]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            lookups.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    lookups.url = f"http://127.0.0.1:{server.server_port}/rows"
    try:
        yield lookups
    finally:
        server.shutdown()
        server.server_close()


def events(api: Api, tag: str, topic: str) -> int:
    columns = {"k": "STRING", "j": "INT", "ts": ROWTIME}
    return api.kafka_source(f"events_{tag}", topic, columns)


def event(key: str, second: int, number: int = 0) -> Json:
    return {"k": key, "j": number, "ts": f"2026-01-01 00:{second // 60:02d}:{second % 60:02d}"}


def test_given_a_side_table_at_an_address_when_rows_look_it_up_then_its_cache_asks_once_a_key(
    api: Api, tag: str, kafka_topic: NewTopic, produce: Produce, consume: Consume
) -> None:
    rows = {"j=1,k=a b": {"k": "a b", "j": 1, "who": {"name": "阿尔法", "tags": ["x", "y"]}}}
    topic, out_topic = kafka_topic("events"), kafka_topic("out")
    columns = {"k": KEY, "j": {"flinkType": "INT", "joinKey": 1}, "who": "ROW<name STRING, tags ARRAY<STRING>>"}
    out = api.kafka_sink(f"out_{tag}", out_topic, {"k": "STRING", "name": "STRING", "tag": "STRING"})
    with serving(Lookups(rows, charset="gbk", token="Bearer t0ken")) as server:
        fields = {"requestUrl": server.url, "charSet": "gbk", "headers": "Authorization=Bearer t0ken", **CACHE}
        side = api.table(f"rows_{tag}", "side", "http", columns, **fields)
        join = f"events_{tag} e LEFT JOIN rows_{tag} r ON r.k = e.k AND r.j = e.j"
        sql = f"SELECT e.k, r.who.name, r.who.tags[2] FROM {join}"
        produce(topic, [event("a b", 0, 1)] * 20 + [event("nobody", 1, 1)] * 5)
        with running(api, api.job(f"http {tag}", [events(api, tag, topic), side], {out: sql})):
            found = consume(out_topic, 25, timeout=60)
        assert found[0] == {"k": "a b", "name": "阿尔法", "tag": "y"}
        assert found[-1] == {"k": "nobody", "name": None, "tag": None}
        assert server.asked == {"j=1,k=a b": 1, "j=1,k=nobody": 1}


def test_given_no_cache_when_rows_look_an_address_up_then_each_asks(
    api: Api, tag: str, kafka_topic: NewTopic, produce: Produce, consume: Consume
) -> None:
    topic, out_topic = kafka_topic("events"), kafka_topic("out")
    out = api.kafka_sink(f"out_{tag}", out_topic, {"k": "STRING", "name": "STRING"})
    with serving(Lookups({"k=a": {"k": "a", "name": "Alpha"}})) as server:
        columns = {"k": KEY, "name": "STRING"}
        side = api.table(f"rows_{tag}", "side", "http", columns, requestUrl=f"{server.url}?kind=1")
        server.rows["k=a,kind=1"] = server.rows["k=a"]
        produce(topic, [event("a", 0), event("b", 1), event("a", 2)])
        sql = f"SELECT e.k, r.name FROM events_{tag} e JOIN rows_{tag} r ON r.k = e.k"
        with running(api, api.job(f"http {tag}", [events(api, tag, topic), side], {out: sql})):
            assert consume(out_topic, 2, timeout=60) == [{"k": "a", "name": "Alpha"}] * 2
        assert server.asked == {"k=a,kind=1": 2, "k=b,kind=1": 1}


def side_topic(api: Api, alias: str, topic: str, columns: Json, **fields: str) -> int:
    values = {
        "bootstrap_servers": api.endpoints.kafka_bootstrap,
        "connector_topic": topic,
        "group_id": "tests",
        "key_format": "raw",
    }
    return api.table(alias, "side", "kafka", columns, **(values | fields))


@pytest.mark.parametrize(("key_format", "key"), [("raw", "a"), ("json", '{"k": "a"}')])
def test_given_a_topic_of_versions_when_rows_look_it_up_then_each_finds_that_of_its_own_time_and_none_waits(
    api: Api, tag: str, key_format: str, key: str, kafka_topic: NewTopic, produce: Produce, consume: Consume
) -> None:
    topic, prices, out_topic = kafka_topic("events"), kafka_topic("prices"), kafka_topic("out")
    for price in (1, 2):
        row = {"k": "a", "price": price, "since": f"2026-01-01 00:0{price - 1}:00", "key": key}
        produce(prices, [row], key="key")
    produce(topic, [event("a", 30), event("a", 90), event("b", 91)])
    columns = {"k": KEY, "price": "INT", "since": ROWTIME}
    versioned = {"side_mode": "versioned", "idle_timeout": "1000", "key_format": key_format}
    side = side_topic(api, f"prices_{tag}", prices, columns, **versioned)
    out = api.kafka_sink(f"out_{tag}", out_topic, {"k": "STRING", "price": "INT"})
    sql = f"SELECT e.k, p.price FROM events_{tag} e LEFT JOIN prices_{tag} p ON p.k = e.k"
    with running(api, api.job(f"versions {tag}", [events(api, tag, topic), side], {out: sql})):
        # The topic ends at 00:01: only because it counts as idle is the row of 00:01:30 not held back.
        found = consume(out_topic, 3, timeout=60)
    assert sorted(found, key=str) == [{"k": "a", "price": 1}, {"k": "a", "price": 2}, {"k": "b", "price": None}]


def test_given_a_topic_of_latest_values_when_rows_look_it_up_then_nothing_waits_and_no_row_is_changed_later(
    api: Api, tag: str, kafka_topic: NewTopic, produce: Produce, consume: Consume
) -> None:
    topic, names, out_topic = kafka_topic("events"), kafka_topic("names"), kafka_topic("out")
    produce(names, [{"k": "a", "name": "first"}, {"k": "b", "name": "Beta"}], key="k")
    side = side_topic(api, f"names_{tag}", names, {"k": KEY, "name": "STRING"})
    out = api.kafka_sink(f"out_{tag}", out_topic, {"k": "STRING", "j": "INT", "name": "STRING"})
    sql = f"SELECT e.k, e.j, n.name FROM events_{tag} e LEFT JOIN names_{tag} n ON n.k = e.k"
    with running(api, api.job(f"latest {tag}", [events(api, tag, topic), side], {out: sql})):
        # The two topics are read side by side: ask until the name has come.
        number = ask_until(produce, consume, topic, out_topic, "a", "first", 0)
        produce(names, [{"k": "a", "name": "second"}], key="k")
        number = ask_until(produce, consume, topic, out_topic, "a", "second", number)
        found = consume(out_topic, None)
    assert [row["j"] for row in found] == list(range(1, number + 1)), "one row for each, and none again"


def ask_until(produce: Produce, consume: Consume, topic: str, out_topic: str, key: str, name: str, number: int) -> int:
    """Sends rows, one after the other, until one comes out with that name; the number of the last."""
    deadline = time.monotonic() + 60
    while True:
        number += 1
        produce(topic, [event(key, number, number)])
        found = consume(out_topic, number, timeout=60)[-1]
        assert found["j"] == number
        if found["name"] == name:
            return number
        assert time.monotonic() < deadline, found


def test_given_a_database_with_a_cache_when_rows_look_it_up_then_what_was_read_once_stays(
    api: Api, tag: str, database: Database, kafka_topic: NewTopic, produce: Produce, consume: Consume
) -> None:
    database.execute(f"CREATE TABLE names_{tag} (k varchar(20) primary key, name varchar(20))")
    database.execute(f"INSERT INTO names_{tag} VALUES ('a', 'before')")
    topic, out_topic = kafka_topic("events"), kafka_topic("out")
    columns = {"k": KEY, "name": "STRING"}
    cached = database.table(api, f"cached_{tag}", "side", f"names_{tag}", columns, **CACHE)
    fresh = database.table(api, f"fresh_{tag}", "side", f"names_{tag}", columns)
    out = api.kafka_sink(f"out_{tag}", out_topic, {"cached": "STRING", "fresh": "STRING"})
    sql = (
        f"SELECT c.name, f.name FROM events_{tag} e "
        f"JOIN cached_{tag} c ON c.k = e.k LEFT JOIN fresh_{tag} f ON f.k = e.k"
    )
    produce(topic, [event("a", 0), event("nobody", 1)])
    with running(api, api.job(f"lookup {tag}", [events(api, tag, topic), cached, fresh], {out: sql})):
        consume(out_topic, 1, timeout=60)
        database.execute(f"UPDATE names_{tag} SET name = 'after'")
        produce(topic, [event("a", 2)])
        assert consume(out_topic, 2, timeout=60) == [
            {"cached": "before", "fresh": "before"},
            {"cached": "before", "fresh": "after"},
        ]


MANY_TYPES = {
    "mysql": {
        "id": ("int primary key", "1", "INT", "1"),
        "big": ("bigint", "-5", "BIGINT", "-5"),
        "huge": ("bigint unsigned", "18446744073709551615", "DECIMAL(20, 0)", "18446744073709551615"),
        "small": ("smallint", "7", "INT", "7"),
        "price": ("decimal(10,2)", "12.50", "DECIMAL(10, 2)", "12.50"),
        "ratio": ("double", "0.25", "DOUBLE", "0.25"),
        "flag": ("tinyint(1)", "1", "BOOLEAN", "TRUE"),
        "name": ("varchar(20)", "'ä'", "STRING", "ä"),
        "day": ("date", "'2026-01-31'", "DATE", "2026-01-31"),
        "moment": ("datetime(3)", "'2026-01-31 10:20:30.5'", "TIMESTAMP(6)", "2026-01-31 10:20:30.500000"),
    },
    "postgresql": {
        "id": ("integer primary key", "1", "INT", "1"),
        "big": ("bigint", "-5", "BIGINT", "-5"),
        "small": ("smallint", "7", "INT", "7"),
        "price": ("numeric(10,2)", "12.50", "DECIMAL(10, 2)", "12.50"),
        "ratio": ("double precision", "0.25", "DOUBLE", "0.25"),
        "flag": ("boolean", "true", "BOOLEAN", "TRUE"),
        "name": ("varchar(20)", "'ä'", "STRING", "ä"),
        "day": ("date", "'2026-01-31'", "DATE", "2026-01-31"),
        "moment": ("timestamp(3)", "'2026-01-31 10:20:30.5'", "TIMESTAMP(6)", "2026-01-31 10:20:30.500000"),
    },
}


def test_given_what_a_look_at_a_database_proposes_when_a_side_table_is_defined_so_then_its_values_are_read(
    api: Api, tag: str, database: Database, kafka_topic: NewTopic, produce: Produce, consume: Consume
) -> None:
    columns = MANY_TYPES[database.kind]
    database.execute(f"CREATE TABLE many_{tag} ({', '.join(f'{name} {it[0]}' for name, it in columns.items())})")
    database.execute(f"INSERT INTO many_{tag} VALUES ({', '.join(it[1] for it in columns.values())})")
    fields = [{"fieldName": name, "fieldValue": value} for name, value in database.fields.items()]
    fields.append({"fieldName": "table_name", "fieldValue": f"many_{tag}"})
    look = {"dsType": "side", "tableType": database.kind, "jsonFieldVO": {"jsonValue": fields}}
    proposed = api.ok("POST", "/ds/test", json=look)["dsSchemaColumnVOS"]
    assert {column["name"]: column["flinkType"] for column in proposed} == {n: it[2] for n, it in columns.items()}
    assert [column["name"] for column in proposed if column["joinKey"]] == ["id"]

    side = database.table(api, f"many_{tag}", "side", f"many_{tag}", {column["name"]: column for column in proposed})
    topic, out_topic = kafka_topic("events"), kafka_topic("out")
    out = api.kafka_sink(f"out_{tag}", out_topic, dict.fromkeys(columns, "STRING"))
    values = ", ".join(f"CAST(m.`{name}` AS STRING)" for name in columns)
    sql = f"SELECT {values} FROM events_{tag} e JOIN many_{tag} m ON m.id = e.j"
    produce(topic, [event("a", 0, 1)])
    with running(api, api.job(f"many {tag}", [events(api, tag, topic), side], {out: sql})):
        assert consume(out_topic, 1, timeout=60) == [{name: it[3] for name, it in columns.items()}]


@pytest.mark.parametrize("declared", ["named in the definition", "taken from the database"])
def test_given_a_statement_that_changes_rows_when_its_sink_is_a_database_then_it_is_written_by_key(
    api: Api, tag: str, database: Database, declared: str, kafka_topic: NewTopic, produce: Produce
) -> None:
    database.execute(f"CREATE TABLE totals_{tag} (K varchar(20) primary key, n bigint)")
    topic = kafka_topic("events")
    key = {"primary_key": "k"} if declared == "named in the definition" else {}
    columns = {"k": "STRING", "n": "BIGINT"}
    totals = database.table(
        api, f"totals_{tag}", "sink", f"totals_{tag}", columns, write_max_rows="2", flush_interval="100", **key
    )
    produce(topic, [event("ab"[n % 2], n) for n in range(11)])
    sql = f"SELECT k, COUNT(*) FROM events_{tag} GROUP BY k"
    with running(api, api.job(f"totals {tag}", [events(api, tag, topic)], {totals: sql})):
        deadline = time.monotonic() + 60
        while sorted(found := database.execute(f"SELECT * FROM totals_{tag}")) != [("a", 6), ("b", 5)]:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


def test_given_no_key_anywhere_when_a_statement_changes_rows_then_the_refusal_says_what_to_do(
    api: Api, tag: str, postgresql: Database, kafka_topic: NewTopic
) -> None:
    postgresql.execute(f"CREATE TABLE bare_{tag} (k text, n bigint)")
    postgresql.execute(f"CREATE TABLE wide_{tag} (k text, day date, n bigint, primary key (k, day))")
    source = events(api, tag, kafka_topic("events"))
    columns = {"k": "STRING", "n": "BIGINT"}

    def refusal(alias: str, name: str, **fields: str) -> str:
        sink = postgresql.table(api, f"{alias}_{tag}", "sink", name, columns, **fields)
        sql = f"SELECT k, COUNT(*) FROM events_{tag} GROUP BY k"
        answer = api.refused("POST", "/jobs/validate", json=api.job(f"{alias} {tag}", [source], {sink: sql}))
        (problem,) = answer["problems"]
        assert problem["table"] == f"{alias}_{tag}"
        return f"{problem['message']} {problem['remedy']}"

    assert "has no primary key, nor a single unique index" in refusal("bare", f"bare_{tag}")
    assert "own key is k, day, and the definition does not write day. Add column day" in refusal("wide", f"wide_{tag}")
    gone = refusal("gone", "t", connector_url=f"jdbc:postgresql://127.0.0.1:{ports.choose(set())}/x")
    assert "Its database could not be asked for its key: no database answers at" in gone
    oracle = api.table(
        f"oracle_{tag}",
        "sink",
        "oracle",
        columns,
        table_name="T",
        **(postgresql.fields | {"connector_url": "jdbc:oracle:thin:@//db:1521/shop"}),
    )
    sql = f"SELECT k, COUNT(*) FROM events_{tag} GROUP BY k"
    answer = api.refused("POST", "/jobs/validate", json=api.job(f"oracle {tag}", [source], {oracle: sql}))
    assert "Its database was not asked for its key" in answer["msg"]


def test_given_oracle_when_a_job_reads_and_writes_it_then_it_is_planned_and_its_driver_loads(
    api: Api, tag: str, endpoints: Endpoints, kafka_topic: NewTopic
) -> None:
    fields = {
        "connector_url": "jdbc:oracle:thin:@//127.0.0.1:1521/shop",
        "connector_username": "u",
        "connector_password": "p",
    }
    oracle = Database("oracle", fields, lambda _: [])
    side = oracle.table(api, f"side_{tag}", "side", "NAMES", {"k": KEY, "name": "STRING"}, **CACHE)
    sink = oracle.table(api, f"sink_{tag}", "sink", "T", {"k": "STRING", "n": "BIGINT"}, primary_key="k")
    source = events(api, tag, kafka_topic("events"))
    sql = f"SELECT s.name, COUNT(*) FROM events_{tag} e JOIN side_{tag} s ON s.k = e.k GROUP BY s.name"
    body = api.job(f"oracle {tag}", [source, side], {sink: sql})
    data = api.ok("POST", "/jobs/validate", params={"explain": "true"}, json=body)
    assert "LookupJoin" in data["explanation"]
    # No server is to be had. That the driver is there shows in how it fails: it tries to connect.
    job_id = api.ok("POST", "/jobs/addDO", json=body)["id"]
    flink_id = api.ok("POST", f"/jobs/run/{job_id}")["flinkJobId"]
    try:
        deadline = time.monotonic() + 60
        while "ORA-12541" not in (shown := httpx.get(f"{endpoints.flink_url}/jobs/{flink_id}/exceptions").text):
            assert time.monotonic() < deadline, shown
            time.sleep(0.3)
    finally:
        api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


def test_given_a_job_that_uses_a_table_when_it_is_edited_or_removed_then_the_job_is_named(
    api: Api, tag: str, kafka_topic: NewTopic
) -> None:
    source, unused = events(api, tag, kafka_topic("events")), events(api, f"unused_{tag}", kafka_topic("events"))
    out = api.kafka_sink(f"out_{tag}", kafka_topic("out"), {"k": "STRING"})
    name = f"uses {tag}"
    with running(api, api.job(name, [source], {out: f"SELECT k FROM events_{tag}"})) as job_id:
        shown = api.ok("GET", "/ds/get", params={"id": out})
        values = {field["fieldName"]: field for field in shown["jsonFieldVO"]["jsonValue"]}
        values["connector_sink_partitione"]["fieldValue"] = "fixed"
        answer = api.call("PUT", "/ds/modifyDO", json=shown)
        assert answer["data"]["jobs"] == [{"jobId": job_id, "jobName": name, "running": True}]
        assert answer["msg"] == (
            f"used by '{name}': the edit takes effect with the next run; state survives: only what the table connects "
            f"to has changed; running with the version before: '{name}'"
        )
        refused = api.refused("DELETE", "/ds/removeDO", params={"id": source})
        assert (refused["code"], refused["jobs"]) == (0, [job_id])
        assert f"Table 'events_{tag}' is used by job '{name}' (running)" in refused["msg"]
        api.ok("DELETE", "/ds/removeDO", params={"id": unused})
    api.wait_for(job_id, 2)
    shown["tableName"] = f"renamed_{tag}"
    shown["dsSchemaColumnVOS"].append({"name": "n", "flinkType": "INT"})
    answer = api.call("PUT", "/ds/modifyDO", json=shown)
    assert (answer["data"]["state"], answer["data"]["jobs"][0]["running"]) == ("uncertain", False)
    assert f"statements still say 'out_{tag}': correct them" in answer["msg"]
    assert "is used by" in api.refused("DELETE", "/ds/removeDO", params={"id": out})["msg"]


def test_given_no_event_time_when_latest_values_are_joined_then_an_upsert_sink_follows_each_change(
    api: Api, tag: str, kafka_topic: NewTopic, produce: Produce, postgresql: Database
) -> None:
    postgresql.execute(f"CREATE TABLE latest_{tag} (k text primary key, name text)")
    topic, names = kafka_topic("events"), kafka_topic("names")
    produce(topic, [{"k": "a"}])
    produce(names, [{"k": "a", "name": "first"}], key="k")
    source = api.kafka_source(f"events_{tag}", topic, {"k": "STRING"})
    side = side_topic(api, f"names_{tag}", names, {"k": KEY, "name": "STRING"})
    sink = postgresql.table(
        api, f"latest_{tag}", "sink", f"latest_{tag}", {"k": "STRING", "name": "STRING"}, flush_interval="100"
    )
    sql = f"SELECT e.k, n.name FROM events_{tag} e JOIN names_{tag} n ON n.k = e.k"
    with running(api, api.job(f"follow {tag}", [source, side], {sink: sql})):
        for name in ("first", "second"):
            produce(names, [{"k": "a", "name": name}], key="k")
            deadline = time.monotonic() + 60
            while (found := postgresql.execute(f"SELECT * FROM latest_{tag}")) != [("a", name)]:
                assert time.monotonic() < deadline, found
                time.sleep(0.1)


def test_given_an_expression_that_is_none_when_a_table_is_defined_then_the_column_is_named(api: Api, tag: str) -> None:
    columns = {"k": "STRING", "up": {"expression": "UPPER(k"}, "two": {"expression": "k, k"}}
    body = {
        "dsName": tag,
        "tableName": f"odd_{tag}",
        "dsType": "source",
        "tableType": "kafka",
        "dsSchemaColumnVOS": [
            {"name": name, **({"flinkType": what} if isinstance(what, str) else what)} for name, what in columns.items()
        ],
        "jsonFieldVO": {
            "jsonValue": [
                {"fieldName": name, "fieldValue": value}
                for name, value in {"bootstrap_servers": "k:1", "connector_topic": "t", "group_id": "g"}.items()
            ]
        },
    }
    answer = api.refused("POST", "/ds/addDO", json=body)
    assert [problem["field"] for problem in answer["problems"]] == ["up", "two"]
    assert "the expression 'UPPER(k' cannot be read" in answer["msg"]
    assert "'k, k' cannot be read: it is not a single expression" in answer["msg"]
