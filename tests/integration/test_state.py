"""A job's state over HTTP on a real Flink: savepoints, and restarts after which every row has counted once."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from stream_jobs.local.endpoints import Endpoints
from tests.services import Api, Json, running_service


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> Iterator[Api]:
    with running_service(tmp_path_factory.mktemp("service"), HLINK_RETENTION_S="0.5", HLINK_STOP_S="8") as service:
        yield Api(service.url, endpoints)


class Counting:
    """A job that counts rows by key into PostgreSQL: what it has counted is its state."""

    def __init__(
        self, api: Api, topic: str, table: str, produce: Callable[..., None], query: Callable[[str], list[Any]]
    ) -> None:
        self.api, self.topic, self.table = api, topic, table
        self._produce, self._query = produce, query
        self.tag = uuid.uuid4().hex[:8]
        source = api.kafka_source(f"rows_{self.tag}", topic, {"k": "STRING"})
        sink = api.postgresql(
            f"counts_{self.tag}", "sink", table, {"k": "STRING", "n": "BIGINT"}, primary_key="k", flush_interval="100"
        )
        body = api.job(
            f"counting {self.tag}",
            [source],
            {sink: f"SELECT k, COUNT(*) FROM rows_{self.tag} GROUP BY k"},
            checkpointInterval=200,
        )
        self.id = int(api.ok("POST", "/jobs/addDO", json=body)["id"])

    def add(self, rows: int) -> None:
        self._produce(self.topic, [{"k": "ab"[n % 2]} for n in range(rows)])

    def until_counted(self, a: int, b: int) -> None:
        """Wait for these counts; more than these fails at once."""
        deadline = time.monotonic() + 60
        while (counts := dict(self._query(f"SELECT k, n FROM {self.table}"))) != {"a": a, "b": b}:
            assert counts.get("a", 0) <= a, counts
            assert time.monotonic() < deadline, (counts, self.api.ok("GET", f"/jobs/overview/{self.id}"))
            time.sleep(0.1)

    def run(self) -> Json:
        """The newest run, as the overview shows it."""
        found: Json = self.api.ok("GET", f"/jobs/overview/{self.id}")["run"]
        return found

    def cancel(self, **how: Any) -> Json:
        """The run, once it is canceled."""
        self.api.cancel(self.id, **how)
        return self.run()

    def restart(self, **how: Any) -> Json:
        """The run that goes on, once it runs."""
        before = self.flink_id
        self.api.ok("POST", f"/jobs/restart/{self.id}", params=how)
        deadline = time.monotonic() + 120
        while (found := self.run())["state"] != "RUNNING" or found["flinkJobId"] == before:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found

    def savepoint(self) -> Json:
        made: Json = self.api.ok("GET", f"/jobs/savepoint/{self.id}")
        return made

    def savepoints(self) -> list[Json]:
        found: list[Json] = self.api.ok("GET", f"/jobs/{self.id}/savepoints")
        return found

    def until(self, status: int) -> None:
        deadline = time.monotonic() + 60
        while self.api.status(self.id) != status:
            assert time.monotonic() < deadline, self.api.ok("GET", f"/jobs/overview/{self.id}")
            time.sleep(0.1)

    def until_checkpointed(self) -> None:
        """Wait until a checkpoint is known that was begun from now on."""
        began = time.time() * 1000
        job_id = self.flink_id
        deadline = time.monotonic() + 60
        while True:
            found = httpx.get(f"{self.api.endpoints.flink_url}/jobs/{job_id}/checkpoints", timeout=30).json()
            newest = found["latest"]["completed"]
            if newest and newest["trigger_timestamp"] > began:
                return
            assert time.monotonic() < deadline, found
            time.sleep(0.1)

    def entry(self, savepoint_id: int) -> Json:
        """A savepoint in the job's history."""
        (found,) = [one for one in self.savepoints() if one["id"] == savepoint_id]
        return found

    def until_removed(self, savepoint_id: int) -> Json:
        deadline = time.monotonic() + 60
        while (found := self.entry(savepoint_id))["state"] != "REMOVED":
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found

    def lose_checkpoints(self) -> None:
        """Somebody tidies up the folder of the newest run's checkpoints."""
        config = httpx.get(f"{self.api.endpoints.flink_url}/jobmanager/config", timeout=30).json()
        folder = next(one["value"] for one in config if one["key"] == "execution.checkpointing.dir")
        found = list(_file(folder).glob(f"{self.flink_id}/chk-*"))
        assert found
        for checkpoint in found:
            shutil.rmtree(checkpoint)

    @property
    def flink_id(self) -> str:
        return str(self.api.ok("GET", f"/jobs/{self.id}")["flinkJobId"])


@pytest.fixture
def counting(
    api: Api,
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    pg_table: Callable[..., str],
    postgres: Callable[[], Any],
) -> Iterator[Counting]:
    connection = postgres()
    table = pg_table("k text primary key, n bigint")
    made = Counting(
        api, kafka_topic("rows"), table, produce, lambda query: connection.execute(query.encode()).fetchall()
    )
    made.add(20)
    made.api.run(made.id)
    made.until_counted(10, 10)
    yield made
    api.call("POST", f"/jobs/cancel/{made.id}?mode=none")


def _file(path: str) -> Path:
    return Path(urlsplit(path).path)


def test_given_a_running_job_when_a_savepoint_is_asked_for_then_it_is_complete_and_the_job_goes_on(
    counting: Counting,
) -> None:
    made = counting.savepoint()

    assert (made["state"], made["verified"], made["purpose"]) == ("COMPLETED", True, "REQUEST")
    assert (_file(made["path"]) / "_metadata").exists()
    assert made["size"] > 0
    assert counting.savepoints() == [made]
    counting.add(2)
    counting.until_counted(11, 11)


def test_given_a_running_job_when_it_is_restarted_then_every_row_counts_once(counting: Counting) -> None:
    before = counting.flink_id
    answer = counting.api.ok("POST", f"/jobs/restart/{counting.id}")

    counting.until(1)
    counting.add(20)
    counting.until_counted(20, 20)
    (made,) = counting.savepoints()
    assert answer["restoredFrom"] == made["path"]
    assert (made["purpose"], made["state"]) == ("RESTART", "COMPLETED")
    assert 0 <= answer["downtimeMs"] < 60_000
    assert [job["state"] for job in counting.api.flink_jobs(f"counting {counting.tag}") if job["jid"] == before] == [
        "FINISHED"
    ]


def test_given_a_job_that_was_canceled_outside_when_it_is_restarted_then_it_goes_on_from_its_checkpoint(
    counting: Counting,
) -> None:
    counting.until_checkpointed()  # which the service may not have noted yet
    httpx.patch(f"{counting.api.endpoints.flink_url}/jobs/{counting.flink_id}?mode=cancel", timeout=30)
    counting.until(2)
    counting.add(20)
    answer = counting.api.ok("POST", f"/jobs/restart/{counting.id}")

    assert "/chk-" in answer["restoredFrom"]
    counting.until_counted(20, 20)


def test_given_a_broken_newest_savepoint_when_a_stopped_job_is_restarted_then_the_one_before_is_used(
    counting: Counting,
) -> None:
    older, newer = counting.savepoint(), counting.savepoint()
    counting.until_checkpointed()
    counting.cancel(mode="none")
    metadata = _file(newer["path"]) / "_metadata"
    metadata.write_bytes(metadata.read_bytes()[:40])
    counting.lose_checkpoints()
    answer = counting.api.ok("POST", f"/jobs/restart/{counting.id}")

    assert answer["restoredFrom"] == older["path"]
    counting.until_counted(10, 10)


def test_given_no_whole_state_when_a_job_is_restarted_then_it_is_refused_and_says_what_is_broken(
    counting: Counting,
) -> None:
    made = counting.savepoint()
    counting.until_checkpointed()
    counting.cancel(mode="none")
    (_file(made["path"]) / "_metadata").write_bytes(b"?")
    counting.lose_checkpoints()
    refusal = counting.api.refused("POST", f"/jobs/restart/{counting.id}")

    assert made["path"] in refusal["msg"]
    assert "metadata cannot be read" in refusal["msg"]
    assert counting.api.status(counting.id) == 2


def test_given_a_folder_that_cannot_be_written_when_a_job_is_restarted_then_it_goes_on_as_before(
    counting: Counting, tmp_path: Path
) -> None:
    counting.cancel(mode="none")
    blocked = tmp_path / "file"
    blocked.write_text("")
    view = counting.api.ok("GET", f"/jobs/{counting.id}")
    body = {
        "jobName": f"blocked {counting.tag}",
        "clusterId": view["clusterId"],
        "jobType": 0,
        "jobDsVOS": [{"dsId": one["dsId"], "runSql": one["runSql"]} for one in view["jobDsVOS"]],
        "stateSavepointsDir": blocked.as_uri(),
    }
    job_id = int(counting.api.ok("POST", "/jobs/addDO", json=body)["id"])
    before = counting.api.run(job_id)["flinkJobId"]
    refusal = counting.api.refused("POST", f"/jobs/restart/{job_id}")
    after = counting.api.ok("GET", f"/jobs/{job_id}")
    counting.api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")

    assert "Not restarted, it goes on as before" in refusal["msg"]
    assert (after["flinkJobId"], after["jobStatus"]) == (before, 1)


def test_given_a_job_that_does_not_run_then_a_savepoint_is_refused(counting: Counting) -> None:
    counting.cancel(mode="none")

    assert "not running" in counting.api.refused("GET", f"/jobs/savepoint/{counting.id}")["msg"]


def test_given_a_job_with_checkpoints_when_another_is_run_without_then_it_has_none(
    counting: Counting, kafka_topic: Callable[..., str]
) -> None:
    """Settings of one job must not reach the next through the planner that submits both."""
    api = counting.api
    sink = api.kafka_sink(f"plain_{counting.tag}", kafka_topic("out"), {"k": "STRING"})
    (source,) = [one["dsId"] for one in api.ok("GET", f"/jobs/{counting.id}")["jobDsVOS"] if one["runSql"] == ""]
    body = api.job(
        f"plain {counting.tag}", [source], {sink: f"SELECT k FROM rows_{counting.tag}"}, checkpointInterval=0
    )
    job_id = int(api.ok("POST", "/jobs/addDO", json=body)["id"])
    flink_id = api.run(job_id)["flinkJobId"]
    found = httpx.get(f"{api.endpoints.flink_url}/jobs/{flink_id}/checkpoints/config", timeout=30)
    api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")

    assert "Checkpointing is not enabled" in found.text or found.json().get("interval", 0) > 10**15, found.text


# Stops


def test_given_a_running_job_when_it_is_canceled_then_its_savepoint_is_kept_and_a_restart_goes_on_from_it(
    counting: Counting,
) -> None:
    ended = counting.cancel()

    (made,) = counting.savepoints()
    assert (ended["state"], ended["savepoint"]) == ("FINISHED", made["path"])
    assert (made["purpose"], made["format"], made["drained"], made["jobVersion"]) == ("STOP", "CANONICAL", False, 1)
    name = f"counting {counting.tag}"
    assert [
        counting.api.ok("GET", "/jobs/list", params={"jobName": name, "jobStatus": status})["total"]
        for status in (0, 1, 2, 3)
    ] == [0, 0, 1, 0]
    counting.add(20)
    assert counting.restart()["restoredFrom"] == made["path"]
    counting.until_counted(20, 20)


def test_given_a_canceled_job_when_it_is_run_then_it_starts_without_state_and_says_where_its_state_is(
    counting: Counting,
) -> None:
    counting.cancel()
    (made,) = counting.savepoints()
    answer = counting.api.call("POST", f"/jobs/run/{counting.id}")

    assert answer["msg"].startswith(
        f"Started without state. The job's newest savepoint is {made['path']}: "
        f"/jobs/restart/{counting.id}?restoreFrom={made['id']} starts it from that."
    )
    counting.until(1)
    assert counting.run()["restoredFrom"] is None
    assert counting.restart(restoreFrom=made["id"])["restoredFrom"] == made["path"]
    counting.until_counted(10, 10)


def test_given_a_start_that_failed_when_the_job_is_restarted_then_the_state_of_the_run_before_is_gone_on_from(
    counting: Counting,
) -> None:
    api = counting.api
    path = counting.cancel()["savepoint"]
    missing = "file:///nowhere/savepoint-1"
    view = api.ok("GET", f"/jobs/{counting.id}")
    body = {
        "id": counting.id,
        "jobName": view["jobName"],
        "clusterId": view["clusterId"],
        "jobType": 0,
        "jobDsVOS": [{"dsId": one["dsId"], "runSql": one["runSql"]} for one in view["jobDsVOS"]],
    }
    api.ok("POST", "/jobs/updateDO", json={**body, "savepointPath": missing})
    api.call("POST", f"/jobs/run/{counting.id}")
    counting.until(3)
    api.ok("POST", "/jobs/updateDO", json=body)

    assert counting.restart()["restoredFrom"] == path
    counting.until_counted(10, 10)


def test_given_a_job_when_it_is_drained_in_the_native_format_then_it_goes_on_only_from_what_is_said(
    counting: Counting,
) -> None:
    older = counting.savepoint()
    counting.cancel(mode="drain", native=True)
    made = counting.savepoints()[0]
    assert (made["format"], made["drained"], made["purpose"]) == ("NATIVE", True, "STOP")
    assert counting.api.status(counting.id) == 2
    refusal = counting.api.refused("POST", f"/jobs/restart/{counting.id}")
    assert refusal["msg"].startswith("The job was drained")

    assert counting.restart(restoreFrom=older["id"])["restoredFrom"] == older["path"]
    counting.until_counted(10, 10)


def test_given_a_folder_that_cannot_be_written_when_a_job_is_canceled_then_it_goes_on_until_it_is_canceled_without(
    counting: Counting, tmp_path: Path
) -> None:
    counting.cancel(mode="none")
    blocked = tmp_path / "file"
    blocked.write_text("")
    view = counting.api.ok("GET", f"/jobs/{counting.id}")
    changed = {
        "id": counting.id,
        "jobName": view["jobName"],
        "clusterId": view["clusterId"],
        "jobType": 0,
        "jobDsVOS": [{"dsId": one["dsId"], "runSql": one["runSql"]} for one in view["jobDsVOS"]],
        "stateSavepointsDir": blocked.as_uri(),
    }
    counting.api.ok("POST", "/jobs/updateDO", json=changed)
    before = counting.api.run(counting.id)["flinkJobId"]
    refusal = counting.api.refused("POST", f"/jobs/cancel/{counting.id}")

    assert refusal["msg"].startswith("Not stopped, it goes on as before: 3 attempts to make its savepoint failed")
    assert "mode=none" in refusal["msg"]
    assert (counting.flink_id, counting.api.status(counting.id)) == (before, 1)
    assert counting.api.ok("POST", f"/jobs/cancel/{counting.id}?mode=none")["state"] == "CANCELED"


def test_given_a_job_that_keeps_restarting_when_it_is_canceled_then_that_is_given_up_and_says_how_to_end_it(
    counting: Counting,
) -> None:
    api = counting.api
    api.ok("POST", f"/jobs/cancel/{counting.id}?mode=none")
    source, sink = sorted(api.ok("GET", f"/jobs/{counting.id}")["jobDsVOS"], key=lambda one: bool(one["runSql"]))
    # A text that is no number where one belongs: seen only when the job runs.
    statement = f"SELECT k, CAST(k AS BIGINT) FROM rows_{counting.tag}"
    settings = {"restartStrategy": 1, "restartAttempts": 100_000, "delayInterval": 1, "checkpointInterval": 200}
    body = api.job(f"flapping {counting.tag}", [source["dsId"]], {sink["dsId"]: statement}, **settings)
    job_id = int(api.ok("POST", "/jobs/addDO", json=body)["id"])

    def until(holds: Callable[[Json], Any]) -> Json:
        deadline = time.monotonic() + 90
        while not holds(run := api.ok("GET", f"/jobs/overview/{job_id}")["run"]):
            assert time.monotonic() < deadline, run
            time.sleep(0.2)
        return dict(run)

    api.run(job_id)
    until(lambda run: run["lastException"])
    answer = api.call("POST", f"/jobs/cancel/{job_id}")
    given_up = until(lambda run: run["desired"] == "RUNNING")["reason"]
    ended = api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")

    assert given_up.startswith("Not stopped, it goes on as before: ")
    assert given_up.endswith("Mend that and ask again, or do it without a savepoint (mode=none)")
    assert answer["msg"] == given_up or answer["data"]["state"] == "STOPPING"
    assert (ended["state"], ended["jobStatus"]) == ("CANCELED", 2)


# Restarts


def test_given_a_running_job_when_it_is_restarted_without_a_savepoint_then_it_goes_on_from_its_checkpoint(
    counting: Counting,
) -> None:
    counting.until_checkpointed()
    before = counting.flink_id
    after = counting.restart(mode="none")
    counting.add(20)

    assert f"{before}/chk-" in after["restoredFrom"]
    assert counting.savepoints() == []
    counting.until_counted(20, 20)


def test_given_a_history_when_a_running_job_is_restarted_from_an_older_entry_then_it_goes_on_from_that(
    counting: Counting,
) -> None:
    older = counting.savepoint()
    counting.savepoint()
    run = counting.restart(restoreFrom=older["id"])

    assert [one["purpose"] for one in counting.savepoints()] == ["RESTART", "REQUEST", "REQUEST"]
    counting.until_counted(10, 10)
    assert run["restoredFrom"] == older["path"]
    assert 0 <= run["downtimeMs"] < 60_000
    assert f", {run['downtimeMs']} ms after the run before" in counting.api.ok("GET", f"/jobs/{counting.id}/log")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"restoreFrom": "yesterday"}, "restoreFrom: 'yesterday' is nothing to start from"),
        ({"restoreFrom": "7"}, "The job has no savepoint 7"),
        ({"restoreFrom": "checkpoint"}, "restoreFrom: a stop with a savepoint deletes the checkpoints of its run"),
        ({"mode": "drain"}, "mode: a drained job cannot go on as if its windows had not fired"),
    ],
    ids=str,
)
def test_given_a_running_job_when_its_restart_contradicts_itself_then_it_is_refused_and_nothing_is_touched(
    counting: Counting, asked: Json, told: str
) -> None:
    before = counting.flink_id
    assert counting.api.refused("POST", f"/jobs/restart/{counting.id}", params=asked)["msg"].startswith(told)
    assert (counting.flink_id, counting.api.status(counting.id)) == (before, 1)
    assert counting.savepoints() == []


# History, removal and retention


def test_given_savepoints_then_the_history_tells_of_each_and_comes_in_pages(counting: Counting) -> None:
    first, second = counting.savepoint(), counting.savepoint()
    page = counting.api.call("GET", f"/jobs/{counting.id}/savepoints", params={"limit": 1, "offset": 1})

    assert (page["msg"], page["data"]) == ("savepoints 1 to 2 of 2", [first])
    assert second["durationMs"] >= 0
    version = httpx.get(f"{counting.api.endpoints.flink_url}/overview", timeout=30).json()["flink-version"]
    assert (second["flinkVersion"], second["jobVersion"], second["verified"]) == (version, 1, True)


def test_given_a_limit_when_there_are_more_savepoints_then_the_oldest_are_deleted_with_their_folders(
    counting: Counting,
) -> None:
    made = [counting.savepoint() for _ in range(3)]
    assert counting.api.ok("GET", f"/jobs/{counting.id}/savepoints/retention") == {"most": 20, "days": 90}
    counting.api.ok("PUT", f"/jobs/{counting.id}/savepoints/retention", json={"most": 1})

    for one in made[:2]:
        removed = counting.until_removed(one["id"])
        assert removed["removal"] == "1 are kept, and as many are newer"
        assert not _file(one["path"]).parent.exists()
    assert counting.entry(made[2]["id"])["state"] == "COMPLETED"
    assert _file(made[2]["path"]).exists()
    refusal = counting.api.refused("POST", f"/jobs/restart/{counting.id}", params={"restoreFrom": made[0]["id"]})
    assert "is removed (1 are kept, and as many are newer): choose one that is COMPLETED" in refusal["msg"]


def test_given_savepoints_when_one_is_deleted_then_only_what_nobody_needs_goes(counting: Counting) -> None:
    api = counting.api
    origin = counting.savepoint()
    counting.restart(restoreFrom=origin["id"])
    spare, newest = counting.savepoint(), counting.savepoint()

    def refused(savepoint_id: int) -> str:
        return str(api.refused("DELETE", f"/jobs/{counting.id}/savepoints/{savepoint_id}")["msg"])

    assert "it is the newest one that is known to be whole" in refused(newest["id"])
    assert "goes on from it" in refused(origin["id"])
    assert "has no savepoint 7" in refused(7)
    assert api.ok("DELETE", f"/jobs/{counting.id}/savepoints/{spare['id']}")["state"] == "REMOVING"
    assert counting.until_removed(spare["id"])["removal"] == "asked for by local"
    assert not _file(spare["path"]).parent.exists()
    assert _file(origin["path"]).exists()
    assert f"{spare['path']} removed: asked for by local" in api.ok("GET", f"/jobs/{counting.id}/log")


# Schedules


def test_given_a_schedule_then_savepoints_are_made_by_the_clock_and_skipped_while_the_job_does_not_run(
    counting: Counting,
) -> None:
    api, path = counting.api, f"/jobs/{counting.id}/savepoints/schedule"
    assert api.ok("GET", path) is None
    made = api.ok("PUT", path, json={"cron": "* * * * *", "timeZone": "Asia/Shanghai", "native": True})
    assert (made["cron"], made["timeZone"], made["native"]) == ("* * * * *", "Asia/Shanghai", True)
    assert counting.id in [one["jobId"] for one in api.ok("GET", "/jobs/savepoints/schedules")]

    view = api.ok("GET", f"/jobs/{counting.id}")
    tables = [{"dsId": one["dsId"], "runSql": one["runSql"]} for one in view["jobDsVOS"]]
    body = {"jobName": f"idle {counting.tag}", "clusterId": view["clusterId"], "jobType": 0, "jobDsVOS": tables}
    idle = f"/jobs/{api.ok('POST', '/jobs/addDO', json=body)['id']}/savepoints"
    api.ok("PUT", f"{idle}/schedule", json={"cron": "* * * * *"})

    deadline = time.monotonic() + 120
    while not (found := counting.savepoints()) or found[0]["state"] == "PENDING":
        assert time.monotonic() < deadline, api.ok("GET", path)
        time.sleep(0.5)
    assert (found[0]["purpose"], found[0]["format"], found[0]["state"]) == ("SCHEDULE", "NATIVE", "COMPLETED")
    while "skipped" not in (outcome := api.ok("GET", f"{idle}/schedule")["lastOutcome"] or ""):
        assert time.monotonic() < deadline, outcome
        time.sleep(0.5)
    assert "a savepoint can be made of what runs" in outcome
    assert api.ok("GET", idle) == []
    for schedule in (path, f"{idle}/schedule"):
        api.ok("DELETE", schedule)
        assert api.ok("GET", schedule) is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"cron": "hourly"}, "cron: 'hourly' cannot be read: it has 1 fields, and needs 5"),
        ({"cron": "61 * * * *"}, "cron: '61 * * * *' cannot be read: "),
        ({"cron": "0 0 30 2 *"}, "cron: '0 0 30 2 *' never comes"),
        ({"cron": "0 * * * *", "timeZone": "Mars/Olympus"}, "timeZone: there is no time zone 'Mars/Olympus'"),
        ({"cron": "0 * * * *", "timezone": "UTC"}, "timezone: Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_given_a_schedule_that_cannot_be_read_then_it_is_refused_with_what_is_wrong(
    counting: Counting, body: Json, told: str
) -> None:
    path = f"/jobs/{counting.id}/savepoints/schedule"
    assert counting.api.refused("PUT", path, json=body)["msg"].startswith(told)
    assert counting.api.ok("GET", path) is None
