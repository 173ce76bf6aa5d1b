"""Time and databases for simulations: hours pass in moments, and what happens follows from a seed.

A :class:`SimulatedLoop` skips the time in which nothing would happen. The databases' own clocks are shadowed, so that
the service's SQL runs as it is: SQLite by a function of the connection, PostgreSQL by one in the schema.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from sqlalchemy import event, text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database

BEGAN_S = 1_790_000_000.0
"""When every simulation begins (epoch seconds)."""

_REAL_WAIT_S = 60.0


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while something runs and jumps to the next timer when nothing does.

    Sockets and threads that somebody waits for are waited for in earnest, during which no time passes.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._threads = 0
        super().__init__(_Skipping(self))

    def time(self) -> float:
        return self._now

    def skip(self, seconds: float) -> None:
        self._now += seconds

    @property
    def waits_for_others(self) -> bool:
        """Whether a thread, or a socket beside the loop's own, is to bring something."""
        return self._threads > 0 or len(self._selector.get_map()) > 1  # type: ignore[attr-defined]

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        self._threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _future: asyncio.Future[Any]) -> None:
        self._threads -= 1


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if self._loop.waits_for_others:
            found = super().select(_REAL_WAIT_S)
            assert found, f"no answer of a database within {_REAL_WAIT_S:g} s"
            return found
        assert timeout is not None, "nothing is left that could ever happen"
        self._loop.skip(timeout)
        return []


class Clock:
    """The simulation's time."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()

    def epoch_ms(self) -> int:
        return round((BEGAN_S + self._loop.time()) * 1000)


class SimulatedDatabase(Database):
    """A database whose clock is the simulation's, and whose transactions begin after a pause of a random length.

    On SQLite everything is done in place, not in threads; those who share a file must share the writers' ``turn``.
    """

    def __init__(self, url: Any, clock: Clock, chance: random.Random, turn: asyncio.Lock) -> None:
        super().__init__(url)
        self._chance = chance
        self._clock = clock
        self._drivers: list[Any] = []
        event.listen(self.engine.sync_engine, "connect", self._note_driver)
        if self.is_sqlite:
            self._turn = turn
            event.listen(self.engine.sync_engine, "connect", _clock_of_sqlite(clock))

    def _note_driver(self, connection: Any, _record: Any) -> None:
        self._drivers.append(connection.driver_connection)

    async def close(self) -> None:
        """Also what tasks that were killed in a transaction have left open, as the end of a process would."""
        await super().close()
        for driver in self._drivers:
            if not self.is_sqlite:
                driver.pgconn.finish()
            elif driver._connection is not None:
                driver._connection.close()
        self._drivers.clear()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        await self._pause()
        async with super().read() as session:
            await self._set_the_clock(session)
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        await self._pause()
        async with super().write() as session:
            await self._set_the_clock(session)
            yield session

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.choice((0, 0, 0, 0.001, 0.01, 0.05)))

    async def _set_the_clock(self, session: AsyncSession) -> None:
        if not self.is_sqlite:
            now = str(self._clock.epoch_ms() / 1000)
            connection = await session.connection()
            await connection.execute(text("SELECT set_config('hlink.now', :now, false)"), {"now": now})


def _clock_of_sqlite(clock: Clock) -> Callable[[Any, Any], None]:
    def listen(connection: Any, _record: Any) -> None:
        connection.create_function("julianday", 1, lambda _now: clock.epoch_ms() / 86_400_000 + 2440587.5)
        connection.cursor().execute("PRAGMA synchronous=OFF")  # nobody cuts the power

    return listen


CLOCK_OF_POSTGRESQL = (
    "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
    "$$ SELECT to_timestamp(current_setting('hlink.now')::double precision) $$"
)
"""For a schema that comes before ``pg_catalog`` in the search path."""


class _InPlace:
    """Stands for the queue to a connection's thread: does at once what is put into it."""

    def put_nowait(self, entry: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        future, function = entry
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - it is handed on
            if future is not None:
                future.set_exception(error)
        else:
            if future is not None:
                future.set_result(result)


@contextmanager
def without_threads() -> Iterator[None]:
    """SQLite is spoken to in place, so that what is done next never depends on the machine."""
    thread = SimpleNamespace(start=lambda: None, daemon=True)
    with (
        patch("aiosqlite.core.SimpleQueue", _InPlace),
        patch("aiosqlite.core._TxQueue", _InPlace),
        patch("aiosqlite.core.Thread", lambda **_given: thread),
    ):
        yield
