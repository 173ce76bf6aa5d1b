"""The loop that closes the distance between what is desired and what is.

Each tick holds this replica's runs by lease, looks at each place (cluster) with one request, and carries out what is
due. Looking, submitting and stopping run as tasks of their own, so that a place that does not answer delays nobody
else's. This is the only module that catches ``Exception``: a fault is recorded on the run and the loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from app.database import Database
from app.errors import DatabaseFailure, NotFound
from app.metrics import FAULTS, TICKS
from app.supervisor import outside, store
from app.supervisor.faults import check_the_wish, crash_point
from app.supervisor.looks import freshen
from app.supervisor.models import Event, Run, Savepoint
from app.supervisor.queue import NoRoom
from app.supervisor.recovery import Budget, Policy, is_hidden
from app.supervisor.retention import Retained, Retention
from app.supervisor.runners.base import (
    AlreadySubmitted,
    LeftState,
    Observation,
    Outcome,
    Room,
    Runner,
    SubmissionRefused,
    SubmissionUncertain,
    Tail,
    Unreachable,
)
from app.supervisor.schedules import fire_due
from app.supervisor.transitions import (
    Desired,
    SavepointProgress,
    Seen,
    State,
    StopMode,
    Verdict,
    backoff_s,
    following,
    gives_up_stop,
    on_unknown_submission,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

NOT_YET_SUBMITTED = frozenset({State.CREATED, State.SUBMITTING})

_LOOKS_S = (0.003, 0.003, 0.003, 0.003, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Pauses between the looks after a submission or a request to stop, which mostly take effect within a moment."""
_LOOKS_AT_STOP_S = (*[0.01] * 100, *[0.02] * 50, *[0.05] * 40)
"""The same while a savepoint is made at whose end somebody's job is down: four seconds, then the ticks go on."""
_LOOKS_AT_ATTEMPT = 50
"""After how many of them it is asked how the attempt itself has come out."""


_AT_ONCE = 50
"""Observations that are recorded in one transaction at most: others are to have their turn to write."""


_ENDED_AT_ONCE = 20
"""Runs that have ended, of which a look asks too: the status of those that run does not wait for more."""


def _only_to_record(run: Run, what: Observation) -> bool:
    return what.seen is not Seen.UNKNOWN and run.desired is Desired.RUNNING


_STOP_PAUSE_S = 10.0
"""The longest pause between two attempts to stop."""


def _is_submitted(run: Run) -> bool:
    """Whether somebody who started it knows enough: it is with the outside system, or it waits for slots."""
    return run.state not in NOT_YET_SUBMITTED or (run.state is State.CREATED and run.queued_at is not None)


def _is_settled(savepoint: Savepoint) -> bool:
    return savepoint.state is SavepointProgress.FAILED or savepoint.verified_at is not None


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the loop goes, in seconds."""

    tick_s: float = 1.0
    lease_s: float = 8.0
    lost_after_s: float = 2.0
    """How long a reachable place must not know a run before the run is LOST."""
    grace_s: float = 30.0
    """How long a submission whose submitter died may still arrive."""
    look_s: float = 10.0
    """The longest that looking at one place may take."""
    savepoint_s: float = 600.0
    """How long a savepoint that was asked for may take."""
    stop_s: float = 120.0
    """How long a stop with savepoint waits for a run whose tasks do not all run, before it is given up."""
    retention_s: float = 30.0
    """How often it is looked for savepoints that are not to be kept any more."""
    drain_s: float = 5.0
    """How long the end of the service waits for what is under way; the next replica resolves the rest."""
    submissions: int = 4
    """How many submissions run at once."""
    recovery: Budget = field(default_factory=Budget)
    """How often lost runs are started again by themselves."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A place, and the runs there: those to look at, to start, and those that something is being done for."""

    runner: Runner
    place: str
    runs: list[Run] = field(default_factory=list)
    starting: list[Run] = field(default_factory=list)
    passed_over: list[Run] = field(default_factory=list)
    ended: list[Run] = field(default_factory=list)
    """Runs that have ended and are looked at once more (:attr:`Run.look_again_at`); nobody holds them."""

    @property
    def key(self) -> tuple[int, str]:
        return id(self.runner), self.place


class _Waiter:
    """Somebody who waits for a change of a run."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.run: Run | None = None


class Supervisor:
    """Runs of all families, on the runners that the families register.

    ``owner`` names this replica in leases and events and must be unique to the process; ``machine`` names where it
    runs: of runs that are processes it looks after its own machine's only.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        pace: Pace | None = None,
        retained: Retained | None = None,
        machine: str | None = None,
    ) -> None:
        self.pace = pace or Pace()
        self.owner = owner
        self.machine = machine
        self._database = database
        self._store = store.Store(database, owner, self.pace.lease_s, self.pace.recovery, machine)
        self._runners: dict[str, Runner] = {}
        self.retention = Retention(database, owner, self._runners, retained or Retained(), self.pace.retention_s)
        self._upkeep: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None
        self._looks: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._admissions: dict[tuple[int, str], asyncio.Task[None]] = {}
        # What a look compared and found the same: the same two objects need not be compared in the next look.
        self._same: dict[tuple[int, str], dict[int, tuple[Run, Observation]]] = {}
        self._acts: dict[int, asyncio.Task[None]] = {}
        self._carries: dict[int, asyncio.Task[None]] = {}
        self._submission_slots = asyncio.Semaphore(self.pace.submissions)
        # A place that does not answer holds up its own runs' starts only.
        self._place_slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(self.pace.submissions)
        )
        self._waiting: defaultdict[int, set[_Waiter]] = defaultdict(set)
        self._unreachable: dict[str, str] = {}
        self._ticked_at: float | None = None

    # What families use

    def register(self, kind: str, runner: Runner) -> None:
        """Let ``runner`` look after runs of this kind; one runner may have several kinds."""
        self._runners[kind] = runner

    def kick(self, run: Run, room: Room | None = None) -> None:
        """Act on a run, as it was just committed, now instead of at the next tick; harmless when nothing is due.

        ``room`` is what its place has just said of its slots, where the caller has asked.
        """
        if self._loop is not None and run.id not in self._acts:
            self._act(run.id, self._attend(run, room))

    def look(self, run: Run) -> None:
        """Look at a run now instead of at the next tick: something has happened to it. Harmless when nothing has."""
        if self._loop is None:
            return
        if (act := self._acts.get(run.id)) is not None:
            act.add_done_callback(lambda _: self.look(run))  # what it does may be older than what has happened
            return
        self._act(run.id, self._look_at(run))

    def kick_savepoint(self, savepoint: Savepoint, run: Run) -> None:
        """See to a savepoint that was just asked for now instead of at the next tick."""
        if self._loop is not None:
            self._carry(savepoint, run, savepoint.requested_at or 0)

    async def wait(
        self,
        run_id: int,
        until: Callable[[Run], bool] | None = None,
        timeout_s: float = 30.0,
        known: Run | None = None,
    ) -> Run:
        """The run, as soon as ``until`` holds for it, or as it is after ``timeout_s``.

        By default until it has left CREATED and SUBMITTING, or waits for slots. Changes of this replica are seen at
        once, those of others within a tick. ``known`` is the run as it was just committed, where the caller has it.
        Raises :class:`~app.errors.NotFound`.
        """
        return await self._wait(run_id, Run, run_id, until or _is_submitted, timeout_s, known)

    async def wait_for_savepoint(self, savepoint: Savepoint, timeout_s: float = 30.0) -> Savepoint:
        """The savepoint, as soon as it is complete and looked into or has failed, or as it is after ``timeout_s``."""
        return await self._wait(savepoint.run_id, Savepoint, savepoint.id, _is_settled, timeout_s)

    async def _wait(
        self,
        run_id: int,
        model: type[T],
        row_id: int,
        done: Callable[[T], bool],
        timeout_s: float,
        known: T | None = None,
    ) -> T:
        deadline = time.monotonic() + timeout_s
        waiter = _Waiter()
        self._waiting[run_id].add(waiter)
        row = known
        try:
            while True:
                waiter.changed.clear()
                if row is None:
                    async with self._database.read() as session:
                        row = await session.get(model, row_id)
                        if isinstance(row, Run):
                            await freshen(session, [row])
                if row is None:
                    raise NotFound(f"There is no {model.__name__.lower()} {row_id}", id=row_id)
                left = deadline - time.monotonic()
                if done(row) or left <= 0:
                    return row
                row = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, self.pace.tick_s)):
                        await waiter.changed.wait()
                # What was handed over may have been changed once more since: it counts only where it is enough.
                told, waiter.run = waiter.run, None
                if isinstance(told, model) and done(told):
                    return told
        finally:
            self._waiting[run_id].discard(waiter)
            if not self._waiting[run_id]:
                del self._waiting[run_id]

    async def history(self, subject: str, limit: int = 50) -> Sequence[Run]:
        """The subject's runs, newest first."""
        async with self._database.read() as session:
            return await store.history(session, subject, limit)

    async def events(self, run_id: int, after: int = 0, limit: int = 500) -> Sequence[Event]:
        """What happened to a run, oldest first; ``after`` is the id of the last event already seen."""
        async with self._database.read() as session:
            return await store.events(session, run_id, after, limit)

    async def tail(self, run: Run, offset: int = 0) -> Tail:
        """A run's log from ``offset`` on. Raises what its runner raises, and :class:`~app.errors.NotFound`."""
        runner = self._runners.get(run.kind)
        if runner is None:
            raise NotFound(f"Nothing here looks after runs of the kind {run.kind}", kind=run.kind)
        return await runner.tail(run, offset)

    @property
    def tick_age_s(self) -> float | None:
        """How long ago the last tick ended; None before the first one."""
        return None if self._ticked_at is None else time.monotonic() - self._ticked_at

    @property
    def unreachable(self) -> Mapping[str, str]:
        """Place -> why it could not be looked at, for those that did not answer last time."""
        return dict(self._unreachable)

    # Life

    async def start(self) -> None:
        """Begin to tick. Raises ``ValueError`` when the environment names a crash point that does not exist."""
        check_the_wish()
        self._loop = asyncio.create_task(self._tick_on(), name="supervisor")

    async def stop(self) -> None:
        """Stop ticking, give what is under way a moment to end, and release the leases."""
        if self._loop is None:
            return
        self._loop.cancel()
        await asyncio.wait([self._loop])
        self._loop = None
        if pending := self._under_way():
            _, unfinished = await asyncio.wait(pending, timeout=self.pace.drain_s)
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished)
        try:
            await self._store.release()
        except (SQLAlchemyError, DatabaseFailure) as error:
            logger.warning("leases not released, they end in %g s: %s", self.pace.lease_s, error)

    async def _tick_on(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self.tick()
            except Exception:
                FAULTS.inc()
                logger.exception("tick failed")
            took = time.monotonic() - began
            TICKS.observe(took)
            await asyncio.sleep(max(0.0, self.pace.tick_s - took))

    async def tick(self) -> None:
        """Hold the runs and set off what is due. Does not wait for what it set off: see :meth:`settled`."""
        held = await self._store.hold()
        places: dict[tuple[int, str], _Place] = {}

        def place_of(runner: Runner, run: Run) -> _Place:
            place = runner.place(run)
            at = places.get((id(runner), place))
            if at is None:
                at = places[id(runner), place] = _Place(runner, place)
            return at

        for run in held.runs:
            runner, run_id = self._runners.get(run.kind), run.id
            if runner is None:
                if run_id not in self._acts:
                    self._act(run_id, self._store.explain(run, f"Nothing here looks after runs of the kind {run.kind}"))
                continue
            at = place_of(runner, run)
            if run_id in self._acts:
                at.passed_over.append(run)
                continue
            if run.state is State.CREATED:
                at.starting.append(run)
                continue
            at.runs.append(run)
        for run in await self._store.to_look_at_again():
            runner = self._runners.get(run.kind)
            if runner is None or run.id in self._acts:
                continue
            if outside.is_given_up(run, held.now):
                self._act(run.id, self._store.record_last_look(run, None))
            elif len(ended := place_of(runner, run).ended) < _ENDED_AT_ONCE:
                ended.append(run)
        for key, at in places.items():
            if at.starting and key not in self._admissions:
                admission = asyncio.create_task(self._admit(at.runner, at.place, at.starting, held.now))
                self._admissions[key] = admission
                admission.add_done_callback(partial(self._admission_ended, key))
            if (at.runs or at.ended) and key not in self._looks:  # otherwise the last look has not been answered yet
                look = asyncio.create_task(self._look(at, held.now))
                self._looks[key] = look
                look.add_done_callback(partial(self._look_ended, key))
        for savepoint, run in await self._store.unsettled_savepoints():
            self._carry(savepoint, run, held.now)
        self._keep_up("schedules", partial(fire_due, self._database, self.owner))
        self._keep_up("retention", self.retention.turn)
        for gone in self._unreachable.keys() - {at.place for at in places.values()}:
            del self._unreachable[gone]
        for left in self._same.keys() - places.keys():
            del self._same[left]
        self._ticked_at = time.monotonic()

    async def settled(self) -> None:
        """Wait until everything that was set off has ended; for tests and for the end of the service."""
        while pending := self._under_way():
            await asyncio.wait(pending)
            await asyncio.sleep(0)

    def _under_way(self) -> set[asyncio.Task[None]]:
        return {
            *self._looks.values(),
            *self._admissions.values(),
            *self._acts.values(),
            *self._carries.values(),
            *self._upkeep.values(),
        }

    # Tasks

    def _keep_up(self, name: str, what: Callable[[], Awaitable[object]]) -> None:
        """Do something that is not about one run, unless the last time has not ended yet."""
        if name not in self._upkeep:
            self._upkeep[name] = asyncio.create_task(self._logging_faults(name, what))
            self._upkeep[name].add_done_callback(lambda _: self._upkeep.pop(name))

    async def _logging_faults(self, name: str, what: Callable[[], Awaitable[object]]) -> None:
        try:
            await what()
        except (SQLAlchemyError, DatabaseFailure) as error:
            FAULTS.inc()
            logger.error("%s: the database failed: %s", name, error)
        except Exception:
            FAULTS.inc()
            logger.exception("%s: fault", name)

    def _look_ended(self, key: tuple[int, str], _look: asyncio.Task[None]) -> None:
        del self._looks[key]

    def _admission_ended(self, key: tuple[int, str], _admission: asyncio.Task[None]) -> None:
        del self._admissions[key]

    def _act(self, run_id: int, what: Coroutine[Any, Any, None]) -> None:
        """Do something for one run, one thing at a time; whatever goes wrong is recorded on it."""
        task = asyncio.create_task(self._recording_faults(run_id, what))
        self._acts[run_id] = task

        def ended(_: asyncio.Task[None]) -> None:
            if self._acts.get(run_id) is task:
                del self._acts[run_id]

        task.add_done_callback(ended)

    def _carry(self, savepoint: Savepoint, run: Run, now: int) -> None:
        """See to one savepoint, in one task at a time."""
        runner = self._runners.get(run.kind)
        if runner is None or savepoint.id in self._carries:
            return
        task = asyncio.create_task(self._recording_faults(run.id, self._make(runner, run, savepoint, now)))
        self._carries[savepoint.id] = task
        task.add_done_callback(lambda _: self._carries.pop(savepoint.id, None))

    async def _recording_faults(self, run_id: int, what: Coroutine[Any, Any, None]) -> None:
        try:
            await what
        except (SQLAlchemyError, DatabaseFailure) as error:
            FAULTS.inc()
            logger.error("run %s: the database failed: %s", run_id, error)
        except Exception as error:
            FAULTS.inc()
            logger.exception("run %s: fault", run_id)
            await self._note_fault(run_id, error)
        finally:
            self._announce(run_id)

    async def _note_fault(self, run_id: int, error: Exception) -> None:
        try:
            for run in (await self._store.hold_one(run_id)).runs:
                await self._store.explain(run, f"Fault in the service: {type(error).__name__}: {error}", "fault")
        except (SQLAlchemyError, DatabaseFailure):
            logger.exception("run %s: the fault could not be recorded", run_id)

    async def _attend(self, run: Run, room: Room | None) -> None:
        runner = self._runners.get(run.kind)
        if runner is None:
            return
        if run.state is State.CREATED and run.desired is Desired.RUNNING:
            await self._bring_up(runner, run, room)  # which takes it
            return
        held = await self._store.hold_one(run.id)
        for current in held.runs:
            if current.state in NOT_YET_SUBMITTED:
                await self._bring_up(runner, current)
            elif current.desired is Desired.STOPPED:
                await self._bring_down(runner, current, held.now)

    async def _look_at(self, run: Run) -> None:
        runner = self._runners.get(run.kind)
        if runner is None:
            return
        held = await self._store.hold_one(run.id)
        for current in held.runs:
            try:
                what = (await self._observe(runner, [current])).get(current.id)
            except Unreachable:
                return  # the ticks go on looking
            if what is not None and what.seen is not Seen.UNKNOWN:
                await self._follow(runner, current, what, runner.place(current), held.now)

    async def _look(self, at: _Place, now: int) -> None:
        """Look at one place's runs, record what is seen, and set off what follows."""
        runner, place, runs = at.runner, at.place, at.runs
        try:
            observations = await self._observe(runner, [*runs, *at.ended])
        except Unreachable as unreachable:
            self._note_unreachable(place, unreachable)
            return
        except Exception as error:
            FAULTS.inc()
            logger.exception("looking at %s failed", place)
            self._unreachable[place] = f"{type(error).__name__}: {error}"
            return
        self._note_reachable(place)
        for run in at.ended:
            last = observations.get(run.id)
            if last is not None and run.id not in self._acts:
                self._act(run.id, self._look_again(runner, run, last, place))
        if not runs:
            return
        unchanged, others, due = [], at.passed_over, []
        before, same = self._same.get(at.key, {}), {}
        for run in runs:
            run_id = run.id
            what = observations.get(run_id)
            if what is None or run_id in self._acts:
                others.append(run)
                continue
            compared = before.get(run_id)
            if compared is None or compared[0] is not run or compared[1] is not what:
                if what.seen is Seen.UNKNOWN or store.is_changed(run, what):
                    others.append(run)
                    due.append((run, what))
                    continue
                compared = run, what
            same[run_id] = compared
            unchanged.append(run)
            if run.desired is Desired.STOPPED:
                due.append((run, what))
        self._same[at.key] = same
        try:
            await self._store.record_look(place, unchanged, others)
        except (SQLAlchemyError, DatabaseFailure):
            logger.exception("observations of %s could not be recorded", place)
            return
        due = [(run, what) for run, what in due if run.id not in self._acts]
        news = [(run, what) for run, what in due if _only_to_record(run, what)]
        if len(news) > 1:
            self._record_all(news, place)
            due = [(run, what) for run, what in due if not _only_to_record(run, what)]
        for run, what in due:
            self._act(run.id, self._follow(runner, run, what, place, now))

    def _record_all(self, news: Sequence[tuple[Run, Observation]], place: str) -> None:
        """Record what was seen of several runs, many in one transaction, and each alone where that fails."""
        batches = [news[start : start + _AT_ONCE] for start in range(0, len(news), _AT_ONCE)]
        done = [asyncio.get_running_loop().create_future() for _ in batches]

        async def record() -> None:
            # One after the other: whoever else wants to write has a turn in between.
            for batch, together in zip(batches, done, strict=True):
                crash_point("observation.unrecorded")
                try:
                    await self._store.record_all(batch, place)
                except DatabaseFailure as busy:
                    logger.warning("%d observations of %s are left to the next look: %s", len(batch), place, busy)
                    together.set_result(True)
                except SQLAlchemyError as error:
                    logger.warning("%d observations of %s are recorded one by one: %s", len(batch), place, error)
                    together.set_result(False)
                else:
                    together.set_result(True)

        recording = asyncio.create_task(record())

        async def settle(run: Run, what: Observation, together: asyncio.Future[bool]) -> None:
            either: list[asyncio.Future[Any]] = [recording, together]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not (together.done() and together.result()):
                await self._store.record(run, what, place)

        for batch, together in zip(batches, done, strict=True):
            for run, what in batch:
                self._act(run.id, settle(run, what, together))

    async def _follow(self, runner: Runner, run: Run, what: Observation, place: str, now: int) -> None:
        """Do what an observation asks for."""
        current: Run | None = run
        if what.seen is Seen.UNKNOWN:
            if run.state is not State.SUBMITTING:
                await self._missing(run, what, place, now)
            elif self._verdict(run, what, now) is not Verdict.WAIT:
                await self._bring_up(runner, run)
            return
        if store.is_changed(run, what):
            crash_point("observation.unrecorded")
            current = await self._store.record(run, what, place)
            self._announce(run.id)
            await self._go_on(current)
        if current is not None and not current.state.ended and current.desired is Desired.STOPPED:
            await self._bring_down(runner, current, now)

    async def _missing(self, run: Run, what: Observation, place: str, now: int) -> None:
        """A run that was there is not known any more: LOST, once that has been so for long enough."""
        if run.missing_since is None:
            await self._store.record_missing(run, what, place)
            return
        if now - run.missing_since < self.pace.lost_after_s * 1000:
            return
        if await self._was_stopped(run, place):
            return
        if what.incarnation and run.incarnation and what.incarnation != run.incarnation:
            reason = f"{place} was restarted since this run was submitted, and does not know it any more"
            certain = True
        else:
            certain = False
            reason = f"{place} answers and does not know this run: it ended while nobody looked, and was forgotten"
        if run.checkpoint:
            reason += f". Its last known checkpoint: {run.checkpoint}"
        if run.savepoint:
            reason += f". Its savepoint: {run.savepoint}"
        await self._go_on(await self._store.move(run, State.LOST, reason, certain=certain))

    async def _look_again(self, runner: Runner, run: Run, what: Observation, place: str) -> None:
        """What was seen of a run that has ended: its last savepoint; or, of a lost one, that its job is there again."""
        if run.state is not State.LOST:
            await self._store.record_last_look(run, what)
            return
        if what.seen in (Seen.UNKNOWN, Seen.UNCLEAR):
            await self._store.look_for_lost_again(run)
            return
        try:
            incarnation = await self._within_a_look(runner.incarnation(run))
        except Unreachable:
            return
        found = await self._store.take_back(run, what, place, incarnation)
        if found.run is not None:
            self._announce(found.run.id, found.run)
        if found.superfluous is not None:
            crash_point("lost.superfluous")
            with contextlib.suppress(Unreachable):  # it is looked for again
                await runner.stop(found.superfluous, StopMode.CANCEL)

    async def _was_stopped(self, run: Run, place: str) -> bool:
        """Whether a run that is not known any more has the whole savepoint of its stop: then it ended by that.

        A stop with savepoint takes the checkpoints away, so this savepoint may be all the state that there is.
        """
        if run.stop_token is None:
            return False
        path = run.savepoint or await self._runners[run.kind].find_savepoint(run, run.stop_token)
        if path is None:
            return False
        reason = f"Stopped: its savepoint is whole. {place} does not know the run any more"
        await self._go_on(await self._store.move(run, State.FINISHED, reason, savepoint=path))
        return True

    async def _go_on(self, ended: Run | None) -> None:
        """Start the run that a restart wrote when this one ended; without this the next tick does."""
        if ended is None or not ended.state.ended or ended.successor is None:
            return
        async with self._database.read() as session:
            successor = await store.active_run(session, ended.subject)
        if successor is not None:
            self.kick(successor)

    # Submitting

    async def _admit(self, runner: Runner, place: str, runs: Sequence[Run], now: int) -> None:
        """Start those of a place's new runs whose turn it is, and tell the others what they wait for."""
        waiting: list[Run] = []
        ready: list[Run] = []
        for run in runs:
            if run.slots is None or run.desired is Desired.STOPPED:
                ready.append(run)
            elif (run.not_before or 0) <= now:
                waiting.append(run)
        room: Room | None = None
        told: list[tuple[Run, str]] = []
        try:
            if waiting:
                # The largest one: if it has room, nobody need know who holds the slots.
                room = await self._within_a_look(runner.room(max(waiting, key=lambda run: run.slots or 0)))
                if room is None:
                    ready += waiting
                else:
                    line = await self._store.line_at(place, room)
                    there_again = await self._store.lost_among(room.holders or ())
                    for run in waiting:
                        standing = line.standing(run)
                        # The slots that it waits for may be those of the very job that it is to stand in for.
                        if standing.fits or (run.predecessor_id is not None and run.subject in there_again):
                            ready.append(run)
                        elif self._is_late(run, now):
                            late = f"{standing.words}. That was its last moment: it waited as long as it may"
                            await self._store.move(run, State.FAILED, late)
                            self._announce(run.id)
                        elif (run.reason, run.queued_at is None) != (standing.words, False):
                            told.append((run, standing.words))
                if told:
                    await self._store.record_waiting(told)
        except Unreachable as unreachable:
            self._note_unreachable(place, unreachable)
            for run in waiting:
                if run.id not in self._acts:
                    self._act(run.id, self._explain_unreachable(run, place, unreachable))
        except (SQLAlchemyError, DatabaseFailure):
            FAULTS.inc()
            logger.exception("the queue of %s: the database failed", place)
        except Exception:
            FAULTS.inc()
            logger.exception("the queue of %s: fault", place)
        for run in ready:
            if run.id not in self._acts:
                self._act(run.id, self._bring_up(runner, run, room))
        for run, _ in told:
            self._announce(run.id)

    def _is_late(self, run: Run, now: int) -> bool:
        """Whether it has waited for slots as long as it may; what goes on from another run waits without end."""
        limit_s = (run.spec.get("queue") or {}).get("wait_s")
        if run.continues or limit_s is None or run.queued_at is None:
            return False
        return now - run.queued_at > float(limit_s) * 1000

    async def _explain_unreachable(self, run: Run, place: str, unreachable: Unreachable) -> None:
        await self._store.explain(run, f"Not submitted yet: {place} does not answer ({unreachable})")

    async def _bring_up(self, runner: Runner, run: Run, room: Room | None = None) -> None:
        """CREATED or SUBMITTING: find out what is so, and submit if nothing is.

        A run that queues for slots needs ``room``, or its place is asked.
        """
        place = runner.place(run)
        async with self._place_slots[place]:
            due, incarnation = await self._find_out(runner, run, place)
            if due is not None and due.state is State.CREATED:
                try:
                    if room is None and due.slots is not None and not await self._store.inherits(due):
                        room = await self._within_a_look(runner.room(due))
                    if due.predecessor_id is not None:
                        due = await self._prepare_recovery(runner, due)
                except Unreachable as unreachable:
                    self._note_unreachable(place, unreachable)
                    await self._explain_unreachable(run, place, unreachable)
                    return
        if due is None:
            return
        async with self._submission_slots:
            try:
                begun = await self._store.begin_submission(due, incarnation, room)
            except NoRoom:
                await self._stand_in_line(runner, due, place)
                return
            if begun is None:
                return
            crash_point("submission.begun")
            repeated = False
            try:
                await runner.start(begun)
            except SubmissionRefused as refused:
                crash_point("submission.refused")
                await self._store.move(begun, State.FAILED, str(refused))
                return
            except AlreadySubmitted:
                repeated = True
            except Unreachable as unreachable:
                await self._store.withdraw_submission(begun, f"Not submitted yet: {unreachable}")
                return
            except SubmissionUncertain as uncertain:
                logger.warning("run %s: attempt %d to submit it was cut off: %s", run.id, begun.attempts, uncertain)
                await self._store.explain(begun, f"Attempt {begun.attempts} to submit it was cut off: {uncertain}")
                return
            crash_point("submission.done")
        known = await self._watch(runner, begun, lambda run: run.state is not State.SUBMITTING)
        crash_point("submission.noted")
        if repeated and known is False:
            reason = f"{place} has had this run before and does not know it any more: how it ended is lost"
            await self._store.move(begun, State.LOST, reason)

    async def _stand_in_line(self, runner: Runner, run: Run, place: str) -> None:
        """Say what a run that was just to be started waits for; when there is room by now, the next tick starts it."""
        try:
            room = await self._within_a_look(runner.room(run))
        except Unreachable as unreachable:
            self._note_unreachable(place, unreachable)
            return
        if room is None:
            return
        line = await self._store.line_at(place, room)
        held = await self._store.hold_one(run.id)
        told = [(one, standing.words) for one in held.runs if not (standing := line.standing(one)).fits]
        await self._store.record_waiting(told)

    async def _prepare_recovery(self, runner: Runner, run: Run) -> Run | None:
        """Make sure that nothing of the runs that it stands in for runs, and choose what it goes on from.

        Returns the run if it is to be started; what else follows is done here.
        """
        before = await self._store.stood_in_for(run)
        if not before and "restore" in run.spec:
            return run
        held = (await self._store.hold_one(run.id)).runs
        if not held or held[0].state is not State.CREATED:
            return None
        run = held[0]
        for lost in before:
            if lost.state is not State.LOST:
                continue
            what = (await self._observe(runner, [lost])).get(lost.id)
            if what is None:
                return None  # it is looked at again
            if what.seen is not Seen.UNKNOWN:
                incarnation = await self._within_a_look(runner.incarnation(lost))
                crash_point("recovery.found")
                self._announce(run.id, await self._store.adopt(run, lost, what, runner.place(lost), incarnation))
                return None
        if "restore" in run.spec:
            return run
        chosen, passed_over = await self._choose_state(runner, run)
        told = f" Not usable: {'; '.join(passed_over)}." if passed_over else ""
        if chosen is None and not Policy.in_spec(run.spec).without_state:
            reason = (
                f"Not started again: there is no state to go on from.{told} Run it anew, or from a savepointPath; "
                "recoverWithoutState 1 has that done by itself"
            )
            await self._store.move(run, State.FAILED, reason)
            return None
        if chosen is None:
            words = f"starts anew, without state, as its policy says: there is none to go on from.{told}"
        else:
            seen = "is whole" if chosen.complete else "cannot be looked into from here"
            words = f"goes on from {chosen.path}, which {seen}.{told}"
        crash_point("recovery.chosen")
        return await self._store.record_choice(run, chosen.path if chosen is not None else None, words)

    async def _choose_state(self, runner: Runner, run: Run) -> tuple[LeftState | None, list[str]]:
        """The best state that is whole, and why better ones were passed over.

        One that cannot be seen from here is taken when it lies where only the cluster sees, or when there is no other.
        """
        unseen: LeftState | None = None
        passed_over: list[str] = []
        for source in await self._store.sources(run):
            found = await runner.left_state(source.run, source.path)
            if found is None:
                continue
            if found.complete or (found.complete is None and is_hidden(found.path)):
                return found, passed_over
            passed_over.append(f"{found.path}: {found.reason}")
            if found.complete is None and unseen is None:
                unseen = found
        return unseen, passed_over

    async def _find_out(self, runner: Runner, run: Run, place: str) -> tuple[Run | None, str | None]:
        """Ask its place whether it has it already.

        Returns the run if it is to be submitted, with the life of the place; what else follows is done here.
        """
        fresh = run.state is State.CREATED
        if fresh and run.desired is Desired.STOPPED:
            await self._store.move(run, State.CANCELED, "Stopped before it was started")
            return None, None
        try:
            if fresh:  # its id was never sent to anybody
                return run, await self._within_a_look(runner.incarnation(run))
            what = (await self._observe(runner, [run])).get(run.id)
        except Unreachable as unreachable:
            self._note_unreachable(place, unreachable)
            await self._store.explain(run, f"Not submitted yet: {place} does not answer ({unreachable})")
            return None, None
        self._note_reachable(place)
        if what is None:
            return None, None
        if what.seen is not Seen.UNKNOWN:
            await self._store.record(run, what, place)
            return None, None
        held = await self._store.hold_one(run.id)  # as it is by now: it may have waited long for its turn
        for current in held.runs:
            match self._verdict(current, what, held.now):
                case Verdict.SUBMIT:
                    return current, what.incarnation
                case Verdict.CANCELED:
                    await self._store.move(current, State.CANCELED, "Stopped before it was started")
                case Verdict.FAILED:
                    reason = f"{current.attempts} attempts to submit it led to nothing. {current.reason or ''}"
                    await self._store.move(current, State.FAILED, reason.strip())
                case Verdict.LOST:
                    reason = f"{place} was restarted while it was being submitted: whether it ran is not known"
                    await self._store.move(current, State.LOST, reason, certain=True)
                case Verdict.WAIT:
                    pass
        return None, None

    def _verdict(self, run: Run, what: Observation, now: int) -> Verdict:
        return on_unknown_submission(
            desired=run.desired,
            attempts=run.attempts,
            since_attempt_s=(now - (run.submitted_at or now)) / 1000,
            same_incarnation=not (run.incarnation and what.incarnation) or run.incarnation == what.incarnation,
            goes_on=run.continues,
            grace_s=self.pace.grace_s,
        )

    async def _watch(
        self, runner: Runner, run: Run, settled: Callable[[Run], bool], pauses: Sequence[float] = _LOOKS_S
    ) -> bool | None:
        """Look at one run more often than the ticks do, for a moment: somebody may be waiting for what comes.

        Returns whether its place knows it; None when that was not to be learnt.
        """
        known: bool | None = None
        for pause in pauses:
            await asyncio.sleep(pause)
            try:
                what = (await self._observe(runner, [run])).get(run.id)
            except Unreachable as unreachable:
                self._note_unreachable(runner.place(run), unreachable)
                return known  # the ticks go on looking
            if what is None:
                continue
            known = what.seen is not Seen.UNKNOWN
            # What leads nowhere yet (it is being set up) is not worth a transaction: the ticks record it.
            if known and following(run.state, what.seen) is not None:
                recorded = await self._store.record(run, what, runner.place(run))
                self._announce(run.id, recorded)
                await self._go_on(recorded)
                if recorded is None:
                    return known
                run = recorded
            if settled(run):
                return known
        return known

    # Stopping

    async def _bring_down(self, runner: Runner, run: Run, now: int) -> bool:
        """One step towards a stop: begin an attempt, or see how far it has come. Returns whether it is under way."""
        mode = run.stop_mode or StopMode.CANCEL
        begins = run.stop_token is None
        if begins:
            if now - (run.stop_attempted_at or 0) < min(backoff_s(run.stop_attempts), _STOP_PAUSE_S) * 1000:
                return False
            begun = await self._store.begin_stop(run)
            if begun is None:
                return False
            run, mode = begun, begun.stop_mode or mode
            crash_point("stop.begun")
        place = runner.place(run)
        try:
            report = await runner.stop(run, mode)
        except Unreachable as unreachable:
            self._note_unreachable(place, unreachable)
            await self._store.explain(run, f"Not stopped yet: {place} does not answer ({unreachable})")
            return False
        crash_point("stop.asked")
        noted: Run | None = run
        if report.savepoint is not None and report.savepoint != run.savepoint:
            noted = await self._store.record_stop_savepoint(run, report.savepoint)
        elif report.outcome is Outcome.FAILED:
            gives_up = gives_up_stop(
                mode=mode,
                attempts=run.stop_attempts,
                since_request_s=(now - (run.stop_requested_at or now)) / 1000,
                passing=report.passing,
                patience_s=self.pace.stop_s,
            )
            await self._store.record_failed_stop(run, report.cause or "no cause was given", gives_up=gives_up)
        crash_point("stop.noted")
        if noted is None or report.outcome is Outcome.FAILED:
            return False
        if begins:
            await self._watch_stop(runner, noted)
        return True

    async def _watch_stop(self, runner: Runner, run: Run) -> None:
        """Look at a run that is being stopped until it has ended, for a moment."""

        def ended(run: Run) -> bool:
            return run.state.ended

        if run.successor is None:
            await self._watch(runner, run, ended)
            return
        await self._watch(runner, run, ended, _LOOKS_AT_STOP_S[:_LOOKS_AT_ATTEMPT])
        # An attempt that came to nothing at once is to be told, and repeated, before all the looks are over.
        held = await self._store.hold_one(run.id)
        for current in held.runs:
            if current.stop_token == run.stop_token and await self._bring_down(runner, current, held.now):
                await self._watch(runner, current, ended, _LOOKS_AT_STOP_S[_LOOKS_AT_ATTEMPT:])

    # Savepoints

    async def _make(self, runner: Runner, run: Run, savepoint: Savepoint, now: int) -> None:
        """Carry a savepoint on until it is settled and looked into, for a moment; the ticks go on with it."""
        try:
            settled: Savepoint | None = savepoint
            if savepoint.state is SavepointProgress.PENDING:
                settled = await self._finish(runner, run, savepoint, now)
                self._announce(run.id)
            if settled is not None and settled.state is SavepointProgress.COMPLETED and settled.path is not None:
                await self._store.record_inspection(settled, run, await runner.inspect(run, settled.path))
        except Unreachable as unreachable:
            self._note_unreachable(runner.place(run), unreachable)

    async def _finish(self, runner: Runner, run: Run, savepoint: Savepoint, now: int) -> Savepoint | None:
        for pause in (0.0, *_LOOKS_S):
            await asyncio.sleep(pause)
            report = await runner.savepoint(run, savepoint.token, native=savepoint.native)
            crash_point("savepoint.asked")
            if report.outcome is Outcome.DONE:
                return await self._store.settle_savepoint(
                    savepoint, run, SavepointProgress.COMPLETED, path=report.savepoint
                )
            if report.outcome is Outcome.FAILED:
                break
        late = now - (savepoint.requested_at or now) > self.pace.savepoint_s * 1000
        if report.outcome is Outcome.FAILED and report.passing and not late:
            await self._store.renew_savepoint(savepoint)
            return None
        if report.outcome is Outcome.UNDER_WAY and not late:
            return None
        # Its place may have made it and forgotten it since.
        if (path := await runner.find_savepoint(run, savepoint.token)) is not None:
            return await self._store.settle_savepoint(savepoint, run, SavepointProgress.COMPLETED, path=path)
        reason = report.cause or f"it was not complete within {self.pace.savepoint_s:g} s"
        return await self._store.settle_savepoint(savepoint, run, SavepointProgress.FAILED, reason=reason)

    # Parts

    async def _observe(self, runner: Runner, runs: Sequence[Run]) -> Mapping[int, Observation]:
        return await self._within_a_look(runner.observe(runs))

    async def _within_a_look(self, asking: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self.pace.look_s):
                return await asking
        except TimeoutError:
            raise Unreachable(f"no answer within {self.pace.look_s:g} s") from None

    def _note_unreachable(self, place: str, why: Unreachable) -> None:
        if place not in self._unreachable:
            logger.warning("%s does not answer; what was last seen there stands: %s", place, why)
        self._unreachable[place] = str(why)

    def _note_reachable(self, place: str) -> None:
        if self._unreachable.pop(place, None) is not None:
            logger.info("%s answers again", place)

    def _announce(self, run_id: int, run: Run | None = None) -> None:
        """Wake those who wait for a run; ``run`` is what was just committed, None where they have to read it."""
        for waiter in self._waiting.get(run_id, ()):
            waiter.run = run or waiter.run
            waiter.changed.set()
