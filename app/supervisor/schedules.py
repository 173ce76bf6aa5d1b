"""Savepoints that are made by the clock: one firing for all replicas, whoever moves the row's next time on.

What was missed while no replica ran is made up for by one firing. A firing finds a run, and asks for a savepoint of
it in the same transaction, or finds none, and says so on the row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import update
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database, now_ms
from app.errors import Conflict, InvalidInput
from app.supervisor.cron import next_time
from app.supervisor.faults import crash_point
from app.supervisor.models import SavepointSchedule
from app.supervisor.store import request_savepoint
from app.supervisor.transitions import Purpose

_AT_ONCE = 200
_UNREADABLE_MS = 24 * 3600 * 1000


async def set_schedule(
    session: AsyncSession, subject: str, cron: str, time_zone: str = "UTC", *, native: bool = False
) -> SavepointSchedule:
    """Have savepoints of the subject made at these times, in place of those set before; in the caller's transaction.

    Raises :class:`~app.errors.InvalidInput` for an expression or time zone that cannot be read.
    """
    now = (await session.exec(select(now_ms()))).one()
    schedule = await session.get(SavepointSchedule, subject, with_for_update=True)
    next_at = next_time(cron, time_zone, now)
    if schedule is None:
        schedule = SavepointSchedule(subject=subject, cron=cron, time_zone=time_zone, next_at=next_at)
        session.add(schedule)
    schedule.cron, schedule.time_zone, schedule.native, schedule.next_at = cron, time_zone, native, next_at
    await session.flush()
    return schedule


async def remove_schedule(session: AsyncSession, subject: str) -> bool:
    """Make no more savepoints of the subject by the clock. Whether any were to be made."""
    removed = await session.exec(delete(SavepointSchedule).where(col(SavepointSchedule.subject) == subject))
    return bool(removed.rowcount)


async def schedules(session: AsyncSession, subjects: Collection[str] | None = None) -> Sequence[SavepointSchedule]:
    """The schedules of these subjects, or of all, the one that comes first first."""
    query = select(SavepointSchedule).order_by(col(SavepointSchedule.next_at), col(SavepointSchedule.subject))
    if subjects is not None:
        query = query.where(col(SavepointSchedule.subject).in_(subjects))
    return (await session.exec(query)).all()


async def fire_due(database: Database, owner: str) -> int:
    """Carry out the firings whose time has come and that no other replica has. How many."""
    async with database.read() as session:
        now = (await session.exec(select(now_ms()))).one()
        due = await session.exec(select(SavepointSchedule).where(SavepointSchedule.next_at <= now).limit(_AT_ONCE))
        found = due.all()
    return sum([await _fire(database, schedule, now, owner) for schedule in found])


async def _fire(database: Database, schedule: SavepointSchedule, now: int, owner: str) -> bool:
    fault = None
    try:
        next_at = next_time(schedule.cron, schedule.time_zone, now)
    except InvalidInput as unreadable:  # it was readable when it was set: the time zones may have changed
        next_at, fault = now + _UNREADABLE_MS, unreadable.message
    async with database.write() as session:
        fired = await session.exec(
            update(SavepointSchedule)
            .where(
                col(SavepointSchedule.subject) == schedule.subject,
                col(SavepointSchedule.next_at) == schedule.next_at,
                col(SavepointSchedule.cron) == schedule.cron,
            )
            .values(next_at=next_at, fired_at=now)
            .returning(SavepointSchedule)
            .execution_options(synchronize_session=False)
        )
        row = fired.scalars().first()
        if row is None:
            return False
        row.outcome = f"skipped: {fault}" if fault else await _ask(session, schedule, owner)
        await session.flush()
        crash_point("schedule.uncommitted")
    crash_point("schedule.fired")
    return True


async def _ask(session: AsyncSession, schedule: SavepointSchedule, owner: str) -> str:
    try:
        asked = await request_savepoint(session, schedule.subject, native=schedule.native, purpose=Purpose.SCHEDULE)
    except Conflict as nothing_runs:
        return f"skipped: {nothing_runs.message}"
    return f"savepoint {asked.id} was asked for by {owner}"
