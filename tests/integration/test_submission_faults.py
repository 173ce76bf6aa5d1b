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
from kafka import KafkaAdminClient

from stream_jobs.local import artifacts
from stream_jobs.local.endpoints import Endpoints
from tests.services import Api, Json, ServiceProcess
from tests.stack import shared_artifacts

POINTS = (
    "run.created",
    "transition.uncommitted",
    "submission.begun",
    "submission.done",
    "submission.noted",
)
_FAST = {"HLINK_TICK_S": "0.3", "HLINK_LEASE_S": "2", "HLINK_PLANNER_TIMEOUT_S": "8"}


class Prepared:
    """A service with one job, which each test runs anew."""

    def __init__(self, home: Path, endpoints: Endpoints, body_of: Callable[[Api], Json]) -> None:
        self.service = ServiceProcess(home, _FAST).start()
        self.api = Api(self.service.url, endpoints)
        self.body = body_of(self.api)
        self.job_id = self.api.ok("POST", "/jobs/addDO", json=self.body)["id"]
        self.before: set[str] = set()
        self.before |= {job["jid"] for job in self.new_flink_jobs()}

    def run_and_forget(self) -> None:
        with contextlib.suppress(httpx.TransportError):  # the service dies while it answers: that is the test
            httpx.post(f"{self.service.url}/jobs/run/{self.job_id}", timeout=90)

    def cancel_and_forget(self) -> None:
        with contextlib.suppress(httpx.TransportError):
            httpx.post(f"{self.service.url}/jobs/cancel/{self.job_id}", timeout=90)

    def new_flink_jobs(self) -> list[Json]:
        """What Flink got since the last test."""
        return [job for job in self.all_flink_jobs() if job["jid"] not in self.before]

    def all_flink_jobs(self) -> list[Json]:
        """What Flink knows of this job, in any state."""
        return self.api.flink_jobs(self.body["jobName"])

    def savepoints(self) -> list[Json]:
        """The job's savepoints, oldest first, but for attempts that came to nothing because it had just started."""
        found = self.api.ok("GET", f"/jobs/{self.job_id}/savepoints")
        return [one for one in reversed(found) if one["state"] != "FAILED"]

    def expect_one_running_job(self) -> None:
        self.api.wait_for(self.job_id, 1, 90)
        time.sleep(1.5)  # a second job would come with the next ticks
        view = self.api.ok("GET", f"/jobs/{self.job_id}")
        (known,) = self.new_flink_jobs()
        assert (known["jid"], known["state"], view["jobStatus"]) == (view["flinkJobId"], "RUNNING", 1)

    def clean_up(self) -> None:
        """A service that lives and a job that does not run, for the next test."""
        if self.service.process is None or self.service.process.poll() is not None:
            self.service.start()
        if self.api.status(self.job_id) in (1, 9):
            self.api.call("POST", f"/jobs/cancel/{self.job_id}?mode=none")
        self.api.wait_until(self.job_id, lambda status: status not in (1, 9), 90)
        self.before |= {job["jid"] for job in self.new_flink_jobs()}


class PreparedProgram(Prepared):
    """The job is a program in a jar, which names its Flink jobs itself: others' may be called the same."""

    def __init__(self, home: Path, endpoints: Endpoints, words: Path) -> None:
        self._input = f"file://{words}"
        super().__init__(home, endpoints, self._body)

    def _body(self, api: Api) -> Json:
        artifacts.fetch(["examples"], shared_artifacts())
        (jar,) = artifacts.paths("examples", shared_artifacts())
        answer = api.ok("POST", "/jars/upload", files={"jarfile": (jar.name, jar.read_bytes())})
        return {
            "jobName": "killed program",
            "jobType": 1,
            "clusterId": api.cluster(),
            "useJar": answer["filename"],
            "program": f"--input {self._input} --discovery-interval 1s",
        }

    def all_flink_jobs(self) -> list[Json]:
        return [job for job in self.api.flink_jobs("WordCount") if self._input == self._input_of(job["jid"])]

    def _input_of(self, flink_job_id: str) -> str | None:
        found = httpx.get(f"{self.api.endpoints.flink_url}/jobs/{flink_job_id}/config", timeout=30).json()
        path: str | None = found["execution-config"]["user-config"].get("input")
        return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> Iterator[Prepared]:
    topic = f"killed-{uuid.uuid4().hex[:8]}"
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=endpoints.kafka_bootstrap)) as admin:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    tag = uuid.uuid4().hex[:8]

    def body_of(api: Api) -> Json:
        source = api.kafka_source(f"events_{tag}", topic, {"k": "STRING"})
        sink = api.kafka_sink(f"out_{tag}", topic, {"k": "STRING"})
        return api.job(f"killed {tag}", [source], {sink: f"SELECT k FROM events_{tag}"}, checkpointInterval=0)

    made = Prepared(tmp_path_factory.mktemp("killed"), endpoints, body_of)
    yield made
    made.service.stop()


@pytest.fixture
def prepared(shared: Prepared) -> Iterator[Prepared]:
    yield shared
    shared.clean_up()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step_of_a_submission(prepared: Prepared, point: str) -> None:
    prepared.service.stop()
    prepared.service.start(HLINK_CRASH_AT=point)
    prepared.run_and_forget()
    assert prepared.service.wait_for_death() == -9
    prepared.service.start()
    prepared.expect_one_running_job()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ["stop.begun", "stop.asked", "stop.noted"])
def test_killed_at_each_step_of_a_cancel(prepared: Prepared, point: str) -> None:
    """The job ends once, with one savepoint, which is whole and known."""
    prepared.service.stop()
    prepared.service.start(HLINK_CRASH_AT=point)
    before = len(prepared.savepoints())
    prepared.api.run(prepared.job_id, timeout_s=90)
    prepared.cancel_and_forget()
    assert prepared.service.wait_for_death() == -9
    prepared.service.start()
    prepared.api.wait_for(prepared.job_id, 2, timeout_s=90)
    deadline = time.monotonic() + 60
    while (made := prepared.savepoints()[before:])[0]["verified"] is None:
        assert time.monotonic() < deadline, made
        time.sleep(0.2)

    assert [(one["state"], one["verified"], one["purpose"]) for one in made] == [("COMPLETED", True, "STOP")]
    assert [job["state"] for job in prepared.new_flink_jobs()] == ["FINISHED"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> Iterator[Prepared]:
    words = tmp_path_factory.mktemp("words")
    words.chmod(0o755)
    made = PreparedProgram(tmp_path_factory.mktemp("killed-jar"), endpoints, words)
    yield made
    made.clean_up()
    made.service.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ["submission.begun", "submission.done"])
def test_given_a_program_in_a_jar_when_the_service_is_killed_while_it_submits_it_then_it_runs_once(
    program: Prepared, point: str
) -> None:
    test_killed_at_each_step_of_a_submission(program, point)
    program.clean_up()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("delay_ms", [5, 20, 40, 60, 80, 100, 130, 170, 220])
def test_killed_at_any_moment_of_a_submission(prepared: Prepared, delay_ms: int) -> None:
    """Points between those that have a name: inside of commits, of the planner's work, of Flink's."""
    prepared.api.ok("POST", "/jobs/validate", json=prepared.body)  # the planner is there: the moments are those meant
    asking = threading.Thread(target=prepared.run_and_forget)
    asking.start()
    time.sleep(delay_ms / 1000)
    prepared.service.kill()
    asking.join()
    prepared.service.start()
    if prepared.api.status(prepared.job_id) in (0, 2):
        # Killed before the run was committed: the caller got no answer, and nothing may have been started.
        time.sleep(1.5)
        assert prepared.new_flink_jobs() == []
        prepared.api.ok("POST", f"/jobs/run/{prepared.job_id}")
    prepared.expect_one_running_job()
