"""Previews: what sinks would hold, without a job on the cluster, a row in a sink or a consumer group."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from kafka import KafkaAdminClient

from tests.airport import Airport
from tests.services import Api, Json


def preview(api: Api, body: Json, **more: Any) -> Json:
    found: Json = api.ok("POST", "/jobs/preview", json=body | more)
    return found


def preview_until(holds: Callable[[Json], Any], api: Api, body: Json, **more: Any) -> Json:
    """Asks again where the time was up before that: a process that has just started is slow."""
    deadline = time.monotonic() + 60
    while not holds(shown := preview(api, body, **more)):
        assert time.monotonic() < deadline, shown
    return shown


def complete_preview(api: Api, body: Json, **more: Any) -> Json:
    return preview_until(lambda shown: shown["complete"], api, body, **more)


def preview_with_rows(api: Api, airport: Airport) -> None:
    preview_until(lambda shown: shown["sinks"][f"out_{airport.tag}"]["rows"], api, airport.job(), limit=1)


def test_given_a_job_when_it_is_previewed_then_its_rows_are_shown_and_nothing_remains(
    api: Api, airport: Airport, consume: Callable[..., list[Any]], postgres: Callable[[], psycopg.Connection[Any]]
) -> None:
    body = airport.job(parallelism=2, checkpointInterval=100)
    totals = (
        f"INSERT INTO totals_{airport.tag} SELECT n.name, COUNT(*), SUM(e.v) "
        f"FROM {airport.events} e JOIN names_{airport.tag} n ON e.k = n.k GROUP BY n.name"
    )
    body["jobDsVOS"].append({"dsId": airport.totals, "runSql": totals})
    jobs_before = api.ok("GET", "/jobs/list")["total"]

    shown = complete_preview(api, body, limit=3)

    out = shown["sinks"][f"out_{airport.tag}"]
    assert out == {
        "rows": [
            {"k": "a", "name": "Alpha", "v": 0.0}, {"k": "b", "name": "Beta", "v": 1.0},
            {"k": "a", "name": "Alpha", "v": 2.0},
        ],
        "more": True,
    }  # fmt: skip
    folded = shown["sinks"][f"totals_{airport.tag}"]
    assert sorted(folded["rows"], key=lambda row: row["name"]) == [
        {"name": "Alpha", "n": 60, "total": 3540.0},
        {"name": "Beta", "n": 60, "total": 3600.0},
    ], "the last state of each row"
    assert folded["more"] is False

    assert consume(airport.out_topic, None) == []
    assert postgres().execute(f"SELECT * FROM {airport.totals_table}").fetchall() == []
    assert api.ok("GET", "/jobs/list")["total"] == jobs_before
    assert api.flink_jobs(body["jobName"]) == []
    admin = KafkaAdminClient(bootstrap_servers=api.endpoints.kafka_bootstrap)
    try:
        for group in admin.list_groups():
            offsets = admin.list_group_offsets(group["group_id"])
            assert airport.topic not in str(offsets)
    finally:
        admin.close()


def test_given_windows_when_they_are_previewed_then_the_open_one_is_closed_too(api: Api, airport: Airport) -> None:
    sql = (
        f"SELECT k, CAST(window_start AS STRING), SUM(v) FROM TUMBLE(TABLE {airport.events}, DESCRIPTOR(ts), "
        "INTERVAL '1' MINUTE) GROUP BY k, window_start, window_end"
    )
    shown = complete_preview(api, airport.job(sql))
    assert sorted((r["name"][14:16], r["k"], r["v"]) for r in shown["sinks"][f"out_{airport.tag}"]["rows"]) == [
        ("00", "a", 870.0), ("00", "b", 900.0), ("01", "a", 2670.0), ("01", "b", 2700.0),
    ]  # fmt: skip


def test_given_a_statement_that_cannot_be_when_it_is_previewed_then_it_is_refused_as_a_run_would_be(
    api: Api, airport: Airport
) -> None:
    refusal = api.refused("POST", "/jobs/preview", json=airport.job(f"SELECT e.w FROM {airport.events} e"))
    assert (refusal["problems"][0]["field"], refusal["problems"][0]["column"]) == ("w", 10)
    changing = airport.job(f"SELECT k, k, SUM(v) FROM {airport.events} GROUP BY k")
    assert "takes new rows only" in api.refused("POST", "/jobs/preview", json=changing)["msg"]
    assert api.refused("POST", "/jobs/preview", json=airport.job() | {"timeoutS": 11})["problems"][0]["field"]


def test_given_a_row_that_fails_when_it_is_previewed_then_the_root_cause_is_told_and_the_next_preview_works(
    api: Api, airport: Airport
) -> None:
    bad = airport.job(f"SELECT k, 'x', CAST(k AS DOUBLE) FROM {airport.events}")
    refusal = api.refused("POST", "/jobs/preview", json=bad)
    assert refusal["msg"].startswith("The preview failed: ")
    assert "For input string" in refusal["msg"]
    preview_with_rows(api, airport)


def test_given_more_rows_than_time_when_they_are_previewed_then_what_there_is_comes_in_time(
    api: Api, airport: Airport, kafka_topic: Callable[..., str], produce: Callable[..., None]
) -> None:
    topic = kafka_topic("long")
    produce(topic, [{"n": n} for n in range(2000)])
    source = api.kafka_source(f"long_{airport.tag}", topic, {"n": "INT"})
    sink = api.postgresql(
        f"pairs_{airport.tag}", "sink", airport.totals_table, {"name": "STRING", "n": "BIGINT"}, primary_key="name"
    )
    # Each row with each other, and again: far more than there is time for.
    long = f"long_{airport.tag}"
    sql = (
        f"SELECT CAST(MOD(a.n, 7) AS STRING), COUNT(*) FROM {long} a JOIN {long} b ON a.n <> b.n "
        f"JOIN {long} c ON b.n <> c.n GROUP BY CAST(MOD(a.n, 7) AS STRING)"
    )
    body = api.job(f"long {airport.tag}", [source], {sink: sql})
    preview_with_rows(api, airport)  # its process is there

    began = time.monotonic()
    shown = preview(api, body, timeoutS=3)
    assert shown["complete"] is False
    assert time.monotonic() - began < 40, "a time-out of 3 s ends it, on a busy machine too"
    preview_with_rows(api, airport)
