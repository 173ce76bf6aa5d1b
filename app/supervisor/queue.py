"""The queue for slots: whose turn it is at a place that has not room for all.

A run whose ``spec`` has ``queue`` takes part: ``{"place": ..., "slots": ..., "priority": ..., "wait_s": ...,
"name": ...}``. It waits in CREATED until the place has as many slots free as it needs, beside those that are promised
to runs that were just started and to those that are ahead of it. Only the database orders the queue, so that
replicas share it: first who goes on from another run, whose slots those were, then by priority, then by age.
"""

from __future__ import annotations

import secrets
import time
import zlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, false, func, or_
from sqlalchemy.orm import load_only
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import now_ms
from app.supervisor.models import Run
from app.supervisor.runners.base import Room
from app.supervisor.transitions import Desired, State

_SETTLES_MS = 3000
"""How long after a run was first seen running its place may still count its slots as free."""
_INHERITS_MS = 5000
"""How long the slots of a run that ended are kept for the one that goes on from it."""
_READ: Any = (
    Run.id, Run.subject, Run.spec, Run.slots, Run.continues, Run.priority, Run.created_at, Run.state, Run.desired
)  # fmt: skip
_LOCK = 0x71756575  # "queu"
_SHOWN = 5


def turn_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A new run's columns that the queue goes by."""
    asked = spec.get("queue") or {}
    return {"place": asked.get("place"), "slots": asked.get("slots"), "priority": asked.get("priority", 0)}


def successor_of(ended: Run, spec: dict[str, Any], **columns: Any) -> Run:
    """The run that goes on from one that has ended, not yet added: it is ahead of all that are new."""
    return Run(
        kind=ended.kind,
        subject=ended.subject,
        spec=spec,
        external_id=secrets.token_hex(16),
        predecessor_id=ended.id,
        machine=ended.machine,
        continues=True,
        **turn_of(spec),
        **columns,
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that waits, or may have to."""

    id: int
    name: str
    slots: int
    continues: bool
    priority: int
    created_at: int

    @property
    def turn(self) -> tuple[bool, int, int, int]:
        """Sorts those who wait: the smallest is the first."""
        return not self.continues, -self.priority, self.created_at, self.id


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands in the queue of its place, and why it waits."""

    needed: int
    room: Room
    place: str
    promised: int
    ahead: Sequence[Waiting]
    holders: Sequence[tuple[str, int | None]] = ()
    """Jobs that hold slots at the place: name, and how many slots where that is known."""

    @property
    def fits(self) -> bool:
        """Whether it may start now."""
        return self.needed <= self.room.free - self.promised - sum(one.slots for one in self.ahead)

    @property
    def words(self) -> str:
        """The arithmetic, for a person; the same as long as nothing changes."""
        said = [f"Waits for slots: it needs {self.needed}, {self.place} has {self.room.free} free of {self.room.total}"]
        if self.room.total == 0:
            said.append("no TaskManager is there")
        elif self.needed > self.room.total:
            said.append("they are too few in all: add a TaskManager, or cancel it and lower its parallelism")
        if self.promised and self.room.free:
            taken = min(self.promised, self.room.free)
            said.append(f"up to {taken} of these are for jobs that were just started")
        if self.holders:
            said.append(f"the others are held by {_listed([_counted(*one) for one in self.holders])}")
        if self.ahead:
            names = _listed([_counted(one.name, one.slots) for one in self.ahead])
            said.append(f"place {len(self.ahead) + 1} in the queue, behind {names}")
        else:
            said.append("first in the queue")
        return "; ".join(said)


class NoRoom(Exception):
    """A run cannot be started yet; ``standing`` says why."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(standing.words)
        self.standing = standing


@dataclass(frozen=True, slots=True)
class Line:
    """The queue of one place at one moment."""

    place: str
    room: Room
    promised: Mapping[int, int]
    """Slots of the runs that the place may not count yet, by their ids."""
    waiting: Sequence[Waiting]
    """Those in the queue, the first one first, without those that the place could not hold as it is now."""
    holders: Sequence[tuple[str, int | None]]

    def standing(self, run: Run) -> Standing:
        """Where this run stands."""
        slots = run.slots or 0
        own = Waiting(run.id, "", slots, run.continues, run.priority, run.created_at or 0)
        ahead = self.waiting[: bisect_left(self.waiting, own.turn, key=lambda one: one.turn)]
        promised = sum(self.promised.values()) - self.promised.get(run.id, 0)
        return Standing(slots, self.room, self.place, promised, ahead, self.holders)


async def line_at(session: AsyncSession, place: str, room: Room) -> Line:
    """The queue as it is committed, against the room that the place said it has.

    Everything that was started since the place was asked, or so shortly before that it may not have counted it, is
    taken off its answer.
    """
    asked_at = now_ms() - int((time.monotonic() - room.asked_at) * 1000)
    all_tasks_were_seen = (col(Run.tasks_running) == col(Run.tasks_total)) & (col(Run.observed_at) < asked_at)
    uncounted = or_(
        col(Run.started_at).is_(None),
        (col(Run.started_at) > asked_at - _SETTLES_MS) & ~func.coalesce(all_tasks_were_seen, false()),
    )
    query = select(Run).where(_takes_part(place), uncounted).options(load_only(*_READ))
    promised: dict[int, int] = {}
    waiting: list[Waiting] = []
    for run in await session.exec(query):
        if run.state is not State.CREATED:
            promised[run.id] = run.slots or 0
        elif run.desired is Desired.RUNNING and (run.slots or 0) <= room.total:
            name = (run.spec.get("queue") or {}).get("name") or run.subject
            waiting.append(Waiting(run.id, name, run.slots or 0, run.continues, run.priority, run.created_at or 0))
    waiting.sort(key=lambda one: one.turn)
    return Line(place, room, promised, waiting, await _holders(session, place, room))


async def check_turn(session: AsyncSession, run: Run, room: Room, *, is_sqlite: bool) -> None:
    """Whether the run may start, in the transaction that says so; others at its place wait until that has ended.

    Raises :class:`NoRoom`.
    """
    place = run.place or ""
    if not is_sqlite:  # SQLite has one writer at a time
        await session.exec(select(func.pg_advisory_xact_lock(_LOCK, zlib.crc32(place.encode()) - 2**31)))
    standing = (await line_at(session, place, room)).standing(run)
    if not standing.fits:
        raise NoRoom(standing)


async def inherits(session: AsyncSession, run: Run) -> bool:
    """Whether the run takes over the slots of the one that it goes on from, which has just ended there.

    Its place may not have noticed yet that they are free. Nobody else gets them: this run is ahead of all others.
    """
    if not run.continues or run.recovery is not None or run.slots is None:
        return False
    just_ended = (
        select(Run.id)
        .where(Run.id == run.predecessor_id, Run.place == run.place, col(Run.slots) >= run.slots)
        .where(col(Run.ended_at) > now_ms() - _INHERITS_MS, col(Run.state) != State.LOST)
    )
    return (await session.exec(just_ended)).first() is not None


async def _holders(session: AsyncSession, place: str, room: Room) -> Sequence[tuple[str, int | None]]:
    if not room.holders:
        return ()
    named = dict(list(room.holders.items())[:500])
    query = select(Run.external_id, Run.slots).where(_takes_part(place), col(Run.external_id).in_(named))
    slots = dict((await session.exec(query)).all())
    return sorted(((name, slots.get(external_id)) for external_id, name in named.items()), key=lambda one: one[0])


def _takes_part(place: str) -> ColumnElement[bool]:
    return col(Run.ended_at).is_(None) & col(Run.slots).is_not(None) & (col(Run.place) == place)


def _counted(name: str, slots: int | None) -> str:
    return name if slots is None else f"{name} ({slots})"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
