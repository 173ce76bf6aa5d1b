"""Which jobs use a table, and what an edit of it means to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.hlink.jobs.models import JobTableLink, StoredJob, subject_of
from app.supervisor import latest_runs
from stream_jobs.definitions import KafkaSink, KafkaSource, Table


@dataclass(frozen=True, slots=True)
class Use:
    """A job that uses a table; ``running``: a run of it has not ended."""

    job_id: int
    name: str
    running: bool


class StateEffect(StrEnum):
    """What is known for sure of a job's state when it is run again after an edit of one of its tables."""

    UNTOUCHED = "untouched"
    """Nothing that a job sees has changed."""
    SURVIVES = "survives"
    """The job's operators stay what they are: only what they connect to has changed."""
    UNCERTAIN = "uncertain"
    """The job is planned anew, and its operators may be others."""


async def uses(session: AsyncSession, table_id: int) -> Sequence[Use]:
    """The jobs, those that were deleted left out, that use the table; in the order of their names."""
    query = (
        select(StoredJob.id, StoredJob.name)
        .join(JobTableLink, col(JobTableLink.job_id) == StoredJob.id)
        .where(JobTableLink.table_id == table_id, StoredJob.del_flag == 1)
        .distinct()
        .order_by(StoredJob.name)
    )
    found = (await session.exec(query)).all()
    runs = await latest_runs(session, [subject_of(job_id) for job_id, _ in found])
    return [
        Use(job_id, name, bool((run := runs.get(subject_of(job_id))) and not run.state.ended)) for job_id, name in found
    ]


def state_effect(before: Table, after: Table) -> StateEffect:
    """What becomes of the state of a job that goes on with the table as it is ``after`` the edit."""
    if before == after:
        return StateEffect.UNTOUCHED
    if replace(before, connector=after.connector) != after or _holds_place(before, after):
        return StateEffect.UNCERTAIN
    return StateEffect.SURVIVES


def _holds_place(before: Table, after: Table) -> bool:
    """Whether state speaks of what the connector named before: offsets of a topic, open transactions."""
    old, new = before.connector, after.connector
    match old, new:
        case KafkaSource(), KafkaSource():
            return (old.bootstrap_servers, old.topic) != (new.bootstrap_servers, new.topic)
        case KafkaSink(), KafkaSink():
            return old.exactly_once or new.exactly_once
    return type(old) is not type(new)
