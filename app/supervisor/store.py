"""All SQL of the supervisor.

Each transition is one UPDATE guarded by the states it may come from and by the lease; zero rows means that somebody
was faster, and the caller gets None. Each change and its event are one transaction.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, or_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database, now_ms
from app.errors import Conflict
from app.metrics import TRANSITIONS
from app.supervisor import outside, queue, recovery
from app.supervisor.faults import crash_point
from app.supervisor.looks import Looks, forget_old, freshen, oldest, unlocked
from app.supervisor.models import Event, Run, Savepoint
from app.supervisor.retention import savepoint_at
from app.supervisor.runners.base import Inspection, Observation, Room
from app.supervisor.transitions import (
    ENDED,
    Desired,
    Purpose,
    SavepointProgress,
    Seen,
    State,
    StopMode,
    following,
    sources,
)

_CHUNK = 500  # SQLite limits the parameters of a statement

_ACTIVE = col(Run.ended_at).is_(None)

_SEEN_ENDED = frozenset({Seen.FINISHED, Seen.FAILED, Seen.CANCELED})

_ABANDONED_MS = 3_600_000
"""So long after the last lease on a run its machine is believed to be gone for good: somebody else says what is so."""

MADE_ALONGSIDE = (Purpose.REQUEST, Purpose.SCHEDULE)
"""The savepoints after which the run goes on; the others come with a stop."""

_OBSERVED_COLUMNS = (
    "exception", "checkpoint", "checkpoint_at", "savepoint", "restarts", "tasks_running", "tasks_total",
    "latest_savepoint",
)  # fmt: skip


async def create_run(
    session: AsyncSession,
    kind: str,
    subject: str,
    spec: Mapping[str, Any],
    predecessor_id: int | None = None,
    *,
    machine: str | None = None,
) -> Run:
    """Write down a new run, in the caller's transaction; it is started once that is committed.

    ``kind`` names the runner, ``subject`` what it is a run of (``hlink.job:12``), ``spec`` what the runner needs: no
    secrets, it is kept and shown; ``predecessor_id`` the run that it goes on from, ``machine`` the one that alone can
    look after it, where that is so. Raises :class:`~app.errors.Conflict` when the subject has a run that has not ended;
    the caller's transaction is still usable then.
    """
    run = Run(
        kind=kind,
        subject=subject,
        spec=dict(spec),
        external_id=secrets.token_hex(16),
        predecessor_id=predecessor_id,
        machine=machine,
        **queue.turn_of(spec),
    )
    try:
        async with session.begin_nested():
            session.add(run)
            await session.flush()
    except IntegrityError:
        active = await active_run(session, subject)
        if active is None:
            raise
        raise Conflict(
            f"{subject} already has a run that has not ended ({active.state}): stop it first",
            subject=subject,
            run_id=active.id,
            state=active.state,
        ) from None
    _tell(session, run, "created")
    await session.flush()
    return run


async def request_stop(session: AsyncSession, subject: str, mode: StopMode, *, native: bool = False) -> Run | None:
    """Note that the subject's active run is to stop, in the caller's transaction. None when there is none.

    A run that is still being started has no state of its own: it is stopped at once, whatever the mode. A stop with
    savepoint that keeps failing is given up, and the run goes on.

    Asking again for the same changes nothing, but that a restart under way becomes a stop. CANCEL replaces a gentler
    request that is under way; any other change of mind raises :class:`~app.errors.Conflict`.
    """
    run = await _held_against_others(session, subject)
    if run is None:
        return None
    if run.state in (State.CREATED, State.SUBMITTING):
        mode = StopMode.CANCEL
    if run.desired is Desired.STOPPED and run.stop_mode is mode:
        if run.successor is None:
            return run
        asked = await _update(session, run.id, _ACTIVE, successor=None)
        if asked is not None:
            _tell(session, asked, "stop requested", "instead of a restart")
            await session.flush()
        return asked
    if run.desired is Desired.STOPPED and mode is not StopMode.CANCEL:
        raise Conflict(
            f"{subject} is already being stopped with {run.stop_mode}: only CANCEL can replace that",
            subject=subject,
            run_id=run.id,
            stop_mode=run.stop_mode,
        )
    return await _ask_to_stop(session, run, mode, None, "stop requested", str(mode), native=native)


async def request_restart(
    session: AsyncSession,
    subject: str,
    spec: Mapping[str, Any],
    mode: StopMode = StopMode.SAVEPOINT,
    *,
    native: bool = False,
) -> Run | None:
    """Note that the subject's active run is to stop with a savepoint, from which a run with ``spec`` then goes on.

    The new run is written in the transaction in which the old one ends. Where ``spec`` has no ``restore`` it is set:
    to the savepoint; to the newest checkpoint after a CANCEL; to the newest of both when the old run failed or was
    lost meanwhile. When it cannot be stopped with a savepoint, it goes on as before. In the caller's transaction;
    None when there is no active run. Raises :class:`~app.errors.Conflict` when it is being started, stopped or
    restarted.
    """
    run = await _held_against_others(session, subject)
    if run is None:
        return None
    if run.desired is Desired.STOPPED:
        doing = "restarted" if run.successor is not None else "stopped"
        raise Conflict(f"{subject} is already being {doing}", subject=subject, run_id=run.id)
    if run.state in (State.CREATED, State.SUBMITTING):
        raise Conflict(f"{subject} is still being started: restart it when it runs", subject=subject, run_id=run.id)
    return await _ask_to_stop(session, run, mode, dict(spec), "restart requested", str(mode), native=native)


async def _held_against_others(session: AsyncSession, subject: str) -> Run | None:
    """The subject's active run, which nobody else changes until the caller's transaction ends."""
    return (await session.exec(select(Run).where(Run.subject == subject, _ACTIVE).with_for_update())).first()


async def _ask_to_stop(
    session: AsyncSession,
    run: Run,
    mode: StopMode,
    successor: dict[str, Any] | None,
    what: str,
    message: str | None,
    *,
    native: bool,
) -> Run | None:
    asked = await _update(
        session,
        run.id,
        _ACTIVE,
        desired=Desired.STOPPED,
        stop_mode=mode,
        stop_native=native,
        stop_requested_at=now_ms(),
        # The token of an attempt that this replaces stays: its savepoint may still come, and is to be known then.
        stop_attempts=0,
        stop_attempted_at=None,
        successor=successor,
    )
    if asked is not None:
        _tell(session, asked, what, message)
        await session.flush()
    return asked


async def want_no_more(session: AsyncSession, subject: str) -> None:
    """Note, in the caller's transaction, that the subject is gone: a lost job of it that comes back is canceled."""
    await session.exec(
        update(Run)
        .where(col(Run.subject) == subject, col(Run.state) == State.LOST, col(Run.look_again_at).is_not(None))
        .values(desired=Desired.STOPPED)
        .execution_options(synchronize_session=False)
    )


async def request_savepoint(
    session: AsyncSession, subject: str, *, native: bool = False, purpose: Purpose = Purpose.REQUEST
) -> Savepoint:
    """Note that a savepoint of the subject's active run is to be made; the run goes on.

    In the caller's transaction. One that is asked for already, or was due, is answered again. Raises
    :class:`~app.errors.Conflict` when nothing runs.
    """
    run = await _held_against_others(session, subject)
    if run is None or run.state not in (State.RUNNING, State.RESTARTING):
        how = run.state.lower() if run is not None else "not running"
        raise Conflict(f"{subject} is {how}: a savepoint can be made of what runs", subject=subject)
    pending = await session.exec(
        select(Savepoint).where(
            Savepoint.run_id == run.id,
            Savepoint.state == SavepointProgress.PENDING,
            col(Savepoint.purpose).in_(MADE_ALONGSIDE),
        )
    )
    savepoint = pending.first()
    if savepoint is None:
        savepoint = _savepoint(run, purpose, native=native)
        session.add(savepoint)
        _tell(session, run, "savepoint requested", purpose.lower())
        await session.flush()
    return savepoint


def _savepoint(run: Run, purpose: Purpose, *, native: bool = False, token: str | None = None) -> Savepoint:
    return Savepoint(
        run_id=run.id, subject=run.subject, token=token or secrets.token_hex(16), purpose=purpose, native=native
    )


async def savepoints(session: AsyncSession, subject: str, limit: int = 50, offset: int = 0) -> Sequence[Savepoint]:
    """The subject's savepoints, newest first, whatever became of them."""
    query = select(Savepoint).where(Savepoint.subject == subject).order_by(col(Savepoint.id).desc())
    return (await session.exec(query.offset(offset).limit(limit))).all()


async def active_run(session: AsyncSession, subject: str) -> Run | None:
    """The subject's run that has not ended; there is at most one."""
    return (await session.exec(select(Run).where(Run.subject == subject, _ACTIVE))).first()


async def latest_runs(session: AsyncSession, subjects: Collection[str]) -> dict[str, Run]:
    """Subject -> its newest run, for those that have one."""
    found: dict[str, Run] = {}
    wanted = list(subjects)
    for start in range(0, len(wanted), _CHUNK):
        newest = (
            select(func.max(Run.id)).where(col(Run.subject).in_(wanted[start : start + _CHUNK])).group_by(Run.subject)
        )
        for run in await session.exec(select(Run).where(col(Run.id).in_(newest))):
            found[run.subject] = run
    await freshen(session, found.values())
    return found


async def history(session: AsyncSession, subject: str, limit: int = 50) -> Sequence[Run]:
    """The subject's runs, newest first."""
    query = select(Run).where(Run.subject == subject).order_by(col(Run.id).desc()).limit(limit)
    runs = (await session.exec(query)).all()
    await freshen(session, runs)
    return runs


async def events(session: AsyncSession, run_id: int, after: int = 0, limit: int = 500) -> Sequence[Event]:
    """The run's events in the order in which they happened, those with an id above ``after``."""
    query = select(Event).where(Event.run_id == run_id, Event.id > after).order_by(col(Event.id)).limit(limit)
    return (await session.exec(query)).all()


@dataclass(frozen=True, slots=True)
class Census:
    """All replicas' runs: how many in each state, and the age of the oldest observation of an active one."""

    by_state: Mapping[State, int]
    oldest_observation_s: float


async def census(session: AsyncSession) -> Census:
    counts = (await session.exec(select(Run.state, func.count()).group_by(col(Run.state)))).all()
    seen_at, now = await oldest(session)
    return Census(
        {State(state): count for state, count in counts},
        max(0.0, (now - seen_at) / 1000) if seen_at is not None else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Held:
    """The runs that a replica holds, as they were at ``now`` (the database's clock, epoch ms)."""

    now: int
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """A look at a place that is to be noted; see :meth:`Store.record_look`."""

    place: str
    unchanged: Sequence[Run]
    others: Sequence[Run]


@dataclass(frozen=True, slots=True)
class Found:
    """What comes of a lost run's job that is there again."""

    run: Run | None = None
    """The run in which it goes on."""
    superfluous: Run | None = None
    """The lost run, with the token of an attempt to stop it: its job lives, and is not wanted any more."""


class Store:
    """One replica's view: every change that it makes is guarded by its lease.

    ``owner`` is unique to the process, ``machine`` names where it runs; ``lease_s`` is how long others leave its runs
    alone; ``budget`` bounds how often a lost run is started again.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        lease_s: float,
        budget: recovery.Budget | None = None,
        machine: str | None = None,
    ) -> None:
        self._database = database
        self.owner = owner
        self._machine = machine
        self._budget = budget or recovery.Budget()
        self._lease_ms = int(lease_s * 1000)
        self._looks = Looks(owner)
        self._looked: list[_Looked] = []
        self._noting = asyncio.Lock()
        self._known: Mapping[str, Run] = {}
        """``id:revision`` -> the run as it was then, for those that were given out last."""

    # Leases

    async def hold(self) -> Held:
        """Take the runs that nobody holds, renew what is held when half of its time is over, and give them all.

        Of those that were given before only what was changed since, by whomever, is read again.
        """
        async with self._database.read() as session:
            due = await session.exec(select(Run.id).where(_ACTIVE, or_(self._free(), self._worn())).limit(1))
            anything_due = due.first() is not None
        if anything_due:
            async with self._database.write() as session:
                await self._claim(session, self._free())
                await session.exec(
                    update(Run)
                    .where(unlocked(_ACTIVE, self._worn()))
                    # Nobody has to read a run again because of this.
                    .values(lease_until=now_ms() + self._lease_ms, revision=Run.revision)
                    .execution_options(synchronize_session=False)
                )
            crash_point("lease.claimed")
        async with self._database.read() as session:
            # One text for all of them: thousands of rows in each tick would cost much more.
            versions = func.aggregate_strings(cast(Run.id, String) + ":" + cast(Run.revision, String), ",")
            mine = await session.exec(select(versions, now_ms()).where(_ACTIVE, Run.lease_owner == self.owner))
            told, now = mine.one()
            current = told.split(",") if told else []
            known = {version: self._known[version] for version in current if version in self._known}
            changed = [int(version.partition(":")[0]) for version in current if version not in known]
            for run in await self._read(session, changed):
                known[f"{run.id}:{run.revision}"] = run
        self._known = known
        return Held(now, list(known.values()))

    async def _read(self, session: AsyncSession, ids: Sequence[int]) -> Sequence[Run]:
        """Those of the runs that are still held."""
        mine = select(Run).where(_ACTIVE, Run.lease_owner == self.owner)
        found: list[Run] = []
        for start in range(0, len(ids), _CHUNK):
            found += (await session.exec(mine.where(col(Run.id).in_(ids[start : start + _CHUNK])))).all()
        return found

    async def hold_one(self, run_id: int) -> Held:
        """Take one run at once; no run when it has ended or somebody else holds it."""
        async with self._database.write() as session:
            await self._claim(session, self._free() & (col(Run.id) == run_id))
            mine = await session.exec(select(Run).where(_ACTIVE, Run.lease_owner == self.owner, Run.id == run_id))
            runs = mine.all()
            now = (await session.exec(select(now_ms()))).one()
        return Held(now, runs)

    async def release(self) -> None:
        """Let go of everything, so that another replica need not wait for the leases to end."""
        async with self._database.write() as session:
            await session.exec(
                update(Run)
                .where(_ACTIVE, col(Run.lease_owner) == self.owner)
                .values(lease_owner=None, lease_until=None)
                .execution_options(synchronize_session=False)
            )

    def _free(self) -> ColumnElement[bool]:
        """Runs that nobody holds and this replica can look after."""
        over = or_(col(Run.lease_until).is_(None), col(Run.lease_until) <= now_ms())
        return over & or_(self._here(), col(Run.lease_until) <= now_ms() - _ABANDONED_MS)

    def _here(self) -> ColumnElement[bool]:
        return or_(col(Run.machine).is_(None), col(Run.machine) == self._machine)

    def _worn(self) -> ColumnElement[bool]:
        return (col(Run.lease_owner) == self.owner) & (col(Run.lease_until) < now_ms() + self._lease_ms // 2)

    async def _claim(self, session: AsyncSession, which: ColumnElement[bool]) -> None:
        # SKIP LOCKED (PostgreSQL): what another replica is claiming at this moment is not waited for.
        free = (await session.exec(select(Run).where(_ACTIVE, which).with_for_update(skip_locked=True))).all()
        before = {run.id: run.lease_owner for run in free}
        for start in range(0, len(free), _CHUNK):
            claimed = await session.exec(
                update(Run)
                .where(_ACTIVE, self._free(), col(Run.id).in_(list(before)[start : start + _CHUNK]))
                .values(lease_owner=self.owner, lease_until=now_ms() + self._lease_ms)
                .returning(Run)
                .execution_options(populate_existing=True)
            )
            for run in claimed.scalars().all():
                if before[run.id] not in (None, self.owner):
                    self._tell(session, run, "taken over", f"from {before[run.id]}, whose lease ended")
        if free:
            await forget_old(session)
        await session.flush()

    # Changes

    async def move(
        self,
        run: Run,
        target: State,
        reason: str | None = None,
        *,
        message: str | None = None,
        certain: bool = False,
        **columns: Any,
    ) -> Run | None:
        """Go to ``target`` if the run is held and in a state from which that is allowed.

        ``message`` is for the event where it is to say more than ``reason``; ``certain`` says that a lost run does
        not run any more, so that it may be started again. None when somebody was faster.
        """
        async with self._database.write() as session:
            moved = await self._move(session, run, target, certain=certain, reason=reason, **columns)
            if moved is not None:
                self._tell(session, moved, "state", message or moved.reason)
                await session.flush()
                crash_point("transition.uncommitted")
        return moved

    async def note(self, run: Run, what: str, message: str | None = None, **columns: Any) -> Run | None:
        """Change columns without changing the state, and say so in an event. None when somebody was faster."""
        async with self._database.write() as session:
            noted = await _update(session, run.id, self._mine(run), **columns)
            if noted is not None:
                self._tell(session, noted, what, message)
                await session.flush()
        return noted

    async def explain(self, run: Run, reason: str, what: str = "waiting") -> None:
        """Note what keeps the run from its next state; the same reason again writes nothing."""
        if run.reason != reason:
            await self.note(run, what, reason, reason=reason)

    async def begin_submission(self, run: Run, incarnation: str | None, room: Room | None = None) -> Run | None:
        """Note, before anything is submitted, that it is about to be, and to which life of the outside system.

        A run in CREATED goes to SUBMITTING by that, and may be one that nobody holds yet: it is taken in the same
        transaction, because somebody is waiting. None when somebody was faster, and when a stop has been asked for
        meanwhile: then it is not started any more. With ``room`` it has to be the run's turn there: raises
        :class:`~app.supervisor.queue.NoRoom`.
        """
        fresh = run.state is State.CREATED
        mine = col(Run.lease_owner) == self.owner
        guard = (or_(mine, self._free()) if fresh else mine) & (col(Run.state) == run.state) & _ACTIVE
        attempt: dict[str, Any] = {
            "attempts": run.attempts + 1,
            "submitted_at": now_ms(),
            "incarnation": incarnation,
            "missing_since": None,
            "queued_at": None,
            "reason": None,
            "lease_owner": self.owner,
            "lease_until": now_ms() + self._lease_ms,
        }
        guard &= (col(Run.desired) == Desired.RUNNING) & or_(
            col(Run.not_before).is_(None), col(Run.not_before) <= now_ms()
        )
        async with self._database.write() as session:
            if room is not None:
                await queue.check_turn(session, run, room, is_sqlite=self._database.is_sqlite)
            begun = await _update(session, run.id, guard, state=State.SUBMITTING, **attempt)
            if begun is not None:
                self._tell(session, begun, "state" if fresh else "submission", f"attempt {begun.attempts}")
                await session.flush()
                crash_point("transition.uncommitted")
        if begun is not None and fresh:
            TRANSITIONS.labels(State.SUBMITTING).inc()
        return begun

    async def withdraw_submission(self, run: Run, reason: str) -> None:
        """Note that nothing was submitted, and why: that was no attempt."""
        await self.note(run, "waiting", reason, attempts=run.attempts - 1, reason=reason)

    # The queue for slots, and what stands in for lost runs

    async def line_at(self, place: str, room: Room) -> queue.Line:
        """See :func:`~app.supervisor.queue.line_at`."""
        async with self._database.read() as session:
            return await queue.line_at(session, place, room)

    async def inherits(self, run: Run) -> bool:
        """See :func:`~app.supervisor.queue.inherits`."""
        async with self._database.read() as session:
            return await queue.inherits(session, run)

    async def record_waiting(self, waiting: Sequence[tuple[Run, str]]) -> None:
        """Note what keeps runs in the queue; an event tells of the first time only."""
        async with self._database.write() as session:
            for run, why in waiting:
                queued_at = func.coalesce(col(Run.queued_at), now_ms())
                noted = await _update(session, run.id, self._mine(run), reason=why, queued_at=queued_at)
                if noted is not None and run.queued_at is None:
                    self._tell(session, noted, "queued", why)
            await session.flush()

    async def stood_in_for(self, run: Run) -> Sequence[Run]:
        """See :func:`~app.supervisor.recovery.stood_in_for`."""
        async with self._database.read() as session:
            return await recovery.stood_in_for(session, run)

    async def lost_among(self, external_ids: Collection[str]) -> frozenset[str]:
        """The subjects of lost runs that are known outside by one of these ids."""
        found: set[str] = set()
        wanted = list(external_ids)
        async with self._database.read() as session:
            for start in range(0, len(wanted), _CHUNK):
                some = col(Run.external_id).in_(wanted[start : start + _CHUNK])
                found.update(await session.exec(select(Run.subject).where(some, Run.state == State.LOST)))
        return frozenset(found)

    async def sources(self, run: Run) -> Sequence[recovery.Source]:
        """See :func:`~app.supervisor.recovery.sources`."""
        async with self._database.read() as session:
            return await recovery.sources(session, run)

    async def record_choice(self, run: Run, path: str | None, words: str) -> Run | None:
        """Note what a run that stands in for a lost one goes on from. None when that is just being removed."""
        async with self._database.write() as session:
            known = await savepoint_at(session, path) if path is not None else None
            if known is not None and known.removal is not None:
                return None
            noted = await _update(session, run.id, self._mine(run), spec={**run.spec, "restore": path})
            if noted is not None:
                self._tell(session, noted, "recovery", words)
                await session.flush()
        return noted

    async def adopt(
        self, run: Run, lost: Run, observation: Observation, place: str, incarnation: str | None
    ) -> Run | None:
        """A run that was to stand in for a lost one takes its job, which is there again, with its external id and spec.

        The lost run gets the id in exchange, which was never used. None when somebody was faster.
        """
        async with self._database.write() as session:
            return await self._adopt(session, run, lost, observation, place, incarnation)

    async def _adopt(
        self, session: AsyncSession, run: Run, lost: Run, observation: Observation, place: str, incarnation: str | None
    ) -> Run | None:
        target = following(State.SUBMITTING, observation.seen) or State.RESTARTING
        unused, taken = run.external_id, lost.external_id
        guard = self._mine(run) & (col(Run.desired) == Desired.RUNNING)
        # An external id is unique at every moment.
        if await _update(session, run.id, guard, external_id=f"{taken}~") is None:
            return None
        await _update(session, lost.id, col(Run.state) == State.LOST, external_id=unused, look_again_at=None)
        adopted = await _update(
            session,
            run.id,
            guard,
            state=State.SUBMITTING,
            external_id=taken,
            spec=lost.spec,
            place=lost.place,
            slots=lost.slots,
            attempts=lost.attempts,
            submitted_at=lost.submitted_at,
            incarnation=incarnation,
            checkpoint=lost.checkpoint,
            checkpoint_at=lost.checkpoint_at,
            queued_at=None,
            reason=None,
        )
        assert adopted is not None, "nobody else changes a row within this transaction"
        message = f"{place} knows the job of run {lost.id} again, which goes on in this run; nothing was started"
        self._tell(session, adopted, "state", message)
        reached = await self._move(
            session, adopted, target, observed=observation.raw, observed_at=now_ms(), observed_from=place
        )
        if reached is not None:
            self._tell(session, reached, "state", f"seen {observation.raw} at {place}")
        await session.flush()
        return reached

    async def take_back(self, lost: Run, observation: Observation, place: str, incarnation: str | None) -> Found:
        """A lost run's job is there again: it goes on in a run of its own, or is not wanted any more.

        It is wanted when nothing has taken its place since and nobody wanted it to stop. A run that is to be started
        in its place, and is not yet, takes it when its turn comes.
        """
        live = observation.seen not in _SEEN_ENDED
        async with self._database.write() as session:
            active = await _held_against_others(session, lost.subject)
            newest = (await session.exec(select(func.max(Run.id)).where(Run.subject == lost.subject))).one()
            due = (col(Run.state) == State.LOST) & col(Run.look_again_at).is_not(None)
            if active is None and newest == lost.id and lost.desired is Desired.RUNNING:
                noted = await _update(session, lost.id, due, look_again_at=None)
                if noted is None:
                    return Found()
                stand_in = queue.successor_of(
                    lost, lost.spec, lease_owner=self.owner, lease_until=now_ms() + self._lease_ms
                )
                session.add(stand_in)
                await session.flush()
                self._tell(session, stand_in, "created", f"the job of run {lost.id}, which was lost, is there again")
                return Found(await self._adopt(session, stand_in, noted, observation, place, incarnation))
            if (
                active is not None
                and active.state is State.CREATED
                and any(one.id == lost.id for one in await recovery.stood_in_for(session, active))
            ):
                await _update(session, lost.id, due, look_again_at=outside.look_for_lost_at())
                return Found()
            if not live:
                await _update(session, lost.id, due, look_again_at=None)
                return Found()
            noted = await _update(
                session, lost.id, due, look_again_at=outside.look_for_lost_at(), stop_token=secrets.token_hex(16)
            )
            if noted is not None:
                beside = f", beside run {active.id}" if active is not None else ""
                message = f"its job is there again as {observation.raw}{beside}, and is not wanted any more: canceled"
                self._tell(session, noted, "canceled", message)
            await session.flush()
        return Found(superfluous=noted)

    async def look_for_lost_again(self, lost: Run) -> None:
        """Note that it was looked for and is still not there."""
        async with self._database.write() as session:
            due = (col(Run.state) == State.LOST) & col(Run.look_again_at).is_not(None)
            await _update(session, lost.id, due, look_again_at=outside.look_for_lost_at())

    async def to_look_at_again(self) -> Sequence[Run]:
        """Runs that have ended and are to be looked at now once more; see :attr:`Run.look_again_at`."""
        async with self._database.read() as session:
            due = select(Run).where(col(Run.look_again_at) <= now_ms(), self._here())
            return (await session.exec(due.order_by(col(Run.look_again_at)).limit(_CHUNK))).all()

    async def record_last_look(self, run: Run, observation: Observation | None) -> None:
        """Note what a run that ended by somebody else's doing left; None: nothing was to be learnt."""
        columns: dict[str, Any] = {"look_again_at": None}
        path = observation.latest_savepoint if observation is not None else None
        if path is not None and observation is not None:
            columns["latest_savepoint"] = path
            if observation.stopped_by_savepoint and run.state is State.FINISHED:
                columns |= {
                    "savepoint": path,
                    "reason": f"Stopped with a savepoint outside of this service: {path}",
                }
        async with self._database.write() as session:
            due = col(Run.look_again_at).is_not(None)
            noted = await _update(session, run.id, due, **columns)
            if noted is not None and path is not None:
                await self._enter_savepoint(session, noted, path)
                if "reason" in columns:
                    self._tell(session, noted, "stopped", noted.reason)
            await session.flush()

    async def _enter_savepoint(self, session: AsyncSession, run: Run, path: str) -> None:
        if await outside.enter_savepoint(session, run, path):
            self._tell(session, run, "savepoint", f"made outside of this service: {path}")

    async def _recover(self, session: AsyncSession, run: Run) -> None:
        """Write down the run that stands in for one that has ended, in the same transaction."""
        stand_in, words = await recovery.next_run(session, run, self._budget)
        if stand_in is None:
            run.reason = f"{run.reason or ''}. {words}".lstrip(". ")
            self._tell(session, run, "recovery", words)
            return
        session.add(stand_in)
        await session.flush()
        run.reason = f"{run.reason or ''}. Started again as run {stand_in.id}: {words}".lstrip(". ")
        self._tell(session, stand_in, "created", f"stands in for run {run.id}, which was {run.state.lower()}: {words}")

    async def begin_stop(self, run: Run) -> Run | None:
        """Choose and commit the token of a new attempt to stop, before anything is asked of the outside system."""
        attempt: dict[str, Any] = {
            "stop_token": secrets.token_hex(16),
            "stop_attempts": run.stop_attempts + 1,
            "stop_attempted_at": now_ms(),
        }
        message = f"{run.stop_mode}, attempt {run.stop_attempts + 1}"
        async with self._database.write() as session:
            if run.state is State.STOPPING:
                begun = await _update(session, run.id, self._mine(run), **attempt)
            else:
                begun = await self._move(session, run, State.STOPPING, **attempt)
            if begun is not None:
                self._tell(session, begun, "stop attempt" if run.state is State.STOPPING else "state", message)
                if begun.stop_mode in (StopMode.SAVEPOINT, StopMode.DRAIN):
                    purpose = Purpose.STOP if begun.successor is None else Purpose.RESTART
                    made = _savepoint(begun, purpose, token=begun.stop_token, native=begun.stop_native)
                    made.drained = begun.stop_mode is StopMode.DRAIN
                    session.add(made)
                await session.flush()
                crash_point("transition.uncommitted")
        return begun

    async def record_stop_savepoint(self, run: Run, path: str) -> Run | None:
        """Note that the savepoint of the stop is complete; that the run has ended is for observing to show."""
        async with self._database.write() as session:
            noted = await _update(session, run.id, self._mine(run), savepoint=path, reason=None)
            if noted is not None:
                await self._settle_stop_savepoint(session, noted)
                self._tell(session, noted, "savepoint", path)
                await session.flush()
        return noted

    async def record_failed_stop(self, run: Run, cause: str, *, gives_up: bool) -> Run | None:
        """Note that an attempt to stop came to nothing: the next one gets a new token, or the stop is given up."""
        async with self._database.write() as session:
            if gives_up:
                what = "Not stopped" if run.successor is None else "Not restarted"
                reason = (
                    f"{what}, it goes on as before: {run.stop_attempts} attempts to make its savepoint failed, the "
                    f"last one because: {cause}. Mend that and ask again, or do it without a savepoint (mode=none)"
                )
                noted = await self._move(
                    session,
                    run,
                    State.RUNNING,
                    reason=reason,
                    desired=Desired.RUNNING,
                    stop_mode=None,
                    stop_token=None,
                    successor=None,
                )
            else:
                reason = f"Attempt {run.stop_attempts} to stop it with {run.stop_mode} failed and is repeated: {cause}"
                noted = await _update(session, run.id, self._mine(run), stop_token=None, reason=reason)
            if noted is not None:
                await _settle(session, run.stop_token, SavepointProgress.FAILED, reason=cause)
                self._tell(session, noted, "state" if gives_up else "stop attempt", reason)
                await session.flush()
        return noted

    # Savepoints

    async def unsettled_savepoints(self) -> Sequence[tuple[Savepoint, Run]]:
        """Savepoints that are to be made, and those that are complete and not looked into, each with its run.

        Of runs that this replica holds, and of those that have ended, which nobody holds. A savepoint that a stop
        makes comes with the stop.
        """
        waiting = (col(Savepoint.state) == SavepointProgress.PENDING) & col(Savepoint.purpose).in_(MADE_ALONGSIDE)
        query = (
            select(Savepoint, Run)
            .join(Run, col(Run.id) == Savepoint.run_id)
            .where(
                col(Savepoint.verified_at).is_(None),
                col(Savepoint.state) != SavepointProgress.FAILED,
                or_(waiting, col(Savepoint.state) == SavepointProgress.COMPLETED),
                or_(col(Run.lease_owner) == self.owner, ~_ACTIVE),
            )
            .order_by(col(Savepoint.id))
            .limit(_CHUNK)
        )
        async with self._database.read() as session:
            return (await session.exec(query)).all()

    async def settle_savepoint(
        self, savepoint: Savepoint, run: Run, progress: SavepointProgress, *, path: str | None = None, reason: str = ""
    ) -> Savepoint | None:
        """Note how a savepoint that was asked for came out. None when somebody was faster."""
        async with self._database.write() as session:
            settled = await _settle(session, savepoint.token, progress, path=path, reason=reason or None)
            if settled is not None:
                # It may have gone on, or ended, while the savepoint was being made.
                now = await session.get(Run, run.id, with_for_update=True)
                self._tell(session, now or run, "savepoint", path or f"failed: {reason}")
                await session.flush()
        return settled

    async def renew_savepoint(self, savepoint: Savepoint) -> None:
        """A new token for the next attempt: the outside system answers a used one with what became of it."""
        async with self._database.write() as session:
            await session.exec(
                update(Savepoint)
                .where(col(Savepoint.token) == savepoint.token, col(Savepoint.state) == SavepointProgress.PENDING)
                .values(token=secrets.token_hex(16))
                .execution_options(synchronize_session=False)
            )

    async def record_inspection(self, savepoint: Savepoint, run: Run, found: Inspection) -> None:
        """Note what the savepoint's own files say."""
        async with self._database.write() as session:
            await session.exec(
                update(Savepoint)
                .where(col(Savepoint.id) == savepoint.id)
                .values(
                    verified=found.complete,
                    verified_at=now_ms(),
                    reason=found.reason,
                    size=found.size,
                    checkpoint_id=found.checkpoint_id,
                    made_with=found.made_with,
                )
                .execution_options(synchronize_session=False)
            )
            if found.complete is False:
                self._tell(session, run, "savepoint", f"{savepoint.path} is not whole: {found.reason}")

    async def _settle_stop_savepoint(self, session: AsyncSession, run: Run) -> None:
        """The savepoint of a stop is settled with what is known of its run."""
        if run.stop_token is None:
            return
        if run.savepoint is not None:
            await _settle(session, run.stop_token, SavepointProgress.COMPLETED, path=run.savepoint)
        elif run.state in ENDED:
            reason = f"the run was {run.state.lower()} before it was complete"
            await _settle(session, run.stop_token, SavepointProgress.FAILED, reason=reason)

    async def _succeed(self, session: AsyncSession, run: Run) -> None:
        """Write down the run that a restart asked for, in the transaction in which this one ends."""
        if run.successor is None:
            return
        spec = run.successor
        why: str | None = None
        told = spec.get("restore") or "nothing, without state"
        if run.state is State.CANCELED and run.stop_mode is not StopMode.CANCEL:
            why = "it was canceled by somebody else"
        elif "restore" not in spec:
            left = await self._left_by(session, run)
            if left:
                told = left[0]
                spec = {**spec, "restore": left[0], **({"restore_others": left[1:]} if left[1:] else {})}
            elif run.state is State.FINISHED:
                why = "it was finished without a savepoint that is known"
            else:
                told = "the newest state that is found of it"  # when it has its turn
        if why is not None:
            run.reason = f"Not restarted: {why}. {run.reason or ''}".strip()
            self._tell(session, run, "restart", run.reason)
            return
        following_run = queue.successor_of(run, spec)
        session.add(following_run)
        await session.flush()
        self._tell(session, following_run, "created", f"goes on from {told}")

    async def _left_by(self, session: AsyncSession, run: Run) -> list[str]:
        """The newest states that a run which has ended left behind; none where that is to be looked for.

        Which of a savepoint and a checkpoint is newer is for the submission to find out, which sees their files: the
        checkpoint that was noted last may have been followed by others. Where none was noted there may be some all the
        same, whose transactions were committed: going on from anything older would write rows twice.
        """
        if run.savepoint is not None:
            return [run.savepoint]
        if run.state is State.FINISHED or run.checkpoint is None:
            return []
        made = await session.exec(
            select(Savepoint)
            .where(
                Savepoint.run_id == run.id,
                Savepoint.state == SavepointProgress.COMPLETED,
                col(Savepoint.verified).is_not(False),
            )
            .order_by(col(Savepoint.id).desc())
            .limit(1)
        )
        newest = made.first()
        return [path for path in (run.checkpoint, newest and newest.path) if path]

    # Observations

    async def record(self, run: Run, observation: Observation, place: str) -> Run | None:
        """Record what was seen, with the transition that follows from it. None when somebody was faster.

        The reason of a failure is what the outside system gave as its root cause.
        """
        async with self._database.write() as session:
            recorded = await self._record(session, run, observation, place)
            await session.flush()
            crash_point("transition.uncommitted")
        return recorded

    async def record_all(self, seen: Sequence[tuple[Run, Observation]], place: str) -> Sequence[Run | None]:
        """What :meth:`record` does, for several in one transaction: a whole cluster may change at once."""
        async with self._database.write() as session:
            recorded = [await self._record(session, run, observation, place) for run, observation in seen]
            await session.flush()
            crash_point("transition.uncommitted")
        return recorded

    async def _record(self, session: AsyncSession, run: Run, observation: Observation, place: str) -> Run | None:
        target = following(run.state, observation.seen)
        news = {
            name: value
            for name in _OBSERVED_COLUMNS
            if (value := getattr(observation, name)) is not None and value != getattr(run, name)
        }
        columns: dict[str, Any] = {
            **news,
            "observed": observation.raw,
            "observed_at": now_ms(),
            "observed_from": place,
            "look_id": None,
            "missing_since": None,
        }
        if target is not None:
            reason = (observation.exception or run.exception) if target is State.FAILED else None
            if outside.ended_there(run, target):
                reason = outside.reason_of(target, place)
                columns["look_again_at"] = now_ms() + outside.LOOK_AGAIN_MS
            recorded = await self._move(session, run, target, reason=reason, **columns)
        else:
            recorded = await _update(session, run.id, self._mine(run), **columns)
        if recorded is None:
            return None
        if "savepoint" in news:
            await self._settle_stop_savepoint(session, recorded)
        if "latest_savepoint" in news:
            await self._enter_savepoint(session, recorded, news["latest_savepoint"])
        if target is not None:
            down = f", {recorded.down_ms} ms after the run before" if run.down_ms != recorded.down_ms else ""
            self._tell(session, recorded, "state", recorded.reason or f"seen {observation.raw} at {place}{down}")
        elif observation.raw != run.observed:
            self._tell(session, recorded, "observed", f"{observation.raw} at {place}")
        if "exception" in news and target is not State.FAILED:
            self._tell(session, recorded, "exception", observation.exception)
        return recorded

    async def record_look(self, place: str, unchanged: Sequence[Run], others: Sequence[Run]) -> None:
        """Note that a place was looked at: ``unchanged`` runs were seen as they are, ``others`` of it were not.

        Looks that end while another one is being noted are noted together, in one transaction. Where that fails, it is
        the failure of the first of them; the others are tried again.
        """
        mine = _Looked(place, unchanged, others)
        self._looked.append(mine)
        try:
            async with self._noting:
                if mine in self._looked:
                    together = tuple(self._looked)
                    async with self._database.write() as session:
                        for look in together:
                            await self._looks.note(session, look.place, look.unchanged, look.others)
                    self._looked = [look for look in self._looked if look not in together]
        finally:
            self._looked = [look for look in self._looked if look is not mine]

    async def record_missing(self, run: Run, observation: Observation, place: str) -> Run | None:
        """Note that the outside system answered and did not know the run, for the first time in a row."""
        return await self.note(
            run,
            "observed",
            f"not known at {place}",
            observed=observation.raw,
            observed_at=now_ms(),
            observed_from=place,
            look_id=None,
            missing_since=now_ms(),
        )

    # Parts

    def _mine(self, run: Run) -> ColumnElement[bool]:
        return (col(Run.lease_owner) == self.owner) & (col(Run.state) == run.state) & _ACTIVE

    async def _move(
        self, session: AsyncSession, run: Run, target: State, *, certain: bool = False, **columns: Any
    ) -> Run | None:
        if target in ENDED:
            columns |= {"ended_at": now_ms(), "lease_owner": None, "lease_until": None, "look_id": None}
        if target is State.LOST:
            columns["look_again_at"] = outside.look_for_lost_at()
        if target is State.RUNNING:
            columns |= {"started_at": func.coalesce(Run.started_at, now_ms()), **_downtime(run)}
        allowed = col(Run.state).in_(sources(target))
        moved = await _update(session, run.id, self._mine(run) & allowed, state=target, **columns)
        if moved is not None:
            TRANSITIONS.labels(target).inc()
            if target in ENDED:
                await self._settle_stop_savepoint(session, moved)
                await self._succeed(session, moved)
                if recovery.applies_to(moved, certain=certain):
                    await self._recover(session, moved)
        return moved

    def _tell(self, session: AsyncSession, run: Run, what: str, message: str | None = None) -> None:
        _tell(session, run, what, message, by=self.owner)


def _downtime(run: Run) -> dict[str, Any]:
    if run.predecessor_id is None or run.started_at is not None:
        return {}
    before = aliased(Run)
    ended_at = select(before.ended_at).where(before.id == run.predecessor_id).scalar_subquery()
    return {"down_ms": now_ms() - ended_at}


async def _update(session: AsyncSession, run_id: int, guard: ColumnElement[bool], **columns: Any) -> Run | None:
    changed = await session.exec(
        update(Run)
        .where(col(Run.id) == run_id, guard)
        .values(**columns)
        .returning(Run)
        .execution_options(populate_existing=True, synchronize_session=False)
    )
    run: Run | None = changed.scalars().first()
    return run


async def _settle(
    session: AsyncSession,
    token: str | None,
    progress: SavepointProgress,
    *,
    path: str | None = None,
    reason: str | None = None,
) -> Savepoint | None:
    changed = await session.exec(
        update(Savepoint)
        .where(col(Savepoint.token) == token, col(Savepoint.state) == SavepointProgress.PENDING)
        .values(state=progress, path=path, reason=reason, ended_at=now_ms())
        .returning(Savepoint)
        .execution_options(populate_existing=True, synchronize_session=False)
    )
    savepoint: Savepoint | None = changed.scalars().first()
    return savepoint


def _tell(session: AsyncSession, run: Run, what: str, message: str | None = None, by: str | None = None) -> None:
    session.add(Event(run_id=run.id, what=what, state=run.state, message=message, by=by))


def is_changed(run: Run, observation: Observation) -> bool:
    """Whether an observation says anything that is not on the run yet."""
    return (
        observation.raw != run.observed
        or run.missing_since is not None
        or following(run.state, observation.seen) is not None
        or any(
            (value := getattr(observation, name)) is not None and value != getattr(run, name)
            for name in _OBSERVED_COLUMNS
        )
    )
