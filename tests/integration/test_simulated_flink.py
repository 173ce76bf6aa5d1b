"""The simulated clusters of the benchmark: they answer as Flink does, and tell what they were asked."""

from __future__ import annotations

import asyncio
import filecmp
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.simulated_flink import ANSWERS, SAVEPOINT
from benchmarks.simulation import Simulation, simulated
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.rest import Cluster, ClusterError, JobNotFound, SavepointState

NOBODY = "f" * 32
JOB = "a" * 32


@pytest.fixture
def flink(tmp_path: Path) -> Iterator[Simulation]:
    with simulated(tmp_path / "savepoints", 2) as simulation:
        simulation.add([{"cluster": 0, "id": JOB, "name": "one"}])
        yield simulation


def shape(value: object) -> object:
    """The names and types of an answer, without its values; of a list, those of its first entry."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("overview", "GET", "/overview"),
        ("config", "GET", "/config"),
        ("jobmanager_config", "GET", "/jobmanager/config"),
        ("status_unknown", "GET", f"/jobs/{NOBODY}/status"),
        ("job_unknown", "GET", f"/jobs/{NOBODY}"),
        ("cancel_unknown", "PATCH", f"/jobs/{NOBODY}?mode=cancel"),
    ],
)
def test_given_a_real_cluster_then_a_simulated_one_answers_the_same(
    endpoints: Endpoints, flink: Simulation, name: str, method: str, path: str
) -> None:
    real = httpx.request(method, endpoints.flink_url + path, timeout=30)
    answer = httpx.request(method, flink.addresses[0] + path, timeout=30)

    assert ANSWERS[name]["status"] == real.status_code == answer.status_code
    if name == "jobmanager_config":
        assert {"key", "value"} == set(real.json()[0]) == set(answer.json()[0])
    else:
        assert shape(real.json()) == shape(answer.json())
    if real.status_code >= 400:
        assert [line.split("\n\tat ")[0] for line in real.json()["errors"]] == [
            line.split("\n\tat ")[0] for line in answer.json()["errors"]
        ]


async def test_given_a_job_that_is_changed_then_its_cluster_shows_it_and_counts_who_looked(flink: Simulation) -> None:
    [changed] = flink.change([{"cluster": 0, "id": JOB, "state": "RESTARTING"}])
    async with Cluster(flink.addresses[0]) as cluster:
        [job] = await cluster.job_states()
        [summary] = await cluster.jobs()

    assert (job.id, job.state, job.last_modification, job.tasks_running) == (JOB, "RESTARTING", changed["at"], 0)
    assert (summary.name, summary.tasks.total) == ("one", job.tasks_total)
    assert flink.asked() == [{"GET /jobs/overview": 2}, {}]


async def test_given_a_stop_with_savepoint_then_it_is_made_and_the_job_ends(flink: Simulation, tmp_path: Path) -> None:
    token = "c" * 32
    async with Cluster(flink.addresses[0]) as cluster:
        await cluster.stop_with_savepoint(JOB, token, f"file://{tmp_path}/{token}")
        under_way = await cluster.savepoint_status(JOB, token)
        assert under_way is not None
        assert under_way.state is SavepointState.IN_PROGRESS
        await asyncio.sleep(1)
        status = await cluster.savepoint_status(JOB, token)
        assert await cluster.status(JOB) == "FINISHED"

    assert status is not None
    assert status.location is not None
    assert status.location == f"file:{tmp_path}/{token}/savepoint-{JOB[:6]}-{token[:12]}"
    assert filecmp.cmp(f"{status.location.removeprefix('file:')}/_metadata", SAVEPOINT)


async def test_given_programs_that_are_run_then_what_runs_twice_is_told(flink: Simulation) -> None:
    names = {"flinkConfiguration": {"pipeline.name": "one"}}
    ids = ["1" * 32, "2" * 32]
    for address, job_id in zip(flink.addresses, ids, strict=True):
        async with Cluster(address) as cluster:
            with pytest.raises(JobNotFound, match=f"does not know the job {job_id}"):
                await cluster.status(job_id)
            jar = await cluster.upload_jar(Path(__file__), "a.jar", 5)
            await cluster.run_jar(jar, {"jobId": job_id, **names}, 5)
            with pytest.raises(ClusterError, match="Application has already been submitted"):
                await cluster.run_jar(jar, {"jobId": job_id, **names}, 5)
            assert await cluster.status(job_id) == "RUNNING"

    known = flink.known()
    assert [one["id"] for one in known["submissions"]] == ids
    assert known["doubled"] == [
        f"'one' runs as {JOB} and was started as {ids[0]}",
        f"'one' runs as {JOB} and was started as {ids[1]}",
        f"'one' runs as {ids[0]} and was started as {ids[1]}",
    ]
