"""What the supervisor's events mean for those who are to be told: derived from the stored events, afterwards.

The supervisor's transactions know nothing of this. One replica at a time reads, under the lock of the cursor's row, and
what it reads becomes notifications in the transaction that says that it was read: a replica that dies has read nothing
or all of it. Events are numbered when they are made and seen when they are committed, so one with a lower number may
come later: the cursor stays :data:`OVERLAP_MS` behind, and what lies beyond it is remembered one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database, now_ms
from app.hlink.jobs.models import SUBJECT, subject_of
from app.hlink.notifications import troubles
from app.hlink.notifications.models import EventCursor, Kind, Notification, Progress, ReadEvent, Target, Trouble
from app.hlink.notifications.troubles import News
from app.hlink.watch.jobs import job_id_of, names_of
from app.ids import first_id_of
from app.settings import Settings
from app.supervisor import ENDED, Event, Run, State, latest_runs

OVERLAP_MS = 10 * 60 * 1000
"""No transaction takes longer from the number of its event to its commit."""
_MOST = 2000
_KEPT_MS = 30 * 24 * 3600 * 1000
_CURSOR = 1

_TROUBLES = {State.FAILED: Kind.FAILED, State.LOST: Kind.LOST}
_OF_A_RUN = (Kind.FLAPPING, Kind.LAGGING, Kind.CHECKPOINTS_FAILING)
"""They end with the run, whatever ends it."""
_OF_A_JOB = (Kind.FAILED, Kind.LOST)


async def begin(database: Database) -> None:
    """Set the cursor, unless there is one; of what was before a target, nobody is told."""
    async with database.read() as session:
        if await session.get(EventCursor, _CURSOR) is not None:
            return
        now = (await session.exec(select(now_ms()))).one()
    try:
        async with database.write() as session:
            session.add(EventCursor(id=_CURSOR, event_id=first_id_of(now - OVERLAP_MS)))
    except IntegrityError:
        return  # another replica began at the same moment


async def read_events(database: Database, settings: Settings) -> None:
    """Read what has happened since, and write what is to be told of it. Nothing when nobody is to be told."""
    async with database.read() as session:
        if not await _anything_to_do(session):
            return
    async with database.write() as session:
        # SKIP LOCKED (PostgreSQL): another replica is reading at this moment.
        cursor = (
            await session.exec(select(EventCursor).where(EventCursor.id == _CURSOR).with_for_update(skip_locked=True))
        ).first()
        if cursor is None:
            return
        now = (await session.exec(select(now_ms()))).one()
        events = await _unread(session, cursor.event_id)
        names = await names_of(session, {job_id_of(subject) for _, subject in events})
        news: list[News] = []
        heard_since = await _heard_since(session)
        for event, subject in events:
            session.add(ReadEvent(event_id=event.id))
            if heard_since is None or (event.at or 0) < heard_since:
                continue
            news += await _news_of(session, event, job_id_of(subject), names, now, settings)
        news += await _recovered(session, now, settings)
        await troubles.write(session, news)
        if len(events) < _MOST:
            cursor.event_id = max(cursor.event_id, first_id_of(now - OVERLAP_MS))
            await session.exec(delete(ReadEvent).where(col(ReadEvent.event_id) < cursor.event_id))
            old = (col(Notification.created_at) < now - _KEPT_MS) & (col(Notification.state) != Progress.PENDING)
            await session.exec(delete(Notification).where(old))


async def _anything_to_do(session: AsyncSession) -> bool:
    if await _heard_since(session) is None:
        return False
    cursor = await session.get(EventCursor, _CURSOR)
    if cursor is None:
        return False
    now = (await session.exec(select(now_ms()))).one()
    # So that what is read again and again does not grow.
    if cursor.event_id < first_id_of(now - 2 * OVERLAP_MS):
        return True
    if (await session.exec(_open(_OF_A_JOB).limit(1))).first() is not None:
        return True
    return bool(await _unread(session, cursor.event_id, 1))


async def _heard_since(session: AsyncSession) -> int | None:
    """Since when there has been a target that is told of what happens; None while there is none."""
    return (await session.exec(select(func.min(Target.since)).where(Target.del_flag == 1))).one()


async def _unread(session: AsyncSession, from_id: int, most: int = _MOST) -> Sequence[tuple[Event, str]]:
    """Ends of runs of jobs, each with the run's subject, in the order in which they were numbered."""
    read = select(ReadEvent.event_id).where(ReadEvent.event_id == Event.id).exists()
    query = (
        select(Event, Run.subject)
        .join(Run, col(Run.id) == Event.run_id)
        .where(Event.id >= from_id, Event.what == "state", col(Event.state).in_(list(ENDED)), ~read)
        .where(col(Run.subject).startswith(SUBJECT))
        .order_by(col(Event.id))
        .limit(most)
    )
    return (await session.exec(query)).all()


async def _news_of(
    session: AsyncSession, event: Event, job_id: int, names: dict[int, str], now: int, settings: Settings
) -> list[News]:
    await troubles.end(session, job_id, _OF_A_RUN, now)
    kind = _TROUBLES.get(event.state)
    if kind is None:  # somebody ended it, or it came to its end
        await troubles.end(session, job_id, _OF_A_JOB, now)
        return []
    trouble = await troubles.suspect(session, kind, job_id, event.run_id, now)
    name = names.get(job_id)
    if name is None or not troubles.is_to_be_told(trouble, now, int(settings.notify_again_s * 1000)):
        return []
    return [News(kind, kind, job_id, name, event.message or "No reason is known.", event.at or now)]


async def _recovered(session: AsyncSession, now: int, settings: Settings) -> list[News]:
    """Jobs that failed or were lost and have been running for a while."""
    rows = (await session.exec(_open(_OF_A_JOB))).all()
    job_ids = {row.job_id for row in rows}
    names = await names_of(session, job_ids)
    runs = await latest_runs(session, [subject_of(job_id) for job_id in job_ids])
    news: list[News] = []
    for job_id in sorted(job_ids):
        run, name = runs.get(subject_of(job_id)), names.get(job_id)
        if name is None:
            await troubles.end(session, job_id, _OF_A_JOB, now)
        elif run is not None and run.state is State.RUNNING:
            changes = select(Event.at).where(Event.run_id == run.id, Event.what == "state")
            since = (await session.exec(changes.order_by(col(Event.id).desc()).limit(1))).first()
            if since is not None and now - since >= settings.notify_steady_s * 1000:
                over = await troubles.end(session, job_id, _OF_A_JOB, now)
                news += [troubles.recovered(kind, job_id, name, now) for kind in over[-1:]]
    return news


def _open(kinds: Sequence[Kind]):  # type: ignore[no-untyped-def]
    return select(Trouble).where(col(Trouble.kind).in_(list(kinds)), col(Trouble.over_at).is_(None))
