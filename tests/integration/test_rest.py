"""Flink's REST API and the runner on it, against a real cluster; jobs are submitted with PyFlink under chosen ids."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.database import Database
from app.ids import NodeLease
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import Pace, Run, State, StopMode, Supervisor, create_run, request_stop
from app.supervisor.runners.base import AlreadySubmitted, SubmissionRefused
from app.supervisor.runners.flink import FlinkRunner
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.rest import Cluster, Clusters, JobNotFound, SavepointState

SUBMIT = """
import sys
from urllib.parse import urlsplit
from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

flink_url, job_id, query = sys.argv[1:]
address = urlsplit(flink_url)
configuration = Configuration()
for key, value in {
    "execution.target": "remote",
    "execution.attached": "false",
    "rest.address": address.hostname,
    "rest.port": str(address.port),
    "$internal.pipeline.job-id": job_id,
    "parallelism.default": "1",
    "execution.checkpointing.interval": "500 ms",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "1",
    "restart-strategy.fixed-delay.delay": "200 ms",
}.items():
    configuration.set_string(key, value)
tables = TableEnvironment.create(
    EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
)
tables.execute_sql("CREATE TABLE s (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '20')")
tables.execute_sql("CREATE TABLE k (a BIGINT) WITH ('connector' = 'blackhole')")
tables.execute_sql("INSERT INTO k " + query)
"""
ENDLESS = "SELECT a FROM s"
FAILING = "SELECT 1 / (a - a) FROM s"


class PyFlink:
    """Submits ``spec["query"]`` in a process of its own, as the planner does in a warm one."""

    async def submit(self, run: Run) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SUBMIT, run.spec["flink_url"], run.external_id, run.spec["query"]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode(errors="replace")
        if process.returncode == 0:
            return
        if "DuplicateApplicationSubmissionException" in said or "DuplicateJobSubmissionException" in said:
            raise AlreadySubmitted
        raise SubmissionRefused(said[-2000:])


async def until(look: Callable[[], Awaitable[Any]], within_s: float = 60.0) -> Any:
    async with asyncio.timeout(within_s):
        while not (found := await look()):  # noqa: ASYNC110 - what is waited for is outside
            await asyncio.sleep(0.1)
    return found


@pytest.fixture
async def cluster(endpoints: Endpoints) -> AsyncIterator[Cluster]:
    async with Cluster(endpoints.flink_url) as made:
        yield made


@pytest.fixture
async def supervisor(endpoints: Endpoints, tmp_path: Path) -> AsyncIterator[Supervisor]:
    database = Database(Settings(home=tmp_path).database())
    await migrate(database)
    clusters = Clusters()
    made = Supervisor(database, "me", Pace(tick_s=0.2, lease_s=30, lost_after_s=1))
    made.register("flink", FlinkRunner(PyFlink(), clusters))
    async with NodeLease(database).held():
        await made.start()
        yield made
        await made.stop()
    await clusters.close()
    await database.close()


async def start(supervisor: Supervisor, endpoints: Endpoints, query: str, **spec: Any) -> Run:
    async with supervisor._database.write() as session:
        run = await create_run(
            session, "flink", f"job:{uuid.uuid4()}", {"flink_url": endpoints.flink_url, "query": query, **spec}
        )
    supervisor.kick(run)
    return await supervisor.wait(run.id, timeout_s=90)


async def stop(supervisor: Supervisor, run: Run, mode: StopMode) -> Run:
    async with supervisor._database.write() as session:
        stopped = await request_stop(session, run.subject, mode)
    assert stopped is not None
    supervisor.kick(stopped)
    return await supervisor.wait(run.id, lambda run: run.state.ended, 60)


async def test_the_cluster_says_what_it_is(cluster: Cluster) -> None:
    overview = await cluster.overview()
    assert overview.flink_version.startswith("2.")
    assert overview.slots_total == sum(one.slots for one in await cluster.task_managers()) > 0
    life = await cluster.incarnation()
    assert life
    assert life == await cluster.incarnation()


async def test_a_job_that_the_cluster_does_not_know(cluster: Cluster) -> None:
    for call in (cluster.status, cluster.job, cluster.checkpoints, cluster.exceptions, cluster.cancel):
        with pytest.raises(JobNotFound):
            await call("f" * 32)
    assert await cluster.savepoint_status("f" * 32, uuid.uuid4().hex) is None


async def test_given_a_run_then_it_runs_under_its_id_and_everything_about_it_can_be_read(
    supervisor: Supervisor, cluster: Cluster, endpoints: Endpoints, tmp_path: Path
) -> None:
    run = await start(supervisor, endpoints, ENDLESS, savepoint_dir=tmp_path.as_uri())
    assert (run.state, run.attempts) == (State.RUNNING, 1)
    job_id = run.external_id
    assert await cluster.status(job_id) == "RUNNING"

    busy = await supervisor.wait(run.id, lambda run: bool(run.tasks_total) and run.tasks_running == run.tasks_total, 60)
    assert busy.tasks_total
    job = await cluster.job(job_id)
    assert {vertex.id for vertex in job.vertices} == {node.id for node in job.plan.nodes}
    vertex = job.vertices[0].id
    assert (await cluster.back_pressure(job_id, vertex)).status in ("ok", "deprecated")
    assert await cluster.watermarks(job_id, vertex) == []

    async def written() -> float | None:
        return (await cluster.vertex_metrics(job_id, vertex, ["numRecordsOut"])).get("numRecordsOut")

    assert await until(written) > 0
    assert await until(lambda: _checkpoint(cluster, job_id))

    # A second submission of the same id is refused, and the run knows what that means.
    with pytest.raises(AlreadySubmitted):
        await PyFlink().submit(run)

    # A savepoint without a stop, twice under the same trigger.
    trigger = uuid.uuid4().hex
    for _ in range(2):
        await cluster.savepoint(job_id, trigger, f"{tmp_path.as_uri()}/savepoint")
    done = await until(lambda: _ended(cluster, job_id, trigger))
    assert (done.state, done.failure) == (SavepointState.COMPLETED, None)
    assert done.location
    assert len(list((tmp_path / "savepoint").iterdir())) == 1

    ended = await stop(supervisor, run, StopMode.SAVEPOINT)
    assert ended.state is State.FINISHED
    assert ended.savepoint is not None
    assert ended.stop_token is not None
    assert f"/{ended.stop_token}/savepoint-" in ended.savepoint
    assert (Path(ended.savepoint.removeprefix("file:")) / "_metadata").is_file()


async def test_given_a_savepoint_folder_that_is_a_file_then_the_stop_is_repeated_until_a_cancel_replaces_it(
    supervisor: Supervisor, cluster: Cluster, endpoints: Endpoints, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    run = await start(supervisor, endpoints, ENDLESS, savepoint_dir=blocked.as_uri())
    async with supervisor._database.write() as session:
        await request_stop(session, run.subject, StopMode.SAVEPOINT)
    trying = await supervisor.wait(run.id, lambda run: run.stop_attempts > 1, 60)
    assert trying.state is State.STOPPING
    assert "failed and is repeated" in (trying.reason or "")
    assert await cluster.status(run.external_id) == "RUNNING"

    assert (await stop(supervisor, run, StopMode.CANCEL)).state is State.CANCELED


async def test_given_a_job_that_fails_then_its_root_cause_is_the_reason(
    supervisor: Supervisor, endpoints: Endpoints
) -> None:
    run = await start(supervisor, endpoints, FAILING)
    failed = await supervisor.wait(run.id, lambda run: run.state.ended, 60)

    assert (failed.state, failed.reason) == (
        State.FAILED,
        "The statement divides by zero: guard the divisor with NULLIF(divisor, 0). "
        "The cause: java.lang.ArithmeticException: / by zero",
    )
    assert "ArithmeticException" in (await supervisor.tail(failed)).text


async def test_given_a_statement_that_flink_refuses_then_the_run_fails_without_a_job(
    supervisor: Supervisor, cluster: Cluster, endpoints: Endpoints
) -> None:
    run = await start(supervisor, endpoints, "SELECT no_such_column FROM s")

    assert run.state is State.FAILED
    assert "no_such_column" in (run.reason or "")
    with pytest.raises(JobNotFound):
        await cluster.status(run.external_id)


async def _checkpoint(cluster: Cluster, job_id: str) -> str | None:
    newest = (await cluster.checkpoints(job_id)).newest_usable
    return newest.external_path if newest is not None else None


async def _ended(cluster: Cluster, job_id: str, trigger: str) -> Any:
    status = await cluster.savepoint_status(job_id, trigger)
    return status if status is not None and status.state is not SavepointState.IN_PROGRESS else None
