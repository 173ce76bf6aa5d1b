"""How fresh the status of very many jobs is, and what keeping it fresh costs the service.

The service is the real one, ``hlink serve``; the clusters are simulated ones in a process of their own. The jobs are
written straight into the service's database, as running: no API stores 5,000 of them within a benchmark. Then jobs
change on the clusters one after the other, at moments that are noted, and the service's database is read until it
shows each change. What an API call answers is a row of that database.

Processor time is that of the service's process and of the planner that it keeps, together.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Connection, Engine, bindparam, create_engine, insert, make_url, text

from app.database import Database
from app.encryption import unlock
from app.hlink.clusters.models import Cluster
from app.hlink.jobs.models import JobVersion, StoredJob, subject_of
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import Run, State
from benchmarks import ours
from benchmarks.http import Failed
from benchmarks.ours import Service
from benchmarks.processes import wait_until
from benchmarks.report import p50, p99
from benchmarks.simulated_flink import now_ms
from benchmarks.simulation import Simulation, simulated

SIZES = (100, 1_000, 5_000)
CLUSTERS = 10
OVERVIEW = "GET /jobs/overview"
_OBSERVED_FOR_S = 60.0
_CHANGES_A_SECOND = 2
_AFTERWARDS_S = 15.0
_LOOK_S = 0.02
_SETTLED_WITHIN_S = 300.0
_QUIET_S = 5.0
_RUNNING_FOR_MS = 3_600_000

Figures = dict[str, float | int]


@dataclass(frozen=True, slots=True)
class _Job:
    """A job of the benchmark, as all three know it: the database, the cluster, and the one who changes it."""

    number: int

    @property
    def id(self) -> str:
        return f"{self.number:032x}"

    @property
    def cluster(self) -> int:
        return self.number % CLUSTERS

    @property
    def name(self) -> str:
        return f"job {self.number}"


@dataclass
class _Seen:
    """What came of one stretch of observing."""

    staleness_s: list[float] = field(default_factory=list)
    cores: float = 0.0
    overviews: float = 0.0
    """Requests for a cluster's overview, per cluster and tick."""
    requests: float = 0.0
    """All requests, per cluster and tick."""


def observing(environment: Mapping[str, str], home: Path, postgres_url: str, sizes: Sequence[int] = SIZES) -> Figures:
    """Staleness, requests and processor time at each size, on SQLite; at the largest also on PostgreSQL.

    :param environment: of the service, which gets a home beneath ``home`` for each measurement.
    :param postgres_url: a database in which schemas can be made.
    """
    figures: Figures = {}
    for size in sizes:
        seen = _observe(environment, home / f"sqlite-{size}", size, "")
        figures |= _figures(f"{size}", seen)
    largest = max(sizes)
    with _schema(postgres_url) as url:
        figures |= _figures(
            f"{largest}_postgresql", _observe(environment, home / f"postgresql-{largest}", largest, url)
        )
    # The targets hold on both databases: each figure without a database's name is the worse of the two.
    figures[f"staleness_{largest}_sqlite_p99_s"] = figures[f"staleness_{largest}_p99_s"]
    figures[f"observe_{largest}_sqlite_cores"] = figures[f"observe_{largest}_cores"]
    for one in (f"staleness_{largest}{{}}_p99_s", f"observe_{largest}{{}}_cores", f"observe_{largest}{{}}_overviews"):
        figures[one.format("")] = max(figures[one.format("")], figures[one.format("_postgresql")])
    return figures


def _figures(name: str, seen: _Seen) -> Figures:
    return {
        f"staleness_{name}_p50_s": p50(seen.staleness_s),
        f"staleness_{name}_p99_s": p99(seen.staleness_s),
        f"staleness_{name}_samples": len(seen.staleness_s),
        f"observe_{name}_cores": seen.cores,
        f"observe_{name}_overviews": seen.overviews,
        f"observe_{name}_requests": seen.requests,
    }


def _observe(environment: Mapping[str, str], home: Path, size: int, database_url: str) -> _Seen:
    settings = Settings.model_validate({"home": home, "database_url": database_url})
    jobs = [_Job(number) for number in range(1, size + 1)]
    home.mkdir(parents=True, exist_ok=True)
    with simulated(home / "savepoints", CLUSTERS) as flink:
        since = now_ms() - _RUNNING_FOR_MS
        flink.add([{"cluster": job.cluster, "id": job.id, "name": job.name, "since": since} for job in jobs])
        asyncio.run(_migrated(settings))
        engine = create_engine(
            make_url(settings.database()).set(drivername=_SYNCHRONOUS[settings.database().drivername])
        )
        _fill(engine, settings, jobs, flink.addresses)
        own = {**environment, "HLINK_HOME": str(home), "HLINK_DATABASE_URL": database_url}
        with ours.started(own, home / "service.log") as service, closing(engine.connect()) as database:
            _wait_until_settled(flink, database, size)
            seen = _Seen()
            before, spent, began = flink.asked(), _spent(service), time.monotonic()
            _change_and_watch(flink, database, jobs, seen)
            lasted = time.monotonic() - began
            seen.cores = (_spent(service) - spent) / lasted
            asked = [_total(after) - _total(then) for after, then in zip(flink.asked(), before, strict=True)]
            overviews = [a[OVERVIEW] - b[OVERVIEW] for a, b in zip(flink.asked(), before, strict=True)]
            ticks = lasted / settings.tick_s
            seen.overviews, seen.requests = (sum(counts) / CLUSTERS / ticks for counts in (overviews, asked))
        engine.dispose()
    return seen


_SYNCHRONOUS = {"sqlite+aiosqlite": "sqlite", "postgresql+psycopg": "postgresql+psycopg"}


async def _migrated(settings: Settings) -> None:
    database = Database(settings.database())
    await migrate(database)
    await database.close()


def _fill(engine: Engine, settings: Settings, jobs: Sequence[_Job], addresses: Sequence[str]) -> None:
    """Clusters, and jobs that run there."""
    unlock(settings)
    audited = {"create_by": "", "modify_by": "", "del_flag": 1}
    rows: dict[Any, list[dict[str, Any]]] = {
        Cluster: [
            {"id": n, "name": f"cluster {n}", "address": address, "type": 1, "remark": "", **audited}
            for n, address in enumerate(addresses, start=1)
        ],
        StoredJob: [
            {
                "id": job.number, "code": f"J{job.number}", "name": job.name, "description": "", "kind": 0,
                "cluster_id": job.cluster + 1, "settings": {"parallelism": 1}, **audited,
            }
            for job in jobs
        ],
        JobVersion: [
            {
                "id": job.number, "job_id": job.number, "number": 1, "digest": "d", "script": "s" * 500,
                "compiled": "{}" * 2000, "options": {},
            }
            for job in jobs
        ],
        Run: [
            {
                "id": job.number, "kind": "flink", "subject": subject_of(job.number), "state": State.RUNNING,
                "external_id": job.id, "started_at": 1, "submitted_at": 1, "attempts": 1, "observed": "RUNNING",
                "observed_at": now_ms(), "observed_from": addresses[job.cluster], "tasks_running": 2, "tasks_total": 2,
                "restarts": 0, "checkpoint": "file:/checkpoints/chk-1",
                "spec": {
                    "flink_url": addresses[job.cluster], "version": job.number, "job_kind": 0, "slots": 1,
                    "allow_non_restored": False,
                },
            }
            for job in jobs
        ],
    }  # fmt: skip
    with engine.begin() as connection:
        for model, values in rows.items():
            for start in range(0, len(values), 500):
                connection.execute(insert(model), values[start : start + 500])
        connection.execute(text("ANALYZE"))


def _wait_until_settled(flink: Simulation, database: Connection, size: int) -> None:
    """Wait until every job was seen, and the service has fetched what it wants to know of each at first."""

    def seen() -> bool:
        counted = database.execute(text("SELECT count(*) FROM run WHERE look_id IS NOT NULL")).scalar_one()
        database.rollback()
        return bool(counted == size)

    wait_until(f"the first look at {size} jobs", seen, _SETTLED_WITHIN_S)
    last = (float("inf"), 0, time.monotonic())

    def quiet() -> bool:
        nonlocal last
        if time.monotonic() - last[2] < _QUIET_S:
            return False
        asked = flink.asked()
        looks = sum(one.get(OVERVIEW, 0) for one in asked)
        details = sum(map(_total, asked)) - looks
        new_looks, new_details = looks - last[1], details - last[0]
        last = (details, looks, time.monotonic())
        # In steady state there are more looks than questions about single jobs.
        return 0 <= new_details < new_looks

    wait_until("the end of the first looks at details", quiet, _SETTLED_WITHIN_S)


def _change_and_watch(flink: Simulation, database: Connection, jobs: Sequence[_Job], seen: _Seen) -> None:
    """Let jobs change, one after the other, and note when the database shows each change."""
    chosen = random.Random(5).sample(list(jobs), min(len(jobs), int(_OBSERVED_FOR_S * _CHANGES_A_SECOND)))
    shown = text("SELECT external_id FROM run WHERE external_id IN :ids AND observed <> 'RUNNING'").bindparams(
        bindparam("ids", expanding=True)
    )
    pending: dict[str, int] = {}
    began = time.monotonic()
    done = 0
    while (elapsed := time.monotonic() - began) < _OBSERVED_FOR_S or pending:
        if elapsed > _OBSERVED_FOR_S + _AFTERWARDS_S:
            raise Failed(f"{len(pending)} changes of jobs were not seen within {_AFTERWARDS_S:.0f} s")
        due = min(len(chosen), int(elapsed * len(chosen) / _OBSERVED_FOR_S) + 1)
        if due > done:
            states = [_STATES[number % len(_STATES)] for number in range(done, due)]
            changes = [
                {"cluster": job.cluster, "id": job.id, "state": state}
                for job, state in zip(chosen[done:due], states, strict=True)
            ]
            pending |= {one["id"]: one["at"] for one in flink.change(changes)}
            done = due
        if pending:
            found = database.execute(shown, {"ids": list(pending)}).scalars().all()
            database.rollback()
            now = time.time() * 1000
            seen.staleness_s += [(now - pending.pop(job_id)) / 1000 for job_id in found]
        time.sleep(_LOOK_S)


_STATES = ("RESTARTING", "FAILED", "CANCELED", "RESTARTING", "FINISHED")
"""What the jobs become, in turn."""


def _total(asked: Mapping[str, int]) -> int:
    return sum(asked.values())


def _spent(service: Service) -> float:
    process = psutil.Process(service.pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(float(one.user + one.system) for one in times)


@contextmanager
def _schema(postgres_url: str) -> Iterator[str]:
    """The address of an empty schema; dropped at the end."""
    engine = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with closing(engine.connect()) as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS observed CASCADE"))
        connection.execute(text("CREATE SCHEMA observed"))
        try:
            yield f"{postgres_url}?options=-csearch_path%3Dobserved"
        finally:
            connection.execute(text("DROP SCHEMA observed CASCADE"))
    engine.dispose()
