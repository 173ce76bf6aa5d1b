"""The service's own database: SQLite (WAL) by default, PostgreSQL by URL; the same code on both.

Times are epoch milliseconds by the *database's* clock (:class:`now_ms`), so that replicas whose own clocks differ
agree on what is late.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import BigInteger, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import DatabaseFailure
from app.identity import LOCAL, caller

BUSY_TIMEOUT_S = 15.0
"""How long a writer waits for its turn on SQLite, which has one writer at a time."""

_WRITES = "hlink_writes"


class now_ms(FunctionElement[int]):
    """The database's clock: milliseconds since 1970, the moment that the statement runs."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _now_ms_sqlite(element: now_ms, compiler: SQLCompiler, **kw: Any) -> str:
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


@compiles(now_ms, "postgresql")
def _now_ms_postgresql(element: now_ms, compiler: SQLCompiler, **kw: Any) -> str:
    # now() would be the start of the transaction: a lease computed from it could be over before it is committed.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


class Database:
    """Connections and transactions.

    ``async with database.read() as session`` reads; ``async with database.write() as session`` changes, commits at
    its end, and rolls back when the block raises. Objects stay usable after either has ended.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url) if self.is_sqlite else _engine(url, pool_pre_ping=True)
        self._writing_engine = self.engine.execution_options(**{_WRITES: True})
        # SQLite's own waiting is polling and starves; within the process writers queue up in order instead.
        self._turn = asyncio.Lock() if self.is_sqlite else None

    async def create(self) -> None:
        """Make SQLite's file, in WAL mode, which it keeps; on PostgreSQL the database is there already.

        Raises ``sqlite3.OperationalError`` when the file cannot be made.
        """
        if self.is_sqlite and self.url.database:
            await asyncio.to_thread(_create_sqlite, Path(self.url.database))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session whose changes are never committed."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction. On SQLite it is a writer from its first statement on, so that it never fails half way.

        Raises :class:`~app.errors.DatabaseFailure` when another writer of this process does not finish in time,
        as when a transaction is opened inside another one.
        """
        async with (
            self._my_turn() if self._turn else nullcontext(),
            AsyncSession(self._writing_engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @asynccontextmanager
    async def connect_to_write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction as :meth:`write` has it, beneath the session: for what changes the schema."""
        async with self._writing_engine.begin() as connection:
            yield connection

    async def ping(self) -> int:
        """The database's clock in epoch milliseconds; raises ``SQLAlchemyError`` when it does not answer."""
        async with self.read() as session:
            return (await session.exec(select(now_ms()))).one()

    async def close(self) -> None:
        await self.engine.dispose()

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        assert self._turn is not None
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_S):
                await self._turn.acquire()
        except TimeoutError:
            raise DatabaseFailure(f"No turn to write to the database within {BUSY_TIMEOUT_S:g} s") from None
        try:
            yield
        finally:
            self._turn.release()


def _engine(url: URL, **options: Any) -> AsyncEngine:
    # A statement's parameters may be passwords: errors and logs must not repeat them.
    return create_async_engine(url, hide_parameters=True, **options)


def _create_sqlite(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # Of several who change the mode at once all but one are refused, and SQLite does not let them wait.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)


def _sqlite_engine(url: URL) -> AsyncEngine:
    engine = _engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # The driver's own idea of when to begin is switched off: it begins late, and as a reader.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            # A run's id must survive a power cut once it is committed: the submission follows at once.
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


class Audited(SQLModel):
    """The columns that every published record has (wire: createBy, createTime, modifyBy, modifyTime, delFlag).

    Who created and modified it is the caller of the request (:data:`app.identity.caller`): nobody sets it.
    """

    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}  # times are the database's: fetch them back

    create_by: str = Field(default="", max_length=128)
    create_time: int | None = Field(
        default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()}
    )
    modify_by: str = Field(default="", max_length=128)
    modify_time: int | None = Field(
        default=None,
        nullable=False,
        sa_type=BigInteger,
        sa_column_kwargs={"default": now_ms(), "onupdate": now_ms()},
    )
    del_flag: int = 1
    """1 in use, 0 deleted."""


@event.listens_for(Audited, "before_insert", propagate=True)
def _note_creator(_mapper: Any, _connection: Any, row: Audited) -> None:
    who = caller.get()
    if who and (who != LOCAL or not row.create_by):  # a name that a token stands for is better than any claim
        row.create_by = who
    row.modify_by = row.modify_by or row.create_by


@event.listens_for(Audited, "before_update", propagate=True)
def _note_modifier(_mapper: Any, _connection: Any, row: Audited) -> None:
    row.modify_by = caller.get() or row.modify_by
