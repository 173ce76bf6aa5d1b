"""Figures collected at a pace: never faster than the settings allow, and one cluster's silence is its own."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import metrics
from app.database import Database
from app.hlink.clusters.models import Cluster as StoredCluster
from app.hlink.jobs.models import StoredJob, subject_of
from app.hlink.watch.collector import Collector
from app.ids import NodeLease
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import Run, State, create_run
from app.supervisor.store import Store
from stream_jobs.rest import Clusters
from tests.answers import SILENCE, Answers, answering

RATE = 100.0


class Bench:
    """Runs on simulated clusters, and a collector beside them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.clusters = Clusters(timeout_s=0.5)
        self.collector = Collector(
            SimpleNamespace(settings=settings, database=database, supervisor=SimpleNamespace(owner="me")),  # type: ignore[arg-type]
            self.clusters,
        )
        self._codes = itertools.count()

    async def job(self, flink: Answers, owner: str = "me") -> Run:
        """A job that runs on that cluster."""
        async with self.database.write() as session:
            job = StoredJob(code="", name=f"job {next(self._codes)}", cluster_id=1, settings={})
            session.add(job)
            await session.flush()
            made = await create_run(
                session, "flink", subject_of(job.id), {"flink_url": flink.address, "queue": {"slots": 3}}
            )
        store = Store(self.database, owner, 60)
        begun = await store.begin_submission(made, None)
        assert begun is not None
        running = await store.move(begun, State.RUNNING)
        assert running is not None
        path = f"/jobs/{running.external_id}"
        vertex = {"id": "v", "name": "Source: s", "parallelism": 1, "status": "RUNNING"}
        flink.by_path[path] = {
            "jid": running.external_id, "name": "n", "state": "RUNNING", "start-time": 1, "vertices": [vertex],
        }  # fmt: skip
        flink.by_path[f"{path}/metrics"] = [{"id": "numRestarts", "value": "2"}]
        flink.by_path[f"{path}/vertices/v/subtasks/metrics"] = [
            {"id": "backPressuredTimeMsPerSecond", "sum": 500.0, "min": 500.0, "max": 500.0}
        ]
        return running


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    settings = Settings(home=tmp_path, figures_s=1, figures_requests_s=RATE, figures_jobs=20)
    database = Database(settings.database())
    await migrate(database)
    async with NodeLease(database).held():
        made = Bench(database, settings)
        yield made
        await made.clusters.close()
    metrics.JOBS.replace(())
    await database.close()


@pytest.fixture
async def flink() -> AsyncIterator[Answers]:
    async with answering() as answers:
        yield answers


def samples(gauge: str) -> dict[str, float]:
    """Values by the job's name."""
    found: dict[str, float] = {}
    for family in metrics.JOBS.collect():
        if family.name == gauge:
            found |= {sample.labels["job"]: sample.value for sample in family.samples}
    return found


async def test_each_job_costs_one_request_and_one_a_vertex_at_the_pace_that_is_set(
    bench: Bench, flink: Answers
) -> None:
    async with bench.database.write() as session:
        session.add(StoredCluster(name="main", address=flink.address, type=1))
    for _ in range(10):
        await bench.job(flink)
    await bench.job(flink, owner="another replica")
    began = time.monotonic()
    over = asyncio.Event()
    while len(bench.collector.known) < 10:
        await bench.collector.step(over)
    took = time.monotonic() - began
    first = len(flink.asked)
    assert first == 10 * 4, "the graph, the names, the job's metrics, the vertex's"
    assert took >= (first - 1) / RATE
    await bench.collector.step(over)
    assert samples("hlink_job_restarts") == {f"job {n}": 2.0 for n in range(10)}
    assert set(samples("hlink_job_back_pressure_ratio").values()) == {0.5}
    assert set(samples("hlink_job_slots").values()) == {3.0}
    (labels,) = {sample.labels["cluster"] for family in metrics.JOBS.collect() for sample in family.samples}
    assert labels == "main"


async def test_a_cluster_that_does_not_answer_keeps_no_figures_from_the_others(bench: Bench, flink: Answers) -> None:
    async with answering() as silent:
        for _ in range(3):
            await bench.job(silent)
        await bench.job(flink)
        silent.by_path.clear()
        silent.default = SILENCE
        over = asyncio.Event()
        while not bench.collector.known:
            await bench.collector.step(over)
        assert list(samples("hlink_job_back_pressure_ratio")) in ([], ["job 3"])
        await bench.collector.step(over)
        assert list(samples("hlink_job_back_pressure_ratio")) == ["job 3"]
        assert set(samples("hlink_job_state")) == {"job 0", "job 1", "job 2", "job 3"}
        over.set()
        await bench.collector.step(over)


async def test_more_jobs_than_the_limit_are_left_out_and_counted(bench: Bench, flink: Answers) -> None:
    for _ in range(23):
        await bench.job(flink)
    over = asyncio.Event()
    over.set()  # nobody is asked
    await bench.collector.step(over)
    assert len(samples("hlink_job_state")) == 20
    assert metrics.JOBS_LEFT_OUT._value.get() == 3


async def test_figures_that_are_switched_off_ask_nobody(tmp_path: Path, bench: Bench, flink: Answers) -> None:
    await bench.job(flink)
    service: Any = bench.collector._service
    service.settings = Settings(home=tmp_path, figures_s=0)
    async with bench.collector.running():
        await asyncio.sleep(0.05)
    assert flink.asked == []
