"""Each setting of a job, seen in the job as Flink runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.airport import Airport
from tests.services import Api, Json

PLAIN = "SELECT k, 'x', v FROM {events}"
TOTALS = "SELECT k, COUNT(*), SUM(v) FROM {events} GROUP BY k"
DISTINCT = "SELECT k, COUNT(DISTINCT ts), SUM(v) FROM {events} GROUP BY k"
MINI_BATCH = {
    "enableMinibatchOptimization": 1, "tableExecMinibatchAllowlatency": 2, "tableExecMinibatchSize": 5000,
}  # fmt: skip


@dataclass
class Running:
    """A job that runs, and what Flink's REST API tells of it."""

    api: Api
    job_id: int
    flink_job_id: str

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.api.endpoints.flink_url}/jobs/{self.flink_job_id}{path}", timeout=30)
        answer.raise_for_status()
        return answer.json()

    @property
    def checkpoints(self) -> Json:
        found: Json = self.get("/checkpoints/config")
        return found

    @property
    def execution(self) -> Json:
        found: Json = self.get("/config")["execution-config"]
        return found

    @property
    def operators(self) -> str:
        return " ".join(node["description"] for node in self.get("")["plan"]["nodes"])

    def completed_checkpoint(self) -> Json:
        deadline = time.monotonic() + 60
        while not (done := self.get("/checkpoints")["latest"]["completed"]):
            assert time.monotonic() < deadline, self.get("/checkpoints")
            time.sleep(0.2)
        found: Json = done
        return found

    def savepoint(self, folder: Path) -> str:
        """Where it is; asked for until all tasks run, for before that Flink refuses it."""
        url = f"{self.api.endpoints.flink_url}/jobs/{self.flink_job_id}/savepoints"
        deadline = time.monotonic() + 60
        while True:
            asked = httpx.post(url, json={"cancel-job": False, "target-directory": str(folder)}, timeout=30).json()
            request = f"{url}/{asked['request-id']}"
            while (found := httpx.get(request, timeout=30).json())["status"]["id"] != "COMPLETED":
                time.sleep(0.1)
            if "location" in found["operation"]:
                return str(found["operation"]["location"])
            assert time.monotonic() < deadline, found


@pytest.fixture
def running(api: Api, airport: Airport) -> Any:
    """``running(sql, **settings)`` stores and runs a job, which is canceled after the test."""
    started: list[int] = []

    def start(sql: str = PLAIN, **settings: Any) -> Running:
        statement = sql.format(events=airport.events)
        sink = airport.totals if sql in (TOTALS, DISTINCT) else airport.out
        body = api.job(f"job {airport.tag} {len(started)}", [airport.source], {sink: statement}, **settings)
        job_id = int(api.ok("POST", "/jobs/addDO", json=body)["id"])
        started.append(job_id)
        return Running(api, job_id, api.run(job_id)["flinkJobId"])

    yield start
    for job_id in started:
        api.call("POST", f"/jobs/cancel/{job_id}?mode=none")


SETTINGS: dict[str, tuple[Json, Callable[[Running], Any], Any]] = {
    "checkpointInterval": ({"checkpointInterval": 7000}, lambda job: job.checkpoints["interval"], 7000),
    "checkpointInterval left out": ({}, lambda job: job.checkpoints["interval"], 60_000),
    "checkpointInterval 0": ({"checkpointInterval": 0}, lambda job: job.checkpoints["interval"], 2**63 - 1),
    "checkpointMode 0": ({"checkpointMode": 0}, lambda job: job.checkpoints["mode"], "exactly_once"),
    "checkpointMode 1": ({"checkpointMode": 1}, lambda job: job.checkpoints["mode"], "at_least_once"),
    "checkpointTimeout": ({"checkpointTimeout": 45_000}, lambda job: job.checkpoints["timeout"], 45_000),
    "minPauseBetweenCheckpoints": (
        {"minPauseBetweenCheckpoints": 1500}, lambda job: job.checkpoints["min_pause"], 1500,
    ),
    "checkpointMaxCuncurrency": (
        {"checkpointMaxCuncurrency": 3}, lambda job: job.checkpoints["max_concurrent"], 3,
    ),
    "checkpointCleanupMode 0": (
        {"checkpointCleanupMode": 0},
        lambda job: job.checkpoints["externalization"],
        {"enabled": True, "delete_on_cancellation": False},
    ),
    "checkpointCleanupMode 1": (
        {"checkpointCleanupMode": 1},
        lambda job: job.checkpoints["externalization"],
        {"enabled": True, "delete_on_cancellation": True},
    ),
    "checkpointStatebackendType 0": (
        {"checkpointStatebackendType": 0}, lambda job: job.checkpoints["state_backend"], "HashMapStateBackend",
    ),
    "checkpointStatebackendType 1": (
        {"checkpointStatebackendType": 1}, lambda job: job.checkpoints["state_backend"], "HashMapStateBackend",
    ),
    "checkpointStatebackendType 2": (
        {"checkpointStatebackendType": 2},
        lambda job: job.checkpoints["state_backend"],
        "EmbeddedRocksDBStateBackend",
    ),
    "restartStrategy 0": (
        {"restartStrategy": 0}, lambda job: job.execution["restart-strategy"], "Restart deactivated.",
    ),
    "restartStrategy 1, delayInterval in seconds": (
        {"restartStrategy": 1, "restartAttempts": 4, "delayInterval": 7},
        lambda job: job.execution["restart-strategy"],
        "Restart with fixed delay (PT7S). #4 restart attempts.",
    ),
    "restartStrategy 2, failureInterval in minutes": (
        {"restartStrategy": 2, "failureRate": 3, "failureInterval": 5, "delayInterval": 2},
        lambda job: job.execution["restart-strategy"],
        "Failure rate restart with maximum of 3 failures within interval PT5M and fixed delay PT2S.",
    ),
    "parallelism": ({"parallelism": 3}, lambda job: job.get("")["vertices"][0]["parallelism"], 3),
    "computingUnit": ({"computingUnit": 1}, lambda job: job.get("")["vertices"][0]["parallelism"], 2),
    "parms": (
        {"parms": {"pipeline.object-reuse": True}}, lambda job: job.execution["object-reuse-mode"], True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_given_a_setting_when_the_job_runs_then_flink_has_it(running: Callable[..., Running], name: str) -> None:
    settings, shown, expected = SETTINGS[name]
    assert shown(running(**settings)) == expected


PLANS: dict[str, tuple[str, Json, list[str], list[str]]] = {
    "all off": (TOTALS, {}, ["GroupAggregate"], ["MiniBatch", "LocalGroupAggregate"]),
    "mini-batch by default in two phases": (
        TOTALS, MINI_BATCH, ["MiniBatchAssigner", "interval=[2000ms]", "LocalGroupAggregate"], [],
    ),
    "one phase": (
        TOTALS,
        {**MINI_BATCH, "tableOptimizerAggPhaseStrategy": 0},
        ["MiniBatchAssigner", "GroupAggregate"],
        ["LocalGroupAggregate"],
    ),
    "two phases": (
        TOTALS,
        {**MINI_BATCH, "tableOptimizerAggPhaseStrategy": 1},
        ["LocalGroupAggregate", "GlobalGroupAggregate"],
        [],
    ),
    "distinct split": (
        DISTINCT,
        {**MINI_BATCH, "tableOptimizerDistinctAggSplitEnabled": 1},
        ["partialFinalType=[PARTIAL]", "partialFinalType=[FINAL]"],
        [],
    ),
    "distinct not split": (
        DISTINCT,
        {**MINI_BATCH, "tableOptimizerDistinctAggSplitEnabled": 0},
        ["GroupAggregate"],
        ["partialFinalType=[PARTIAL]"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_given_an_optimizer_setting_when_the_job_runs_then_its_operators_show_it(
    running: Callable[..., Running], name: str
) -> None:
    sql, settings, has, has_not = PLANS[name]
    operators = running(sql, **settings).operators
    assert [what for what in has if what not in operators] == []
    assert [what for what in has_not if what in operators] == []


def test_given_a_mini_batch_size_when_the_job_is_planned_then_the_rows_are_in_its_options(
    api: Api, airport: Airport
) -> None:
    body = api.job(f"batch {airport.tag}", [airport.source], {airport.totals: TOTALS.format(events=airport.events)})
    sql = api.ok("POST", "/jobs/validate", json=body | MINI_BATCH)["sql"]
    assert "SET 'table.exec.mini-batch.size' = '5000';" in sql
    for name in ("tableExecMinibatchAllowlatency", "tableExecMinibatchSize"):
        refusal = api.refused("POST", "/jobs/validate", json=body | MINI_BATCH | {name: 0})
        assert refusal["problems"][0]["field"] == name


def test_given_a_folder_for_state_when_the_job_runs_then_checkpoints_are_there_and_it_goes_on_from_a_savepoint(
    running: Callable[..., Running], tmp_path: Path
) -> None:
    first = running(
        TOTALS,
        checkpointInterval=200,
        checkpointStatebackendPath=f"file://{tmp_path}/checkpoints",
    )
    assert first.completed_checkpoint()["external_path"].startswith(f"file:{tmp_path}/checkpoints/")
    savepoint = first.savepoint(tmp_path / "savepoints")
    second = running(TOTALS, savepointPath=savepoint)
    assert second.get("/checkpoints")["latest"]["restored"]["external_path"] == savepoint
    third = running(TOTALS)
    assert third.get("/checkpoints")["latest"]["restored"] is None, "a job has nothing of the one before"


def test_given_a_savepoint_of_another_job_when_unclaimed_state_is_allowed_then_it_starts_all_the_same(
    api: Api, running: Callable[..., Running], tmp_path: Path
) -> None:
    savepoint = running(TOTALS).savepoint(tmp_path)
    ignoring = running(PLAIN, savepointPath=savepoint, allowNrs=1)
    assert ignoring.get("/checkpoints")["latest"]["restored"]["external_path"] == savepoint
    with pytest.raises(AssertionError, match=r"would not go on with its state: aggregate .* lost"):
        running(PLAIN, savepointPath=savepoint, allowNrs=0)


WINDOW = (
    "SELECT k, CAST(window_start AS STRING), SUM(v) "
    "FROM TUMBLE(TABLE {events}, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY k, window_start, window_end"
)


@pytest.mark.parametrize("time_type", [None, 1, 2])
def test_given_an_event_time_window_when_the_time_type_is_any_that_there_is_then_the_window_closes(
    airport: Airport, running: Callable[..., Running], consume: Callable[..., list[Any]], time_type: int | None
) -> None:
    running(WINDOW, **({} if time_type is None else {"timeType": time_type}))
    assert {row["name"] for row in consume(airport.out_topic, 2, timeout=60)} == {"2026-01-01 00:00:00.000"}


def test_given_settings_that_contradict_when_the_job_is_stored_then_each_is_refused_with_the_way_out(
    api: Api, airport: Airport, kafka_topic: Callable[..., str]
) -> None:
    timeless = api.kafka_source(f"timeless_{airport.tag}", airport.topic, {"k": "STRING", "v": "DOUBLE"})
    body = api.job(
        f"timeless {airport.tag}", [timeless], {airport.out: f"SELECT k, 'x', v FROM timeless_{airport.tag}"}
    )
    refusal = api.refused("POST", "/jobs/addDO", json=body | {"timeType": 2})
    assert refusal["msg"] == (
        "timeType: the job is to go by event time, and none of its sources has one "
        "(set eventTime 1 on a column of a source, or use timeType 1)"
    )
    wrong = {
        "timeType": 0,
        "checkpointTimeout": 5,
        "checkpointInterval": 1000,
        "minPauseBetweenCheckpoints": 1000,
        "checkpointMaxCuncurrency": 2,
        "parms": {"execution.checkpointing.interval": "1 s", "rest.port": 1, "table.exec.state.ttl": ["1 h"]},
    }
    found = {p["field"]: p for p in api.refused("POST", "/jobs/addDO", json=body | wrong)["problems"]}
    assert set(found) == {
        "timeType", "checkpointTimeout", "checkpointMaxCuncurrency", "parms.execution.checkpointing.interval",
        "parms.rest.port", "parms.table.exec.state.ttl",
    }  # fmt: skip
    assert found["timeType"]["message"] == "Flink has no ingestion time any more"
    assert found["parms.execution.checkpointing.interval"]["remedy"] == "use checkpointInterval"
    parms = {"table.exec.state.ttl": "soon", "table.exec.no-such": "1"}
    refusal = api.refused("POST", "/jobs/addDO", json=body | {"parms": parms})
    assert {p["field"]: p["message"] for p in refusal["problems"]} == {
        "table.exec.state.ttl": "the option cannot be 'soon': text does not start with a number, "
        "and is not a valid ISO-8601 duration format: soon.",
        "table.exec.no-such": "the option cannot be '1': Flink has no such option for a job.",
    }
