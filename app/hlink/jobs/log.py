"""A job's log: what the service did, what was refused, and what Flink says went wrong, in the order of time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import indent

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.hlink.jobs.models import JobMessage, subject_of
from app.supervisor import Event, Run
from app.supervisor import history as runs_of
from stream_jobs.rest import Clusters, FlinkRestError, JobNotFound

_RUNS = 20
_RUNS_ASKED = 5
"""Of how many runs, the newest ones, the cluster is asked for exceptions: it forgets ended jobs after an hour."""
_MESSAGES = 200
_EXCEPTIONS = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened, at a moment in milliseconds since 1970; its text may have several lines."""

    at: int
    text: str

    def __str__(self) -> str:
        return f"{datetime.fromtimestamp(self.at / 1000, UTC).isoformat(timespec='milliseconds')} {self.text}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the service's database has of a job's log."""

    entries: Sequence[Entry]
    runs: Sequence[Run]
    """The newest runs, the newest first."""


async def recorded(session: AsyncSession, job_id: int) -> Recorded:
    """The events of the newest runs, and what was refused outside of runs."""
    runs = await runs_of(session, subject_of(job_id), _RUNS)
    names = {run.id: run.external_id for run in runs}
    events = await session.exec(select(Event).where(col(Event.run_id).in_(names)).order_by(col(Event.id)))
    newest = select(JobMessage).where(JobMessage.job_id == job_id).order_by(col(JobMessage.id).desc()).limit(_MESSAGES)
    messages = (await session.exec(newest)).all()
    return Recorded(
        [
            *(Entry(one.at or 0, one.message) for one in reversed(messages)),
            *(
                Entry(e.at or 0, f"{names[e.run_id]} {e.state} {e.what}" + (f": {e.message}" if e.message else ""))
                for e in events
            ),
        ],
        runs,
    )


async def lines(known: Recorded, clusters: Clusters) -> list[str]:
    """The log, with what the clusters still know of the newest runs' exceptions."""
    asked = [run for run in known.runs[:_RUNS_ASKED] if run.submitted_at is not None]
    told = await asyncio.gather(*(_exceptions(clusters, run) for run in asked))
    entries = sorted((*known.entries, *(entry for found in told for entry in found)), key=lambda entry: entry.at)
    return "\n".join(map(str, entries)).splitlines()


async def _exceptions(clusters: Clusters, run: Run) -> list[Entry]:
    """Each with what it means and its root cause first; the trace, which has that last, follows."""
    try:
        found = await clusters.at(str(run.spec["flink_url"])).exceptions(run.external_id, _EXCEPTIONS)
    except JobNotFound:
        return []  # the last root cause is among the run's events
    except FlinkRestError as error:
        return [] if run.state.ended else [Entry(run.observed_at or 0, f"{run.external_id} no exceptions: {error}")]
    return [
        Entry(
            one.timestamp,
            f"{run.external_id} exception in {one.task_name or 'the job'}"
            f"{f' on {one.task_manager}' if one.task_manager else ''}: {one.told}\n"
            f"{indent(one.stacktrace.strip(), '    ')}",
        )
        for one in found
    ]
