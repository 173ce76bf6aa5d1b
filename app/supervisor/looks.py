"""Looks at places: that thousands of runs are as they were is one row written, not thousands.

A run that a look found unchanged names the looks of that replica at that place, whose time is when it was last seen
as it is. Whatever is not confirmed any more (it changed, is not known, was passed over) is taken out of them in the
transaction that moves the time on, so that no run seems to have been seen later than it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, case, delete, exists, func, update
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import now_ms
from app.ids import new_id
from app.supervisor.models import Look, Run

CHUNK = 500  # SQLite limits the parameters of a statement
_KEPT_MS = 24 * 3600 * 1000

_ACTIVE = col(Run.ended_at).is_(None)


class Looks:
    """One replica's looks; ``owner`` is unique to the process."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._ids: dict[str, int] = {}

    async def note(self, session: AsyncSession, place: str, unchanged: Sequence[Run], others: Sequence[Run]) -> None:
        """Note a look at a place, in the caller's transaction.

        ``unchanged`` are the runs that it found as they were, ``others`` those of this place that it did not.
        """
        look = self._ids.get(place)
        gone = [run.id for run in others if run.look_id is not None and run.look_id == look]
        for some in _chunks(gone):
            await session.exec(
                update(Run)
                .where(unlocked(self._mine(), col(Run.id).in_(some), col(Run.look_id) == look))
                .values(look_id=None, observed_at=seen_at())
                .execution_options(synchronize_session=False)
            )
        look = self._ids[place] = await self._move_on(session, place)
        late = [run.id for run in unchanged if run.look_id != look]
        for some in _chunks(late):
            await session.exec(
                update(Run)
                .where(unlocked(self._mine(), col(Run.id).in_(some)))
                .values(look_id=look, observed_at=now_ms())
                .execution_options(synchronize_session=False)
            )

    async def _move_on(self, session: AsyncSession, place: str) -> int:
        moved = await session.exec(
            update(Look)
            .where(col(Look.owner) == self._owner, col(Look.place) == place)
            .values(at=now_ms())
            .returning(col(Look.id))
            .execution_options(synchronize_session=False)
        )
        row = moved.first()
        if row is not None:
            return int(row[0])
        look = Look(id=new_id(), owner=self._owner, place=place, at=(await session.exec(select(now_ms()))).one())
        session.add(look)
        await session.flush()
        return look.id

    def _mine(self) -> ColumnElement[bool]:
        return _ACTIVE & (col(Run.lease_owner) == self._owner)


def unlocked(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Those runs that no other transaction holds (PostgreSQL), locked: for an UPDATE of many that never waits.

    Whoever changes many and waits for one that another one has could be waited for by that one.
    """
    return col(Run.id).in_(select(Run.id).where(*which).with_for_update(skip_locked=True))


def seen_at() -> ColumnElement[int]:
    """When a run was last seen as it is: in a statement on runs."""
    looked = select(Look.at).where(Look.id == Run.look_id).correlate(Run).scalar_subquery()
    return case((looked > col(Run.observed_at), looked), else_=col(Run.observed_at))


async def freshen(session: AsyncSession, runs: Iterable[Run]) -> None:
    """Set the runs' ``observed_at`` to the last look that confirmed them; nothing is written."""
    of_look: dict[int, list[Run]] = {}
    for run in runs:
        if run.look_id is not None:
            of_look.setdefault(run.look_id, []).append(run)
    for some in _chunks(list(of_look)):
        for look, at in await session.exec(select(Look.id, Look.at).where(col(Look.id).in_(some))):
            for run in of_look[look]:
                set_committed_value(run, "observed_at", max(at, run.observed_at or 0))


async def forget_old(session: AsyncSession) -> None:
    """Remove the looks of replicas that are gone for a day, and that no active run names."""
    named = exists().where(_ACTIVE, col(Run.look_id) == col(Look.id))
    await session.exec(delete(Look).where(col(Look.at) < now_ms() - _KEPT_MS, ~named))


async def oldest(session: AsyncSession) -> tuple[int | None, int]:
    """When the active run that was not seen for longest was last seen, and the time now."""
    return (await session.exec(select(func.min(seen_at()), now_ms()).where(_ACTIVE))).one()


def _chunks(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
