"""Jobs on a real Flink of the module's own, which is killed, cut off and used by others: seen over HTTP alone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from stream_jobs.local.endpoints import Endpoints, External
from stream_jobs.local.stack import Stack
from tests.proxies import BadLine, Line, bad_line_to
from tests.services import Api, Json, running_service
from tests.stack import kill, shared_artifacts

LONG_S = 180.0
_COUNTED_S = 3.5
"""After what time a job's slots are surely those that its cluster counts as taken."""


class Flink:
    """A JobManager and a TaskManager with 8 slots."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.up().flink_url

    def repair(self) -> None:
        """Start what is dead, at the same addresses."""
        self.stack.up()

    def get(self, path: str) -> Json:
        answer: Json = httpx.get(f"{self.url}{path}", timeout=30).json()
        return answer

    def living(self, name: str) -> list[str]:
        """The ids of the jobs of that name that have not ended."""
        ended = ("CANCELED", "FINISHED", "FAILED")
        jobs = self.get("/jobs/overview")["jobs"]
        return [job["jid"] for job in jobs if job["name"] == name and job["state"] not in ended]


@pytest.fixture(scope="module")
def flink(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> Iterator[Flink]:
    external = External(kafka_bootstrap=endpoints.kafka_bootstrap, postgres_url=endpoints.postgres.url)
    stack = Stack(tmp_path_factory.mktemp("flink"), external, shared_artifacts())
    try:
        yield Flink(stack)
    finally:
        stack.down(purge=True)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints, flink: Flink) -> Iterator[Api]:
    with running_service(tmp_path_factory.mktemp("service")) as service:
        yield Api(service.url, replace(endpoints, flink_url=flink.url))


class Counting:
    """A job that counts rows by key into PostgreSQL: what it has counted is its state."""

    def __init__(
        self, api: Api, topic: str, rows: tuple[Any, ...], cluster: int | None = None, hint: str = "", **settings: Any
    ) -> None:
        self.api, self.topic = api, topic
        self.table, self._produce, self._connection = rows
        tag = uuid.uuid4().hex[:8]
        self.name = f"counting {tag}"
        source = api.kafka_source(f"rows_{tag}", topic, {"k": "STRING"})
        sink = api.postgresql(
            f"counts_{tag}", "sink", self.table, {"k": "STRING", "n": "BIGINT"}, primary_key="k", flush_interval="100"
        )
        sql = f"SELECT k, COUNT(*) FROM rows_{tag} {hint} GROUP BY k"
        body = api.job(self.name, [source], {sink: sql}, checkpointInterval=300, **settings)
        self.id = int(api.ok("POST", "/jobs/addDO", json=body | ({"clusterId": cluster} if cluster else {}))["id"])

    def add(self, rows: int) -> None:
        self._produce(self.topic, [{"k": "ab"[n % 2]} for n in range(rows)])

    def until_counted(self, each: int) -> None:
        """Wait until each key was counted so often; more than that fails at once."""
        deadline = time.monotonic() + LONG_S
        query = f"SELECT k, n FROM {self.table}".encode()
        while (counts := dict(self._connection.execute(query).fetchall())) != {"a": each, "b": each}:
            assert counts.get("a", 0) <= each, counts
            assert time.monotonic() < deadline, (counts, self.overview())
            time.sleep(0.2)

    def overview(self) -> Json:
        found: Json = self.api.ok("GET", f"/jobs/overview/{self.id}")
        return found

    @property
    def run(self) -> Json:
        found: Json = self.overview()["run"]
        return found

    def until(self, what: Callable[[Json], bool]) -> Json:
        """The newest run, as soon as that holds for it."""
        deadline = time.monotonic() + LONG_S
        while not what(run := self.run):
            assert time.monotonic() < deadline, self.overview()
            time.sleep(0.2)
        return run

    def until_checkpointed(self, flink: Flink) -> None:
        """Wait for a checkpoint that was begun from now on."""
        began, job_id = time.time() * 1000, self.run["flinkJobId"]
        deadline = time.monotonic() + LONG_S
        while (newest := flink.get(f"/jobs/{job_id}/checkpoints").get("latest", {}).get("completed")) is None or newest[
            "trigger_timestamp"
        ] < began:
            assert time.monotonic() < deadline, newest
            time.sleep(0.2)

    def start(self) -> Json:
        self.add(20)
        self.api.run(self.id, LONG_S)
        self.until_counted(10)
        return self.run


Make = Callable[..., Counting]


@pytest.fixture
def counting(
    api: Api,
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    pg_table: Callable[..., str],
    postgres: Callable[[], Any],
) -> Iterator[Make]:
    """``counting(**settings)`` makes such a job; it is canceled after the test."""
    made: list[Counting] = []

    def make(cluster: int | None = None, **settings: Any) -> Counting:
        rows = (pg_table("k text primary key, n bigint"), produce, postgres())
        made.append(Counting(api, kafka_topic("rows"), rows, cluster, **settings))
        return made[-1]

    yield make
    for one in made:
        api.call("POST", f"/jobs/cancel/{one.id}", params={"mode": "none"})
        one.until(lambda run: run is None or run["endedAt"] is not None)


@pytest.mark.timeout(600)
def test_given_a_job_manager_that_is_killed_then_its_job_goes_on_from_its_newest_checkpoint_by_itself(
    flink: Flink, counting: Make
) -> None:
    job = counting()
    before = job.start()
    job.add(20)
    job.until_counted(20)
    job.until_checkpointed(flink)  # which nobody may have noted yet
    kill(flink.stack, "jobmanager")
    job.add(20)  # while nothing runs
    time.sleep(3)
    assert job.run["state"] == "RUNNING", "a cluster that does not answer is not a job that is lost"
    flink.repair()

    after = job.until(lambda run: run["state"] == "RUNNING" and run["id"] != before["id"])
    assert (after["recoveryAttempt"], after["recoveredRunId"]) == (1, before["id"])
    assert f"{before['flinkJobId']}/chk-" in after["restoredFrom"]
    job.until_counted(30)
    assert flink.living(job.name) == [after["flinkJobId"]]
    told = [event["message"] for event in job.overview()["events"]]
    assert f"goes on from {after['restoredFrom']}, which is whole." in told


@pytest.mark.timeout(600)
def test_given_a_policy_of_none_when_the_cluster_loses_its_memory_then_the_job_stays_lost(
    flink: Flink, counting: Make
) -> None:
    job = counting(recover="none")
    before = job.start()
    kill(flink.stack, "jobmanager")
    flink.repair()

    lost = job.until(lambda run: run["state"] == "LOST")
    assert (lost["id"], job.api.status(job.id)) == (before["id"], 3)
    assert "was restarted since this run was submitted, and does not know it any more" in lost["reason"]
    time.sleep(3)
    assert flink.living(job.name) == []


@pytest.mark.timeout(600)
def test_given_a_job_that_is_canceled_on_flinks_page_then_the_service_says_so_and_leaves_it(
    flink: Flink, counting: Make
) -> None:
    job = counting()
    before = job.start()
    httpx.patch(f"{flink.url}/jobs/{before['flinkJobId']}?mode=cancel", timeout=30)

    ended = job.until(lambda run: run["state"] == "CANCELED")
    assert ended["reason"] == (
        f"Canceled outside of this service: on the page of {flink.url}, or by another client of it"
    )
    time.sleep(3)
    assert (job.run["id"], flink.living(job.name)) == (before["id"], [])


@pytest.mark.timeout(600)
def test_given_a_job_that_is_stopped_on_flinks_page_then_its_savepoint_is_found_and_a_restart_goes_on_from_it(
    flink: Flink, counting: Make
) -> None:
    job = counting()
    flink_id = job.start()["flinkJobId"]
    there = f"{flink.url}/jobs/{flink_id}"
    httpx.post(f"{there}/savepoints", json={"cancel-job": False}, timeout=30).raise_for_status()
    savepoints = f"/jobs/{job.id}/savepoints"

    def kept(how_many: int) -> list[Json]:
        deadline = time.monotonic() + LONG_S
        while len(found := job.api.ok("GET", savepoints)) < how_many or not all(one["verified"] for one in found):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return list(found)

    deadline = time.monotonic() + LONG_S
    while flink.get(f"/jobs/{flink_id}/checkpoints")["latest"]["savepoint"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    httpx.post(f"{there}/stop", json={"drain": False}, timeout=30).raise_for_status()
    job.until(lambda run: run["state"] == "FINISHED" and run["reason"] is not None)

    stopped = kept(1)[0]
    assert stopped["purpose"] == "OUTSIDE"
    assert job.run["reason"] == f"Stopped with a savepoint outside of this service: {stopped['path']}"
    job.add(20)
    assert job.api.ok("POST", f"/jobs/restart/{job.id}")["restoredFrom"].rstrip("/") == stopped["path"].rstrip("/")
    job.until_counted(20)


@pytest.mark.timeout(600)
def test_given_jobs_that_need_more_slots_than_there_are_then_they_wait_and_start_in_turn(
    flink: Flink, counting: Make
) -> None:
    first, second = counting(parallelism=6), counting(parallelism=4)
    first.start()
    time.sleep(_COUNTED_S)
    began = time.monotonic()
    answer = first.api.call("POST", f"/jobs/run/{second.id}")

    assert time.monotonic() - began < 15, "whoever waits for slots is told so at once"
    assert (answer["code"], answer["data"]["jobStatus"], answer["data"]["state"]) == (200, 9, "CREATED")
    assert answer["msg"] == (
        f"Waits for slots: it needs 4, {flink.url} has 2 free of 8; the others are held by {first.name} (6); "
        "first in the queue"
    )
    small = counting()
    behind = first.api.call("POST", f"/jobs/run/{small.id}")
    assert behind["msg"].endswith(f"; place 2 in the queue, behind {second.name} (4)")
    assert flink.living(second.name) == []
    first.api.ok("POST", f"/jobs/cancel/{first.id}", params={"mode": "none"})
    second.until(lambda run: run["state"] == "RUNNING" and run["tasksRunning"] == run["tasksTotal"])
    small.until(lambda run: run["state"] == "RUNNING")


@pytest.mark.timeout(600)
def test_given_a_batch_of_jobs_that_together_need_too_much_then_none_fails_and_all_run_in_the_end(
    flink: Flink, counting: Make
) -> None:
    jobs = [counting(parallelism=3) for _ in range(4)]
    api = jobs[0].api
    api.ok("POST", "/jobs/runBatch", params={"jobIds": [job.id for job in jobs]})

    deadline = time.monotonic() + LONG_S
    while sorted(api.status(job.id) for job in jobs) != [1, 1, 9, 9]:
        assert time.monotonic() < deadline, [job.overview() for job in jobs]
        time.sleep(0.2)
    runs = [job for job in jobs if api.status(job.id) == 1]
    waiting = [job for job in jobs if job not in runs]
    gone = waiting[1]
    api.ok("POST", f"/jobs/cancel/{gone.id}")
    assert api.status(gone.id) == 2
    api.ok("POST", f"/jobs/cancel/{runs[0].id}", params={"mode": "none"})
    waiting[0].until(lambda run: run["state"] == "RUNNING")
    assert flink.living(gone.name) == []


@pytest.mark.timeout(600)
def test_given_an_operator_that_is_more_parallel_than_the_job_then_its_slots_are_counted(
    flink: Flink, counting: Make
) -> None:
    wide, next_one = counting(hint="/*+ OPTIONS('scan.parallelism' = '7') */"), counting(parallelism=2)
    wide.start()
    time.sleep(_COUNTED_S)
    overview = flink.get("/overview")

    assert (wide.run["slots"], overview["slots-total"] - overview["slots-available"]) == (7, 7)
    answer = next_one.api.call("POST", f"/jobs/run/{next_one.id}")
    assert answer["msg"].startswith(f"Waits for slots: it needs 2, {flink.url} has 1 free of 8")


@pytest.mark.timeout(600)
def test_given_a_limit_then_a_job_that_waited_so_long_fails_with_the_arithmetic(flink: Flink, counting: Make) -> None:
    first, second = counting(parallelism=8), counting(queueLimitS=2)
    first.start()
    time.sleep(_COUNTED_S)
    assert first.api.ok("POST", f"/jobs/run/{second.id}")["jobStatus"] == 9

    failed = second.until(lambda run: run["state"] == "FAILED")
    assert failed["reason"].startswith(f"Waits for slots: it needs 1, {flink.url} has 0 free of 8")
    assert second.api.status(second.id) == 3


@pytest.fixture
def line(flink: Flink) -> Iterator[BadLine]:
    with bad_line_to(flink.url) as made:
        yield made


@pytest.fixture
def counting_there(api: Api, line: BadLine, counting: Make) -> Iterator[Make]:
    """As ``counting``, on the cluster behind the line."""
    name = f"behind {uuid.uuid4().hex[:8]}"
    cluster = api.ok("POST", "/cluster/add", params={"name": name, "address": line.url, "type": "1"})["id"]
    yield lambda **settings: counting(int(cluster), **settings)
    line.be(Line.GOOD)


@pytest.mark.timeout(600)
def test_given_a_line_that_is_cut_silent_or_answers_garbage_then_nothing_is_concluded_from_it(
    api: Api, flink: Flink, line: BadLine, counting_there: Make
) -> None:
    job = counting_there()
    before = job.start()
    for disturbed in (Line.CUT, Line.GARBAGE, Line.SILENT):
        line.be(disturbed)
        deadline = time.monotonic() + LONG_S
        while job.run["observedAgeSeconds"] < 8:  # longer than a job must be unknown to be lost
            assert time.monotonic() < deadline, job.overview()
            time.sleep(0.5)
        assert (job.run["id"], job.run["state"], api.status(job.id)) == (before["id"], "RUNNING", 1)
        assert line.url in api.http.get("/health").json()["unreachable"]
        line.be(Line.GOOD)
        job.until(lambda run: run["observedAgeSeconds"] < 3)
    job.add(20)
    job.until_counted(20)
    assert flink.living(job.name) == [before["flinkJobId"]]


@pytest.mark.timeout(600)
def test_given_an_address_that_leads_elsewhere_for_a_while_then_the_job_is_taken_again_and_never_doubled(
    api: Api, flink: Flink, line: BadLine, counting_there: Make
) -> None:
    job = counting_there()
    before = job.start()
    line.be(Line.ELSEWHERE)
    waiting = job.until(lambda run: run["id"] != before["id"])
    assert waiting["recoveredRunId"] == before["id"]
    job.until(lambda run: "no TaskManager is there" in (run["reason"] or ""))
    assert flink.living(job.name) == [before["flinkJobId"]]
    line.be(Line.GOOD)

    after = job.until(lambda run: run["state"] == "RUNNING")
    assert (after["id"], after["flinkJobId"]) == (waiting["id"], before["flinkJobId"])
    job.add(20)
    job.until_counted(20)
    assert flink.living(job.name) == [before["flinkJobId"]]
    api.ok("POST", f"/jobs/cancel/{job.id}", params={"mode": "none"})
    job.until(lambda run: run["state"] == "CANCELED")
    assert flink.living(job.name) == []
