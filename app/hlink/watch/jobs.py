"""Which jobs there are to look after, as the database has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import now_ms
from app.hlink.clusters.models import DELETED, Cluster
from app.hlink.jobs.models import SUBJECT, StoredJob
from app.supervisor import Run, State
from app.supervisor.looks import seen_at

_CHUNK = 500  # SQLite limits the parameters of a statement

_Later = aliased(Run)

UNWELL = (State.FAILED, State.LOST)
"""How a run ends that somebody should look at."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A job with its newest run. ``cluster`` is the cluster's name, or its address when it was deleted."""

    job_id: int
    name: str
    cluster: str
    address: str
    run_id: int
    flink_job_id: str
    state: State
    observed_age_s: float | None
    slots: int | None
    restarts: int | None

    @property
    def labels(self) -> tuple[str, str, str]:
        """Of its metrics."""
        return str(self.job_id), self.name, self.cluster


@dataclass(frozen=True, slots=True)
class Jobs:
    """``held``: with a run that this replica looks after. ``unwell``: whose newest run failed or was lost."""

    held: Sequence[Watched]
    unwell: Sequence[Watched]
    left_out: int


async def watched(session: AsyncSession, owner: str, most: int) -> Jobs:
    """The jobs with a run that ``owner`` holds, and those that are unwell: ``most`` of each, the oldest first."""
    columns = (Run.id, Run.subject, Run.external_id, Run.state, Run.spec, seen_at(), Run.slots, Run.restarts)
    runs: Any = select(*columns).where(col(Run.subject).startswith(SUBJECT))  # type: ignore[call-overload]
    later = select(_Later.id).where(_Later.subject == Run.subject, _Later.id > Run.id).exists()
    now = (await session.exec(select(now_ms()))).one()
    held = (await session.exec(runs.where(col(Run.ended_at).is_(None), Run.lease_owner == owner))).all()
    ended = (await session.exec(runs.where(col(Run.state).in_(UNWELL), ~later))).all()
    names = await names_of(session, {job_id_of(row[1]) for row in (*held, *ended)})
    clusters = await session.exec(select(Cluster.address, Cluster.name).where(col(Cluster.del_flag) != DELETED))
    known = dict(clusters.all())

    def made(rows: Sequence[Any]) -> list[Watched]:
        found = []
        for run_id, subject, flink_job_id, state, spec, observed_at, slots, restarts in rows:
            job_id, address = job_id_of(subject), str(spec.get("flink_url"))
            if job_id in names:
                found.append(
                    Watched(
                        job_id=job_id,
                        name=names[job_id],
                        cluster=known.get(address, address),
                        address=address,
                        run_id=run_id,
                        flink_job_id=flink_job_id,
                        state=State(state),
                        observed_age_s=None if observed_at is None else max(0, now - observed_at) / 1000,
                        slots=slots,
                        restarts=restarts,
                    )
                )
        return sorted(found, key=lambda one: one.job_id)

    active = made(held)
    return Jobs(active[:most], made(ended)[:most], max(0, len(active) - most))


def job_id_of(subject: str) -> int:
    """The job of a run's ``subject``."""
    return int(subject.removeprefix(SUBJECT))


async def names_of(session: AsyncSession, job_ids: Collection[int]) -> dict[int, str]:
    """Job -> its name, for those that were not removed."""
    wanted = sorted(job_ids)
    found: dict[int, str] = {}
    for start in range(0, len(wanted), _CHUNK):
        some = col(StoredJob.id).in_(wanted[start : start + _CHUNK])
        found.update(
            (await session.exec(select(StoredJob.id, StoredJob.name).where(some, StoredJob.del_flag == 1))).all()
        )
    return found
