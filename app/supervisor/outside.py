"""What others do to runs without the service: on Flink's own page, or by its command line.

It is followed like everything that is observed, says that it was not the service, and a savepoint that was made there
is entered in the history like one of ours.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import ColumnElement, case, func
from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import now_ms
from app.supervisor.models import Run, Savepoint
from app.supervisor.transitions import Desired, Purpose, SavepointProgress, State

LOOK_AGAIN_MS = 4000
"""How long after such an end the last savepoint is looked for: Flink answers for it from a cache of 3 s."""
GIVE_UP_MS = 600_000
"""How long after the end that is tried."""
LOST_GIVE_UP_MS = 7 * 24 * 3_600_000
"""How long a lost run is looked for: its cluster may be behind its address again, or recover its jobs late."""
_FIRST_MS, _LAST_MS = 2_000, 600_000
"""The shortest and the longest pause between two looks for a lost run."""


def is_given_up(run: Run, now: int) -> bool:
    """Whether a run that has ended is looked at no more."""
    return now - (run.ended_at or 0) > (LOST_GIVE_UP_MS if run.state is State.LOST else GIVE_UP_MS)


def look_for_lost_at() -> ColumnElement[int]:
    """When a lost run is looked for next: the longer it has been lost, the less often."""
    lost_for = now_ms() - func.coalesce(Run.ended_at, now_ms())
    pause = case((lost_for < 10 * _FIRST_MS, _FIRST_MS), (lost_for > 10 * _LAST_MS, _LAST_MS), else_=lost_for / 10)
    return now_ms() + pause


def ended_there(run: Run, target: State) -> bool:
    """Whether it ended, and nobody had asked for that here."""
    return target in (State.CANCELED, State.FINISHED) and run.desired is Desired.RUNNING


def reason_of(target: State, place: str) -> str | None:
    """Why such a run ended; one that finished may have come to its end by itself."""
    if target is not State.CANCELED:
        return None
    return f"Canceled outside of this service: on the page of {place}, or by another client of it"


async def enter_savepoint(session: AsyncSession, run: Run, path: str) -> bool:
    """Write down a savepoint that was found, unless it is known. Returns whether it was not.

    Ours have their token as a folder of their path, also those whose end is not noted yet.
    """
    token = hashlib.sha256(f"{run.id} {path}".encode()).hexdigest()[:32]
    known = await session.exec(
        select(Savepoint.token, Savepoint.path).where(or_(col(Savepoint.run_id) == run.id, col(Savepoint.path) == path))
    )
    if any(other == path or one in path for one, other in known):
        return False
    session.add(
        Savepoint(
            run_id=run.id,
            subject=run.subject,
            token=token,
            purpose=Purpose.OUTSIDE,
            state=SavepointProgress.COMPLETED,
            path=path,
            ended_at=(await session.exec(select(now_ms()))).one(),
        )
    )
    await session.flush()
    return True
