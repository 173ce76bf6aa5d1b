"""Savepoints that are not kept any more: by number, by age, or because somebody asks.

That one is to be removed is committed before anything is deleted, and deleting is repeated until it has been done.
Never removed are the newest one that is known to be whole and what is newer, and what a run goes on from: any run
that has not ended, and the newest of each subject. Files that no row of ours names are never touched.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Text, case, cast, func, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database, now_ms
from app.errors import Conflict, NotFound
from app.supervisor.faults import crash_point
from app.supervisor.models import Event, Run, Savepoint, SavepointRetention
from app.supervisor.runners.base import Outcome, Report, Runner, Unreachable
from app.supervisor.transitions import Purpose, SavepointProgress

logger = logging.getLogger(__name__)

DAY_MS = 24 * 3600 * 1000

_TOKEN = re.compile(r"/([0-9a-f]{32})(?:/|$)")
_AT_ONCE = 20
_LONGEST_PAUSE_MS = 10 * 60 * 1000

Guard = Callable[[AsyncSession, Savepoint], Awaitable[str | None]]
"""Who else needs a savepoint, as words that follow "it is kept: "; None when nobody does."""


@dataclass(frozen=True, slots=True)
class Retained:
    """How many savepoints of a subject are kept, and for how many days; 0 sets no limit."""

    most: int = 0
    days: int = 0


def surplus(kept: Sequence[Savepoint], limits: Retained, now: int) -> dict[int, str]:
    """Savepoint id -> why it is not to be kept, of a subject's complete savepoints, which come newest first. Pure.

    The newest one that is known to be whole and all that are newer stay, whatever the limits; without one, all stay.
    """
    whole = [one.verified is True for one in kept]
    if True not in whole:
        return {}
    found: dict[int, str] = {}
    for place, one in enumerate(kept):
        if place <= whole.index(True):
            continue
        if limits.most and place >= limits.most:
            found[one.id] = f"{limits.most} are kept, and as many are newer"
        elif limits.days and now - (one.ended_at or now) > limits.days * DAY_MS:
            found[one.id] = f"it is older than {limits.days} days"
    return found


async def hold_savepoint(session: AsyncSession, subject: str, savepoint_id: int) -> Savepoint:
    """A complete savepoint, which is not removed before the caller's transaction, which starts from it, has ended.

    Raises :class:`~app.errors.NotFound`, and :class:`~app.errors.Conflict` when nothing can start from it.
    """
    query = select(Savepoint).where(Savepoint.id == savepoint_id, Savepoint.subject == subject).with_for_update()
    found = (await session.exec(query)).first()
    if found is None:
        raise NotFound(f"{subject} has no savepoint {savepoint_id}")
    if found.state is not SavepointProgress.COMPLETED:
        raise Conflict(f"Savepoint {savepoint_id} is {found.state.lower()}: {found.removal or found.reason or 'wait'}")
    return found


async def savepoint_at(session: AsyncSession, path: str) -> Savepoint | None:
    """The savepoint of ours that is at this path, in whatever way that is written; held as by ``hold_savepoint``."""
    for token in _TOKEN.findall(path):
        found = (await session.exec(select(Savepoint).where(Savepoint.token == token).with_for_update())).first()
        if found is not None:
            return found
    return None


async def set_retention(session: AsyncSession, subject: str, limits: Retained | None) -> None:
    """Set a subject's own limits, in the caller's transaction; None: those for all."""
    known = await session.get(SavepointRetention, subject, with_for_update=True)
    if known is not None and limits is None:
        await session.delete(known)
    elif known is not None and limits is not None:
        known.most, known.days = limits.most, limits.days
    elif limits is not None:
        session.add(SavepointRetention(subject=subject, most=limits.most, days=limits.days))
    await session.flush()


async def needed_by(session: AsyncSession, savepoint: Savepoint) -> str | None:
    """Which run goes on from a savepoint and keeps it from being removed; None when none does."""
    newest = aliased(Run)
    last = select(func.max(newest.id)).where(newest.subject == Run.subject).scalar_subquery()
    query = select(Run).where(_starts_from(savepoint), or_(col(Run.ended_at).is_(None), col(Run.id) == last)).limit(1)
    run = (await session.exec(query)).first()
    if run is None:
        return None
    return f"run {run.id} of {run.subject} ({run.state.lower()}) goes on from it"


def _starts_from(savepoint: Savepoint) -> ColumnElement[bool]:
    # By the token, which is in every way to write the path.
    names_it = f"%/{savepoint.token}/%"
    return or_(cast(col(Run.spec), Text).like(names_it), cast(col(Run.successor), Text).like(names_it))


class Retention:
    """One replica's share in keeping savepoints within their limits.

    ``runners`` are the supervisor's, by kind; ``limits`` hold where a subject has none of its own.
    """

    def __init__(
        self, database: Database, owner: str, runners: Mapping[str, Runner], limits: Retained, every_s: float
    ) -> None:
        self.limits = limits
        self._database = database
        self._owner = owner
        self._runners = runners
        self._every_s = every_s
        self._guards: list[Guard] = []
        self._looked_at = float("-inf")

    def guard(self, guard: Guard) -> None:
        """Let a family say which savepoints it needs."""
        self._guards.append(guard)

    async def limits_of(self, session: AsyncSession, subject: str) -> Retained:
        """The limits that hold for a subject."""
        own = await session.get(SavepointRetention, subject)
        return self.limits if own is None else Retained(own.most, own.days)

    async def remove(self, session: AsyncSession, subject: str, savepoint_id: int, why: str) -> Savepoint:
        """Note that a savepoint is to be removed because somebody asks, in the caller's transaction.

        Asking again for one that is being removed, or was, is answered with it. Raises
        :class:`~app.errors.NotFound`, and :class:`~app.errors.Conflict` with who needs it.
        """
        kept = await self._held(session, subject)
        found = next((one for one in kept if one.id == savepoint_id), None)
        if found is None:
            other = await session.get(Savepoint, savepoint_id)
            if other is not None and other.subject == subject and other.removal is not None:
                return other
            found = await hold_savepoint(session, subject, savepoint_id)
        if found.purpose is Purpose.OUTSIDE:
            raise Conflict(
                f"Savepoint {savepoint_id} is kept: it is not this service's own. Delete {found.path} by hand"
            )
        newest = next((one for one in kept if one.verified), None)
        if newest is None or newest.id == found.id:
            raise Conflict(
                f"Savepoint {savepoint_id} is kept: it is the newest one that is known to be whole. "
                "Make another one first"
                if newest is not None
                else f"Savepoint {savepoint_id} is kept: no savepoint is known to be whole. Make another one first"
            )
        if (needed := await self._needed(session, found)) is not None:
            raise Conflict(f"Savepoint {savepoint_id} is kept: {needed}")
        await self._condemn(session, found, why)
        return found

    async def turn(self) -> None:
        """Look for what is not to be kept, now and then, and delete what was found, always."""
        if time.monotonic() - self._looked_at >= self._every_s:
            self._looked_at = time.monotonic()
            for subject, limits, now in await self._over_the_limits():
                await self._trim(subject, limits, now)
        for savepoint, run in await self._condemned():
            await self._dispose(savepoint, run)

    # Parts

    async def _over_the_limits(self) -> list[tuple[str, Retained, int]]:
        complete = (
            select(Savepoint.subject, func.count(), func.min(Savepoint.ended_at), now_ms())
            .where(Savepoint.state == SavepointProgress.COMPLETED, Savepoint.purpose != Purpose.OUTSIDE)
            .group_by(col(Savepoint.subject))
            .having(func.count() > 1)
        )
        async with self._database.read() as session:
            own = {one.subject: Retained(one.most, one.days) for one in await session.exec(select(SavepointRetention))}
            found = (await session.exec(complete)).all()
        over: list[tuple[str, Retained, int]] = []
        for subject, number, oldest, now in found:
            limits = own.get(subject, self.limits)
            too_many = limits.most and number > limits.most
            too_old = limits.days and now - (oldest or now) > limits.days * DAY_MS
            if too_many or too_old:
                over.append((subject, limits, now))
        return over

    async def _held(self, session: AsyncSession, subject: str) -> Sequence[Savepoint]:
        """The subject's own complete savepoints, newest first; nobody starts from them, or removes them, meanwhile."""
        query = (
            select(Savepoint)
            .where(Savepoint.subject == subject, Savepoint.state == SavepointProgress.COMPLETED)
            .where(Savepoint.purpose != Purpose.OUTSIDE)
            .order_by(col(Savepoint.id).desc())
            .with_for_update()
        )
        return (await session.exec(query)).all()

    async def _trim(self, subject: str, limits: Retained, now: int) -> None:
        async with self._database.write() as session:
            kept = await self._held(session, subject)
            unwanted = surplus(kept, limits, now)
            for one in kept:
                # Asked after the row is held: who started from it before that has committed it.
                if one.id in unwanted and await self._needed(session, one) is None:
                    await self._condemn(session, one, unwanted[one.id])

    async def _needed(self, session: AsyncSession, savepoint: Savepoint) -> str | None:
        needed = await needed_by(session, savepoint)
        for guard in self._guards:
            needed = needed or await guard(session, savepoint)
        return needed

    async def _condemn(self, session: AsyncSession, savepoint: Savepoint, why: str) -> None:
        savepoint.state = SavepointProgress.REMOVING
        savepoint.removal = why
        session.add(savepoint)
        await session.flush()

    async def _condemned(self) -> Sequence[tuple[Savepoint, Run]]:
        tried = col(Savepoint.removal_attempts)
        pause = case((tried > 10, _LONGEST_PAUSE_MS), else_=tried * tried * 2000)
        due = or_(tried == 0, col(Savepoint.removal_attempted_at) + pause <= now_ms())
        query = (
            select(Savepoint, Run)
            .join(Run, col(Run.id) == Savepoint.run_id)
            .where(Savepoint.state == SavepointProgress.REMOVING, due)
            .order_by(col(Savepoint.id))
            .limit(_AT_ONCE)
        )
        async with self._database.read() as session:
            found = (await session.exec(query)).all()
        if found:
            crash_point("removal.noted")
        return found

    async def _dispose(self, savepoint: Savepoint, run: Run) -> None:
        runner = self._runners.get(run.kind)
        if runner is None or not await self._claim(savepoint):
            return
        try:
            assert savepoint.path is not None, "what is complete has a path"
            report = await runner.dispose(run, savepoint.path, savepoint.token)
        except Unreachable as unreachable:
            report = Report(Outcome.FAILED, cause=str(unreachable))
        crash_point("removal.done")
        if report.outcome is Outcome.DONE:
            await self._settle(savepoint, run, f"{savepoint.path} removed: {savepoint.removal}")
        else:
            logger.warning("savepoint %s not removed yet: %s", savepoint.path, report.cause)
            await self._excuse(savepoint, f"Not removed yet: {report.cause}")

    async def _claim(self, savepoint: Savepoint) -> bool:
        """Whether this replica makes the next attempt."""
        async with self._database.write() as session:
            claimed = await session.exec(
                update(Savepoint)
                .where(
                    col(Savepoint.id) == savepoint.id,
                    col(Savepoint.state) == SavepointProgress.REMOVING,
                    col(Savepoint.removal_attempts) == savepoint.removal_attempts,
                )
                .values(removal_attempts=savepoint.removal_attempts + 1, removal_attempted_at=now_ms())
                .execution_options(synchronize_session=False)
            )
            return bool(claimed.rowcount)

    async def _settle(self, savepoint: Savepoint, run: Run, message: str) -> None:
        async with self._database.write() as session:
            settled = await session.exec(
                update(Savepoint)
                .where(col(Savepoint.id) == savepoint.id, col(Savepoint.state) == SavepointProgress.REMOVING)
                .values(state=SavepointProgress.REMOVED, removed_at=now_ms(), reason=None)
                .execution_options(synchronize_session=False)
            )
            if settled.rowcount:
                event = Event(run_id=run.id, what="savepoint", state=run.state, message=message, by=self._owner)
                session.add(event)

    async def _excuse(self, savepoint: Savepoint, reason: str) -> None:
        async with self._database.write() as session:
            await session.exec(
                update(Savepoint)
                .where(col(Savepoint.id) == savepoint.id, col(Savepoint.state) == SavepointProgress.REMOVING)
                .values(reason=reason)
                .execution_options(synchronize_session=False)
            )
