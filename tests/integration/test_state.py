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
    with running_service(tmp_path_factory.mktemp("service")) as service:
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
    api.call("POST", f"/jobs/cancel/{made.id}")


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
    counting.api.ok("POST", f"/jobs/cancel/{counting.id}")
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
    counting.api.ok("POST", f"/jobs/cancel/{counting.id}")
    (_file(made["path"]) / "_metadata").write_bytes(b"?")
    counting.lose_checkpoints()
    refusal = counting.api.refused("POST", f"/jobs/restart/{counting.id}")

    assert made["path"] in refusal["msg"]
    assert "metadata cannot be read" in refusal["msg"]
    assert counting.api.status(counting.id) == 2


def test_given_a_folder_that_cannot_be_written_when_a_job_is_restarted_then_it_goes_on_as_before(
    counting: Counting, tmp_path: Path
) -> None:
    counting.api.ok("POST", f"/jobs/cancel/{counting.id}")
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
    counting.api.ok("POST", f"/jobs/cancel/{job_id}")

    assert "Not restarted, it goes on as before" in refusal["msg"]
    assert (after["flinkJobId"], after["jobStatus"]) == (before, 1)


def test_given_a_job_that_does_not_run_then_a_savepoint_is_refused(counting: Counting) -> None:
    counting.api.ok("POST", f"/jobs/cancel/{counting.id}")

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
    api.ok("POST", f"/jobs/cancel/{job_id}")

    assert "Checkpointing is not enabled" in found.text or found.json().get("interval", 0) > 10**15, found.text
