"""Jobs over HTTP on a real Flink: definitions in, features out, and each refusal before anything is submitted."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from tests.airport import EVENTS, Airport
from tests.services import Api, Json, ServiceProcess


def test_features_come_out_of_kafka_and_postgresql(
    api: Api, airport: Airport, consume: Callable[..., list[Any]], postgres: Callable[[], Any]
) -> None:
    body = airport.job(checkpointInterval=1000)
    totals = (
        f"INSERT INTO totals_{airport.tag} SELECT n.name, COUNT(*), SUM(e.v) "
        f"FROM {airport.events} e JOIN names_{airport.tag} n ON e.k = n.k GROUP BY n.name"
    )
    body["jobDsVOS"].append({"dsId": airport.totals, "runSql": totals})
    job_id = api.ok("POST", "/jobs/addDO", json=body)["id"]
    assert api.status(job_id) == 0

    run = api.run(job_id)
    (known,) = api.flink_jobs(body["jobName"])
    assert (known["jid"], known["state"]) == (run["flinkJobId"], "RUNNING")

    rows = consume(airport.out_topic, 120, timeout=60)
    assert sorted(rows, key=lambda r: r["v"])[:2] == [
        {"k": "a", "name": "Alpha", "v": 0.0},
        {"k": "b", "name": "Beta", "v": 1.0},
    ]
    expected = {("Alpha", 60, 3540.0), ("Beta", 60, 3600.0)}
    deadline = time.monotonic() + 30
    while set(found := postgres().execute(f"SELECT * FROM {airport.totals_table}").fetchall()) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)

    view = api.ok("GET", f"/jobs/{job_id}")
    assert (view["jobStatus"], view["jobStatusName"], view["flinkJobId"]) == (1, "运行中", run["flinkJobId"])
    assert [link["dsId"] for link in view["jobDsVOS"]] == [link["dsId"] for link in body["jobDsVOS"]]
    page = api.ok("GET", "/jobs/list", params={"jobStatus": 1, "jobName": airport.tag.upper()})
    assert [record["id"] for record in page["records"]] == [job_id]
    assert api.ok("GET", "/jobs/list", params={"jobStatus": 3, "jobName": airport.tag})["total"] == 0
    dashboard = api.ok("GET", "/dashboard/clusterInfo", params={"clusterId": str(api.cluster())})
    assert dashboard["jobsRunning"] >= 1

    shown = overview_with(api, job_id, _is_at_rest)
    assert shown["run"]["observedAgeSeconds"] < 10
    assert shown["run"]["observedFrom"] == api.endpoints.flink_url
    assert shown["run"]["desired"] == "RUNNING"
    assert {len(node["inputs"]) for node in shown["flink"]["graph"]} == {0, 1}
    assert shown["flink"]["lastCheckpoint"]["path"].startswith("file:")
    assert shown["flink"]["exceptions"] == []
    assert [event["what"] for event in shown["events"]][-1] == "created"

    again = api.refused("POST", f"/jobs/run/{job_id}")
    assert (again["code"], again["msg"]) == (0, f"Job {body['jobName']!r} is running already")
    assert len(api.flink_jobs(body["jobName"])) == 1

    ended = api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")
    assert (ended["jobStatus"], ended["state"]) == (2, "CANCELED")
    assert [job["state"] for job in api.flink_jobs(body["jobName"])] == ["CANCELED"]
    assert api.refused("POST", f"/jobs/cancel/{job_id}?mode=none")["msg"] == f"Job {body['jobName']!r} is not running"


def overview_with(api: Api, job_id: int, condition: Callable[[Json], Any], timeout_s: float = 30) -> Json:
    deadline = time.monotonic() + timeout_s
    while not condition(shown := api.ok("GET", f"/jobs/overview/{job_id}")):
        assert time.monotonic() < deadline, json.dumps(shown, indent=1)
        time.sleep(0.3)
    return shown


def _is_at_rest(shown: Json) -> bool:
    """All rows were read, with a checkpoint: each of these figures is fetched now and then, at a moment of its own."""
    run, flink = shown["run"], shown["flink"]
    return bool(
        flink is not None
        and flink["lastCheckpoint"]
        and _records_in(shown) == 120
        and run["tasksRunning"] == run["tasksTotal"]
        and all(vertex["backPressure"] == "ok" for vertex in flink["vertices"])
    )


def _records_in(shown: Mapping[str, Any]) -> float:
    """What the source has read: it is one vertex with all that is chained to it."""
    return max(vertex["recordsIn"] or 0 for vertex in shown["flink"]["vertices"] if "Source" in vertex["name"])


def test_a_window_closes_by_event_time(
    api: Api, airport: Airport, kafka_topic: Callable[..., str], consume: Callable[..., list[Any]]
) -> None:
    topic = kafka_topic("windows")
    sink = api.kafka_sink(f"w_{airport.tag}", topic, {"name": "STRING", "start": "TIMESTAMP(3)", "n": "BIGINT"})
    sql = (
        f"WITH named AS (SELECT e.*, n.name FROM {airport.events} e JOIN names_{airport.tag} n ON e.k = n.k)\n"
        "SELECT name, window_start, COUNT(*) FROM TUMBLE(TABLE named, DESCRIPTOR(ts), INTERVAL '1' MINUTE)\n"
        "GROUP BY name, window_start, window_end"
    )
    job_id = api.ok(
        "POST", "/jobs/addDO", json=api.job(f"windows {airport.tag}", [airport.source, airport.names], {sink: sql})
    )["id"]
    api.run(job_id)
    # The second minute stays open: nothing later has come.
    rows = consume(topic, 2, timeout=60)
    assert sorted(rows, key=lambda r: r["name"]) == [
        {"name": "Alpha", "start": "2026-01-01 00:00:00", "n": 30},
        {"name": "Beta", "start": "2026-01-01 00:00:00", "n": 30},
    ]
    api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


def test_validate_shows_the_sql_without_secrets_and_stores_nothing(api: Api, airport: Airport) -> None:
    before = api.ok("GET", "/jobs/list")["total"]
    data = api.ok("POST", "/jobs/validate", params={"explain": "true", "connections": "true"}, json=airport.job())
    assert data["valid"] is True
    assert "FOR SYSTEM_TIME AS OF" in data["sql"]
    assert f"CREATE TABLE `names_{airport.tag}`" in data["sql"]
    assert "LookupJoin" in data["explanation"]
    assert api.endpoints.postgres.password not in json.dumps(data)
    assert api.ok("GET", "/jobs/list")["total"] == before


BAD_STATEMENTS = {
    "unknown column": (
        "SELECT e.k, 'x',\n  e.w FROM {events} e",
        {"line": 2, "column": 5, "table": "{events}", "field": "w"},
        "column 'w' does not exist in table '{events}'.",
    ),
    "unknown table": (
        "SELECT k, 'x', v FROM nowhere",
        {"line": 1, "column": 23, "table": "nowhere"},
        "table 'nowhere' is not one of this job's tables.",
    ),
    "wrong type": (
        "SELECT k, v, v FROM {events}",
        {"line": 1, "column": 11, "table": "{out}", "field": "name"},
        "column 'name' of sink '{out}' is STRING, the query's column 2 (v) is DOUBLE.",
    ),
    "other width": (
        "SELECT k, v FROM {events}",
        {"line": 1, "column": 11, "table": "{out}"},
        "the query has 2 columns, sink '{out}' has 3.",
    ),
    "changelog into an append-only sink": (
        "SELECT k, k, SUM(v) FROM {events} GROUP BY k",
        {"table": "{out}"},
        "sink '{out}' takes new rows only, and the query changes rows it has already produced "
        "(an aggregate without a window).",
    ),
    "a keyword as a name": (
        "SELECT k, 'x' AS value, v FROM {events}",
        {"line": 1, "column": 18},
        "the statement cannot be read at 'value'.",
    ),
}


@pytest.mark.parametrize("name", BAD_STATEMENTS)
@pytest.mark.parametrize("path", ["/jobs/validate", "/jobs/addDO"])
def test_a_bad_statement_is_refused_with_its_place(api: Api, airport: Airport, name: str, path: str) -> None:
    sql, place, message = BAD_STATEMENTS[name]
    names = {"events": airport.events, "out": f"out_{airport.tag}"}
    answer = api.refused("POST", path, json=airport.job(sql.format(**names)))
    assert answer["code"] == -3
    (problem,) = answer["problems"]
    assert problem["message"] == message.format(**names)
    for key, value in place.items():
        assert problem[key] == (value.format(**names) if isinstance(value, str) else value), key
    assert api.ok("GET", "/jobs/list", params={"jobName": airport.tag})["total"] == 0


def test_names_may_be_keywords_or_hold_quotes_backticks_and_semicolons(
    api: Api, kafka_topic: Callable[..., str], produce: Callable[..., None], consume: Callable[..., list[Any]]
) -> None:
    tag = uuid.uuid4().hex[:8]
    topic, out_topic = kafka_topic("odd"), kafka_topic("odd-out")
    odd = ["select", "it's", 'say "x"', "a b", "价格", "x.y", "tick`tock", "semi;colon", "${secret:x}"]
    produce(topic, [{name: index for index, name in enumerate(odd)}])
    columns = dict.fromkeys(odd, "INT")
    source, sink = api.kafka_source(f"odd_{tag}", topic, columns), api.kafka_sink(f"odd_out_{tag}", out_topic, columns)
    sql = "SELECT " + ", ".join("`" + name.replace("`", "``") + "`" for name in odd) + f" FROM odd_{tag}"
    job_id = api.ok("POST", "/jobs/addDO", json=api.job(f"it's; `odd` {tag}", [source], {sink: sql}))["id"]
    api.run(job_id)
    assert consume(out_topic, 1, timeout=60) == [{name: index for index, name in enumerate(odd)}]
    api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


def test_a_table_alias_that_is_a_keyword_or_no_identifier_is_refused(api: Api) -> None:
    for alias, word in (("select", "reserved"), ("a;b", "a;b"), ("a`b", "a`b")):
        answer = api.refused("GET", "/ds/checkTableName", params={"tableName": alias})
        assert answer["code"] == -3
        assert word in answer["msg"]


def _unused_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _run_refused(api: Api, body: Json) -> Json:
    """Stores a job, tries to run it, and holds that nothing came of it."""
    job_id = api.ok("POST", "/jobs/addDO", json=body)["id"]
    answer = api.refused("POST", f"/jobs/run/{job_id}")
    assert api.status(job_id) == 0
    assert api.flink_jobs(body["jobName"]) == []
    return answer


def test_an_unreachable_broker_is_named_before_submission(api: Api, airport: Airport) -> None:
    broker = f"127.0.0.1:{_unused_port()}"
    source = api.kafka_source(f"gone_{airport.tag}", airport.topic, EVENTS, bootstrap_servers=broker)
    body = api.job(f"gone {airport.tag}", [source], {airport.out: f"SELECT k, 'x', v FROM gone_{airport.tag}"})
    answer = _run_refused(api, body)
    assert f"no Kafka broker answers at {broker}" in answer["msg"]
    assert f"table gone_{airport.tag}" in answer["msg"]
    assert "start the broker, or correct bootstrap_servers" in answer["msg"]


def test_a_topic_that_does_not_exist_is_named_before_submission(api: Api, airport: Airport) -> None:
    source = api.kafka_source(f"untold_{airport.tag}", "no-such-topic", EVENTS)
    body = api.job(f"untold {airport.tag}", [source], {airport.out: f"SELECT k, 'x', v FROM untold_{airport.tag}"})
    answer = _run_refused(api, body)
    assert f"topic 'no-such-topic' does not exist on broker {api.endpoints.kafka_bootstrap}" in answer["msg"]
    assert "create the topic" in answer["msg"]


@pytest.mark.parametrize("which", ["unreachable", "password", "table"])
def test_a_database_that_cannot_be_used_is_named_before_submission(api: Api, airport: Airport, which: str) -> None:
    port = _unused_port()
    fields, expected = {
        "unreachable": ({"connector_url": f"jdbc:postgresql://127.0.0.1:{port}/x"}, f"127.0.0.1:{port}"),
        "password": ({"connector_password": "wr0ng-secret"}, "password authentication failed"),
        "table": ({"table_name": "no_such_table"}, "no_such_table"),
    }[which]
    alias = f"side_{airport.tag}"
    columns = {"k": {"flinkType": "STRING", "joinKey": 1}, "name": "STRING"}
    side = api.postgresql(alias, "side", airport.names_table, columns, **fields)
    sql = f"SELECT e.k, s.name, e.v FROM {airport.events} e JOIN {alias} s ON e.k = s.k"
    answer = _run_refused(api, api.job(f"side {airport.tag}", [airport.source, side], {airport.out: sql}))
    assert expected in answer["msg"]
    assert f"table {alias}" in answer["msg"]
    assert "wr0ng-secret" not in json.dumps(answer)
    assert answer["problems"][0]["remedy"]


def test_a_cluster_without_free_slots_is_refused_with_the_arithmetic(api: Api, airport: Airport) -> None:
    answer = _run_refused(api, airport.job(parallelism=64))
    assert answer["msg"].startswith("parallelism: the job needs 64 slots, and cluster 'main' has ")
    assert "free of 8" in answer["msg"]
    assert "lower the parallelism" in answer["msg"]


def test_what_a_job_lacks_is_listed_at_once(api: Api, airport: Airport) -> None:
    answer = api.refused("POST", "/jobs/addDO", json={"jobType": 0})
    assert [problem["field"] for problem in answer["problems"]] == ["jobName", "clusterId", "jobDsVOS"]
    answer = api.refused("POST", "/jobs/addDO", json=airport.job() | {"jobDsVOS": [{"dsId": airport.source}]})
    assert answer["msg"] == "jobDsVOS: the job has no sink table (choose where its rows go)"
    answer = api.refused("POST", "/jobs/addDO", json=airport.job(restartStrategy=1, checkpointInterval=-1))
    assert {problem["field"] for problem in answer["problems"]} == {"restartAttempts", "checkpointInterval"}


def test_a_taken_name_and_what_does_not_exist_are_told(api: Api, airport: Airport) -> None:
    api.ok("POST", "/jobs/addDO", json=airport.job())
    answer = api.refused("POST", "/jobs/addDO", json=airport.job())
    assert (answer["code"], answer["msg"]) == (
        0,
        f"There is a job called 'job {airport.tag}' already: choose another jobName",
    )
    assert api.refused("POST", "/jobs/run/7")["code"] == -8
    assert api.refused("GET", "/jobs/7")["msg"] == "There is no job 7: /jobs/list shows those there are"
    assert api.refused("GET", "/jobs/seven")["code"] == -3


def test_health_and_metrics_tell_of_the_parts(service: ServiceProcess) -> None:
    health = httpx.get(f"{service.url}/health", timeout=10).json()
    assert health["status"] == "ok"
    assert set(health["parts"]) == {"database", "supervisor", "planner"}
    metrics = httpx.get(f"{service.url}/metrics", timeout=10).text
    assert 'hlink_planner_requests_total{kind="compile",outcome="answered"}' in metrics
    assert "hlink_runs" in metrics
