"""``kill -9`` of the service between every two steps of a submission: exactly one Flink job, and the API shows it."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from stream_jobs.local.endpoints import Endpoints
from tests.services import Api, ServiceProcess

POINTS = (
    "run.created",
    "transition.uncommitted",
    "submitting.committed",
    "submission.begun",
    "submission.done",
    "submission.noted",
)
_FAST = {"HLINK_TICK_S": "0.3", "HLINK_LEASE_S": "2", "HLINK_PLANNER_TIMEOUT_S": "8"}


class Prepared:
    """A service with one job that was stored and never run."""

    def __init__(self, home: Path, endpoints: Endpoints, topics: tuple[str, str]) -> None:
        self.tag = uuid.uuid4().hex[:8]
        self.service = ServiceProcess(home, _FAST)
        self.service.start()
        self.api = Api(self.service.url, endpoints)
        source = self.api.kafka_source(f"events_{self.tag}", topics[0], {"k": "STRING"})
        sink = self.api.kafka_sink(f"out_{self.tag}", topics[1], {"k": "STRING"})
        self.name = f"killed {self.tag}"
        body = self.api.job(self.name, [source], {sink: f"SELECT k FROM events_{self.tag}"}, checkpointInterval=0)
        self.job_id = self.api.ok("POST", "/jobs/addDO", json=body)["id"]

    def run_and_forget(self) -> None:
        with contextlib.suppress(httpx.TransportError):  # the service dies while it answers: that is the test
            self.api.http.post(f"/jobs/run/{self.job_id}")

    def expect_one_running_job(self) -> None:
        deadline = time.monotonic() + 60
        while self.api.status(self.job_id) != 1:
            assert time.monotonic() < deadline, self.api.ok("GET", f"/jobs/overview/{self.job_id}")
            time.sleep(0.2)
        time.sleep(1.5)  # a second job would come with the next ticks
        view = self.api.ok("GET", f"/jobs/{self.job_id}")
        (known,) = self.api.flink_jobs(self.name)
        assert (known["jid"], known["state"], view["jobStatus"]) == (view["flinkJobId"], "RUNNING", 1)


@pytest.fixture
def prepared(tmp_path: Path, endpoints: Endpoints, kafka_topic: Callable[..., str]) -> Iterator[Prepared]:
    made = Prepared(tmp_path, endpoints, (kafka_topic("events"), kafka_topic("out")))
    try:
        yield made
    finally:
        if made.service.process is not None and made.service.process.poll() is None:
            made.api.call("POST", f"/jobs/cancel/{made.job_id}")
        made.service.stop()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step_of_a_submission(prepared: Prepared, point: str) -> None:
    prepared.service.stop()
    prepared.service.start(HLINK_CRASH_AT=point)
    prepared.run_and_forget()
    assert prepared.service.wait_for_death() == -9
    prepared.service.start()
    prepared.expect_one_running_job()


@pytest.mark.parametrize("delay_ms", [5, 20, 40, 60, 80, 100, 130, 170, 220])
def test_killed_at_any_moment_of_a_submission(prepared: Prepared, delay_ms: int) -> None:
    """Points between those that have a name: inside of commits, of the planner's work, of Flink's."""
    asking = threading.Thread(target=prepared.run_and_forget)
    asking.start()
    time.sleep(delay_ms / 1000)
    prepared.service.kill()
    asking.join()
    prepared.service.start()
    if prepared.api.ok("GET", f"/jobs/overview/{prepared.job_id}")["run"] is None:
        # Killed before the run was committed: the caller got no answer, and nothing may have been started.
        time.sleep(1.5)
        assert prepared.api.flink_jobs(prepared.name) == []
        prepared.api.ok("POST", f"/jobs/run/{prepared.job_id}")
    prepared.expect_one_running_job()
