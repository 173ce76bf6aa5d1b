"""The functions that ship with the product, called by SQL on a real Flink, without registration."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from stream_jobs import shipped
from stream_jobs.definitions import Column, Job, KafkaSink, KafkaSource, Role, Startup, Statement, Table
from stream_jobs.java import compiled_jar
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.planner.client import Planner
from stream_jobs.planner.functions import prepare
from stream_jobs.planner.plan import plan
from stream_jobs.rest import Cluster
from tests.planners import planner_config
from tests.services import Api, Json

CATALOGUE = json.loads((shipped.FOLDER / "functions.json").read_text("utf-8"))["functions"]
SCHEMA = json.loads((shipped.FOLDER / "functions.schema.json").read_text("utf-8"))
EXAMPLES = {one["name"]: one for one in CATALOGUE}

UA = {
    "wechat": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Mobile/15E148 MicroMessenger/8.0.49 NetType/WIFI Language/zh_CN",
    "edge": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.2592.61",
    "tablet": "Mozilla/5.0 (Linux; Android 14; SM-X710) AppleWebKit/537.36 (KHTML, like Gecko) "
    "SamsungBrowser/25.0 Chrome/121.0.0.0 Safari/537.36",
    "bot": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "nobody": "-",
}

SCALARS: dict[str, tuple[str, str | None]] = {
    **{one["name"]: (one["example"], one["result"]) for one in CATALOGUE if one["kind"] == "SCALAR"},
    "hash of nothing": ("HASH_ID(CAST(NULL AS STRING), 'salt')", None),
    "hash by column": ("HASH_ID(k, 'salt') || ''", "cf52da609119d9a8e4d35e7108d7b358e2a2fe3835e25cdad26a7e53c3c33883"),
    "mask": ("MASK(k || '-12345678')", "******5678"),
    "mask short": ("MASK('abc')", "***"),
    "mask wide": ("MASK('张三丰先生', 1, 1)", "张***生"),
    "geohash south-west": ("GEOHASH(-33.8688, -70.6693, 5)", "63vxr"),
    "geohash off the earth": ("GEOHASH(91.0, 0.0, 5)", None),
    "wechat": (f"CAST(UA_PARSE('{UA['wechat']}') AS STRING)", "(WeChat, 8.0.49, iOS, 17.5, mobile)"),
    "edge": (f"CAST(UA_PARSE('{UA['edge']}') AS STRING)", "(Edge, 126.0.2592.61, macOS, 10.15.7, desktop)"),
    "tablet": (f"CAST(UA_PARSE('{UA['tablet']}') AS STRING)", "(Samsung Internet, 25.0, Android, 14, tablet)"),
    "bot": (f"UA_PARSE('{UA['bot']}').device", "bot"),
    "nobody": (f"CAST(UA_PARSE('{UA['nobody']}') AS STRING)", "(NULL, NULL, NULL, NULL, NULL)"),
    "path to objects": ("JSON_PATH_ALL('{\"a\": [{\"b\": 1}, 2, null]}', '$.a[*]')[1]", '{"b":1}'),
    "path to nothing": ("CAST(CARDINALITY(JSON_PATH_ALL('{}', '$..x')) AS STRING)", "0"),
    "path in no json": ("CAST(CARDINALITY(JSON_PATH_ALL('{nonsense', '$.a')) AS STRING)", None),
    "bucket of milliseconds": (
        "CAST(TIME_BUCKET(CAST(1767264123456 AS BIGINT), '10 seconds') AS STRING)",
        "1767264120000",
    ),
    "bucket of days": (
        "CAST(TIME_BUCKET(TIMESTAMP '1969-12-31 23:00:00', '1 day') AS STRING)",
        "1969-12-31 00:00:00.000",
    ),
    "bucket of weeks": (
        "CAST(TIME_BUCKET(TIMESTAMP '2026-01-01 10:00:00', '1 week') AS STRING)",
        "2025-12-29 00:00:00.000",
    ),
    "bucket of ms": ("CAST(TIME_BUCKET(CAST(1234 AS BIGINT), '500 ms') AS STRING)", "1000"),
}


@pytest.fixture
def run(api: Api, pg_table: Callable[..., str]) -> Iterator[Callable[[Json], int]]:
    """``run(body)`` stores and starts a job that is stopped after the test.

    It asks for ``pg_table``, so that a job ends before its table goes: a sink that cannot write while it is being
    closed ends the whole TaskManager.
    """
    started: list[int] = []

    def start(body: Json) -> int:
        started.append(int(api.ok("POST", "/jobs/addDO", json=body)["id"]))
        api.run(started[-1])
        return started[-1]

    yield start
    for job in started:
        api.call("POST", f"/jobs/cancel/{job}?mode=none")


def test_the_catalogue_is_as_its_schema_says_and_every_class_has_its_source() -> None:
    entry = SCHEMA["properties"]["functions"]["items"]
    for one in CATALOGUE:
        assert set(one) == set(entry["required"]), one["name"]
        assert re.fullmatch(entry["properties"]["name"]["pattern"], one["name"])
        assert one["kind"] in entry["properties"]["kind"]["enum"]
        assert (shipped.FOLDER / "java" / f"{one['class'].replace('.', '/')}.java").is_file()
        assert f"| `{one['name']}" in (shipped.FOLDER / "README.md").read_text("utf-8")


def test_given_nothing_registered_when_a_statement_calls_scalar_functions_then_the_sink_has_what_they_give(
    api: Api,
    run: Callable[[Json], int],
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    consume: Callable[..., list[Any]],
) -> None:
    tag, topic, out_topic = uuid.uuid4().hex[:8], kafka_topic("rows"), kafka_topic("out")
    produce(topic, [{"k": "a"}])
    source = api.kafka_source(f"rows_{tag}", topic, {"k": "STRING"})
    out = api.kafka_sink(f"out_{tag}", out_topic, {f"c{n}": "STRING" for n in range(len(SCALARS))})
    items = ", ".join(expression for expression, _ in SCALARS.values())
    run(api.job(f"scalars {tag}", [source], {out: f"SELECT {items} FROM rows_{tag}"}))
    (row,) = consume(out_topic, 1, timeout=60)
    found = dict(zip(SCALARS, (row[f"c{n}"] for n in range(len(SCALARS))), strict=True))
    assert found == {name: result for name, (_, result) in SCALARS.items()}


def test_given_rows_in_any_order_when_aggregates_run_then_they_are_decayed_and_about_right(
    api: Api,
    run: Callable[[Json], int],
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    pg_table: Callable[..., str],
    postgres: Callable[[], Any],
) -> None:
    tag, topic = uuid.uuid4().hex[:8], kafka_topic("rows")
    table = pg_table("g text primary key, decayed text, few text, many bigint, numbers bigint")
    hours = {"b": ("2026-01-01 12:00:00", 4.0), "a": ("2026-01-01 10:00:00", 8.0)}
    rows = [{"g": "x", "k": k, "t": t, "n": n, "many": None} for k, (t, n) in hours.items()]
    rows += [{"g": "x", "k": "a", "t": None, "n": None, "many": f"visitor {n}"} for n in range(20_000)]
    produce(topic, rows)
    source = api.kafka_source(
        f"rows_{tag}",
        topic,
        {"g": "STRING", "k": "STRING", "t": "TIMESTAMP(3)", "n": "DOUBLE", "many": "STRING"},
    )
    columns = {"g": "STRING", "decayed": "STRING", "few": "STRING", "many": "BIGINT", "numbers": "BIGINT"}
    sink = api.postgresql(f"out_{tag}", "sink", table, columns, primary_key="g")
    statement = (
        f"SELECT g, {EXAMPLES['DECAYED_SUM']['example']}, {EXAMPLES['APPROX_DISTINCT']['example']}, "
        f"APPROX_DISTINCT(many), APPROX_DISTINCT(CAST(n AS BIGINT)) FROM rows_{tag} GROUP BY g"
    )
    # With checkpoints, so that sketches go through their serializer.
    run(api.job(f"aggregates {tag}", [source], {sink: statement}, checkpointInterval=500, checkpointStatebackendType=2))
    deadline = time.monotonic() + 90
    while True:
        found = postgres().execute(f"SELECT decayed, few, many, numbers FROM {table}").fetchall()
        if found and found[0][2] >= 19_000:
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    decayed, few, many, numbers = found[0]
    assert decayed == EXAMPLES["DECAYED_SUM"]["result"]  # 4, and 8 of two half-lives before
    assert few == EXAMPLES["APPROX_DISTINCT"]["result"]
    assert abs(many - 20_000) < 20_000 * 0.08
    assert numbers == 2


def test_given_a_window_when_distinct_values_are_counted_then_each_window_has_its_own_count(
    api: Api,
    run: Callable[[Json], int],
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    consume: Callable[..., list[Any]],
) -> None:
    tag, topic, out_topic = uuid.uuid4().hex[:8], kafka_topic("rows"), kafka_topic("out")
    times = ["2026-01-01 00:10:00", "2026-01-01 00:20:00", "2026-01-01 01:10:00", "2026-01-01 05:00:00"]
    produce(topic, [{"k": k, "t": t} for t, k in zip(times, "abac", strict=True)])
    source = api.kafka_source(f"rows_{tag}", topic, {"k": "STRING", "t": {"flinkType": "TIMESTAMP(3)", "eventTime": 1}})
    out = api.kafka_sink(f"out_{tag}", out_topic, {"hour": "STRING", "n": "BIGINT"})
    statement = (
        "SELECT CAST(window_start AS STRING), APPROX_DISTINCT(k) "
        f"FROM TUMBLE(TABLE rows_{tag}, DESCRIPTOR(t), INTERVAL '1' HOUR) GROUP BY window_start, window_end"
    )
    run(api.job(f"windows {tag}", [source], {out: statement}))
    rows = consume(out_topic, 2, timeout=60)
    assert sorted((row["hour"], row["n"]) for row in rows) == [
        ("2026-01-01 00:00:00.000", 2),
        ("2026-01-01 01:00:00.000", 1),
    ]


def test_given_wrong_arguments_when_a_job_is_checked_then_the_function_says_what_it_takes(
    api: Api, kafka_topic: Callable[..., str]
) -> None:
    tag, topic = uuid.uuid4().hex[:8], kafka_topic("rows")
    source = api.kafka_source(f"rows_{tag}", topic, {"k": "STRING"})
    out = api.kafka_sink(f"out_{tag}", topic, {"v": "STRING"})

    def refusal(expression: str) -> str:
        body = api.job(f"refused {tag}", [source], {out: f"SELECT {expression} FROM rows_{tag}"})
        return str(api.refused("POST", "/jobs/validate", json=body)["msg"])

    assert "MASK" in refusal("MASK(k, 'a')")
    assert "HASH_ID" in refusal("HASH_ID(k)")


async def test_given_a_cluster_without_our_jar_when_a_job_calls_a_shipped_function_then_the_jar_comes_with_the_job(
    endpoints: Endpoints,
    tmp_path: Path,
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    consume: Callable[..., list[Any]],
) -> None:
    # The stack has our jar, so another version of it is brought: what comes out tells which one ran.
    usual = planner_config(tmp_path)
    shutil.copytree(shipped.FOLDER / "java", tmp_path / "java")
    mask = tmp_path / "java/hlink/udf/Mask.java"
    mask.write_text(mask.read_text().replace('"*"', '"#"'))
    ours = compiled_jar(
        tmp_path / "java", "other", tmp_path, java=usual.java, compiler=usual.compiler, classpath=usual.classpath
    )
    config = replace(usual, shipped_jars=(ours, *usual.shipped_jars[1:]))
    topic, out_topic = kafka_topic("rows"), kafka_topic("out")
    produce(topic, [{"k": "secret-1234"}])
    columns = (Column("k", "STRING"),)
    tables = (
        Table("rows_in", Role.SOURCE, KafkaSource(endpoints.kafka_bootstrap, topic, "g", Startup.EARLIEST), columns),
        Table("rows_out", Role.SINK, KafkaSink(endpoints.kafka_bootstrap, out_topic), columns),
    )
    job = Job("brings its functions", tables, (Statement("rows_out", "SELECT mask(k) FROM rows_in"),))
    address = urlsplit(endpoints.flink_url)
    options = {"rest.address": str(address.hostname), "rest.port": str(address.port)}
    async with Planner(config) as planner:
        planned = await plan(planner, job, "7", with_plan=True)
        assert [function.name for function in planned.functions] == ["MASK"]
        brought = await asyncio.to_thread(prepare, planned.functions, config, bring_shipped=True)
        started = await planner.execute(planned.compiled, {**planned.options, **options}, brought)
    async with Cluster(endpoints.flink_url) as cluster:
        assert {jar.name for jar in usual.shipped_jars} <= await cluster.libraries()
        assert ours.name not in await cluster.libraries()
        rows = await asyncio.to_thread(consume, out_topic, 1, timeout=60)
        await cluster.cancel(started["jobId"])
    assert rows == [{"k": "#######1234"}]


def test_given_the_embedded_cluster_when_a_job_calls_a_shipped_function_then_it_brings_no_jar(
    endpoints: Endpoints,
) -> None:
    classpath = httpx.get(f"{endpoints.flink_url}/jobmanager/environment", timeout=30).json()["classpath"]
    assert any(re.search(r"hlink-functions-[0-9a-f]{16}\.jar", entry) for entry in classpath)
