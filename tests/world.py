"""A simulated world: replicas of the supervisor on one database, and a double of Flink that they work on.

Everything runs in one process and in simulated time (:mod:`tests.simulation`). A replica can be killed at any moment,
or when it comes to a named crash point (:mod:`app.supervisor.faults`): all that it was doing ends there.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

from sqlalchemy.engine import URL
from sqlmodel import col, select

from app.database import Database
from app.errors import Conflict
from app.ids import Generator
from app.supervisor import (
    Event,
    Pace,
    Run,
    Savepoint,
    StopMode,
    Supervisor,
    create_run,
    request_restart,
    request_savepoint,
    request_stop,
)
from app.supervisor.faults import crash_point
from app.supervisor.runners.flink import FlinkRunner
from tests import invariants
from tests.fake_flink import ADDRESS, FakeClusters, FakeFlink, FakeSubmitter
from tests.simulation import BEGAN_S, Clock, SimulatedDatabase, SimulatedLoop

T = TypeVar("T")

_OURS = ("app.supervisor.", "stream_jobs.rest")

PACE = Pace(tick_s=2.0)
"""Half as many ticks as usual: most of the time of a simulation goes into them."""

_REST_S = 400.0
"""How long everything may take to be at rest: the longest pauses between attempts to stop are a minute."""

_flink: FakeFlink | None = None


def _the_flink() -> FakeFlink:
    assert _flink is not None
    return _flink


_clusters = FakeClusters(_the_flink)  # made once: each makes a context for TLS, which takes long


class Replica:
    """One process of the service, as far as the supervisor goes."""

    def __init__(self, name: str, database: Database, flink: FakeFlink) -> None:
        self.name = name
        self.database = database
        self.tasks: set[asyncio.Task[Any]] = set()
        self.dies_at: str | None = None
        self.is_dead = False
        self.supervisor = Supervisor(database, name, PACE)
        self.supervisor.register("flink", FlinkRunner(FakeSubmitter(flink), _clusters))
        self.context = contextvars.copy_context()
        self.context.run(_replica.set, self)

    def die(self) -> None:
        self.is_dead = True
        for task in self.tasks:
            task.cancel()


_replica: contextvars.ContextVar[Replica | None] = contextvars.ContextVar("replica", default=None)


def _crash_point(point: str) -> None:
    replica = _replica.get()
    if replica is not None and (replica.is_dead or replica.dies_at == point):
        replica.die()
        raise asyncio.CancelledError(f"killed at {point}")


def _new_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], context: contextvars.Context | None = None
) -> asyncio.Task[T]:
    task = asyncio.Task(coroutine, loop=loop, context=context)
    replica = (context or contextvars.copy_context()).get(_replica)
    if replica is not None:
        replica.tasks.add(task)
        task.add_done_callback(replica.tasks.discard)
        if replica.is_dead:
            task.cancel()
    return task


class World:
    """``url`` is a migrated database without rows; ``seed`` decides all that is left to chance."""

    def __init__(self, url: URL, seed: int) -> None:
        global _flink
        self.url = url
        self.chance = random.Random(seed)
        self.loop = SimulatedLoop()
        self.loop.set_task_factory(_new_task)
        self.clock = Clock(self.loop)
        _clusters.forget()
        self.flink = _flink = FakeFlink(self.loop, random.Random(seed + 1))
        self.turn = asyncio.Lock()
        self.replicas: dict[int, Replica] = {}
        self.born = 0
        self.database = self._open()
        self._tokens = random.Random(seed + 2)
        self._stack = self._patched()
        self._stack.__enter__()

    @contextmanager
    def _patched(self) -> Iterator[None]:
        """The supervisor's modules, and what asks Flink, have the world's time, its tokens and its way to die."""
        doubles: tuple[tuple[str, object, object], ...] = (
            ("time", time, SimpleNamespace(monotonic=self.clock.monotonic)),
            ("secrets", secrets, SimpleNamespace(token_hex=self._token)),
            ("crash_point", crash_point, _crash_point),
        )
        with ExitStack() as patched:
            patched.enter_context(patch("app.ids._generator", Generator(1, 2**62, self.clock.epoch_ms)))
            for name, module in list(sys.modules.items()):
                for attribute, real, double in doubles:
                    if name.startswith(_OURS) and getattr(module, attribute, None) is real:
                        patched.enter_context(patch.object(module, attribute, double))
            yield

    def _token(self, size: int) -> str:
        return f"{self._tokens.getrandbits(8 * size):0{2 * size}x}"

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        """Carry something out; the world goes on meanwhile."""
        return self.loop.run_until_complete(what)

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.do(asyncio.sleep(seconds))

    def close(self) -> None:
        for place in list(self.replicas):
            self.kill(place)
        self.do(self.database.close())
        self.loop.close()
        self._stack.__exit__(None, None, None)

    # Replicas

    def start(self, place: int) -> None:
        """Start a replica at this place, unless one lives there."""
        if place in self.replicas:
            return
        self.born += 1
        replica = Replica(f"replica-{self.born}", self._open(), self.flink)
        self.replicas[place] = replica
        self.do(_in(replica.context, replica.supervisor.start()))

    def kill(self, place: int) -> None:
        """``kill -9``."""
        if replica := self.replicas.pop(place, None):
            replica.die()
            self.do(self._buried(replica))

    def stop(self, place: int) -> None:
        """End a replica in order."""
        if replica := self.replicas.pop(place, None):
            self.do(_in(replica.context, replica.supervisor.stop()))
            self.do(self._buried(replica))

    def bury(self) -> None:
        """Take away the replicas that have come to their crash points."""
        for place in [place for place, replica in self.replicas.items() if replica.is_dead]:
            self.do(self._buried(self.replicas.pop(place)))

    async def _buried(self, replica: Replica) -> None:
        replica.is_dead = True
        while left := [task for task in replica.tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        await replica.database.close()

    def _living(self) -> Replica | None:
        return next((one for one in self.replicas.values() if not one.is_dead), None)

    def _open(self) -> SimulatedDatabase:
        return SimulatedDatabase(self.url, self.clock, self.chance, self.turn)

    # Requests, as a family makes them

    def create(self, subject: str, *, told: bool = True, **spec: Any) -> None:
        """A job is run; ``told`` False: the process that wrote it down died before it told its supervisor."""

        async def ask() -> Run:
            async with self.database.write() as session:
                return await create_run(session, "flink", subject, {"flink_url": ADDRESS, **spec})

        run = self._allowed(ask())
        if told:
            self._kick(run)

    def request_stop(self, subject: str, mode: StopMode) -> None:
        async def ask() -> Run | None:
            async with self.database.write() as session:
                return await request_stop(session, subject, mode)

        self._kick(self._allowed(ask()))

    def request_restart(self, subject: str, **spec: Any) -> None:
        async def ask() -> Run | None:
            async with self.database.write() as session:
                return await request_restart(session, subject, {"flink_url": ADDRESS, **spec})

        self._kick(self._allowed(ask()))

    def request_savepoint(self, subject: str) -> None:
        async def ask() -> tuple[Savepoint, Run]:
            async with self.database.write() as session:
                made = await request_savepoint(session, subject)
                run = await session.get(Run, made.run_id)
                assert run is not None
                return made, run

        asked = self._allowed(ask())
        if asked is not None and (replica := self._living()):
            self.loop.call_soon(replica.supervisor.kick_savepoint, *asked, context=replica.context)

    def go_on(self, subject: str) -> None:
        """A run that has ended is followed by one that goes on from its savepoint or its newest checkpoint."""
        last = self.facts().newest.get(subject)
        if last is not None and last.state.ended and (restore := last.savepoint or last.checkpoint):
            self.create(subject, restore=restore)

    def _kick(self, run: Run | None) -> None:
        if run is not None and (replica := self._living()):
            self.loop.call_soon(replica.supervisor.kick, run, context=replica.context)

    def _allowed(self, asking: Coroutine[Any, Any, T]) -> T | None:
        try:
            return self.do(asking)
        except Conflict:
            return None

    # What is so

    def facts(self) -> invariants.Facts:
        return self.do(self._facts())

    async def _facts(self) -> invariants.Facts:
        events: defaultdict[int, list[Event]] = defaultdict(list)
        # Not the simulated read: looking must not change what happens.
        async with Database.read(self.database) as session:
            runs = (await session.exec(select(Run).order_by(col(Run.id)))).all()
            for event in await session.exec(select(Event).order_by(col(Event.id))):
                events[event.run_id].append(event)
            savepoints = (await session.exec(select(Savepoint).order_by(col(Savepoint.id)))).all()
        return invariants.Facts(runs, events, savepoints, self.flink)

    def check(self, promises: tuple[Callable[[invariants.Facts], None], ...] = invariants.ALWAYS) -> None:
        """Raises ``AssertionError`` with the story of the runs when a promise is broken."""
        facts = self.facts()
        for promise in promises:
            try:
                promise(facts)
            except AssertionError as broken:
                raise AssertionError(f"{promise.__name__}: {broken}\n{_story(facts)}") from None

    def come_to_rest(self) -> None:
        """No more faults, two living replicas, and time until all is as it should be.

        Raises ``AssertionError`` when it does not become so.
        """
        self.flink.heal()
        self.bury()
        for place in (0, 1):
            self.start(place)
            self.replicas[place].dies_at = None
        waited = 0.0
        while True:
            self.pause(4.0)
            waited += 4.0
            try:
                self.check(invariants.ALWAYS)
                self.check(invariants.AT_REST)
            except AssertionError:
                if waited > _REST_S:
                    raise
            else:
                return


async def _in(context: contextvars.Context, what: Coroutine[Any, Any, T]) -> T:
    return await asyncio.get_running_loop().create_task(what, context=context)


def _story(facts: invariants.Facts) -> str:
    """Events and truth in the order of time, for a person to read."""
    lines: list[tuple[float, str]] = []
    names: Mapping[int, str] = {run.id: f"{run.subject} {run.external_id[:6]}" for run in facts.runs}
    first = min((event.at or 0 for events in facts.events.values() for event in events), default=0)
    for events in facts.events.values():
        lines += [
            (
                (event.at or first) / 1000 - BEGAN_S,
                f"  {names[event.run_id]} [{event.by or 'request'}] {event.what}: {event.state} {event.message or ''}",
            )
            for event in events
        ]
    lines += [
        (entry.at, f"    Flink: {entry.job.subject} {entry.job.id[:6]} {entry.what}") for entry in facts.flink.ledger
    ]
    return "\n".join(f"{at:9.3f} {line}" for at, line in sorted(lines, key=lambda line: line[0])[-60:])
