"""Identifiers: 64-bit columns, values below 2^53 so that JavaScript reads them exactly; rising with time.

``milliseconds since 2025 (41 bits) | node (5 bits) | counter (7 bits)``: 69 years, 32 replicas, 128 ids a
millisecond and replica.

Why they are unique over replicas: a node number is *leased* in the database, and an id's time always lies inside the
lease under which it was made (the generator refuses otherwise). Leases of one number do not overlap, because their
times are the database's. The generator's clock is the database's time at the claim plus this process's monotonic
clock, so that nobody's wall clock matters.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import BigInteger, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel, col, select

from app.database import Database, now_ms
from app.errors import DatabaseFailure

logger = logging.getLogger(__name__)

EPOCH_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
NODE_BITS = 5
COUNTER_BITS = 7
NODES = 1 << NODE_BITS
_COUNTS = 1 << COUNTER_BITS

LEASE_MS = 60_000


class Node(SQLModel, table=True):
    """Who may use a node number, and until when (epoch ms, the database's clock)."""

    __tablename__ = "node"

    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    owner: str = Field(max_length=64)
    lease_until: int = Field(sa_type=BigInteger)


class LeaseOver(DatabaseFailure):
    """No id can be made because this process's lease on its node number ended and was not renewed."""


@dataclass
class Generator:
    """Makes ids for one node number until ``lease_until``. Not for several threads at once."""

    node: int
    lease_until: int
    clock: Callable[[], int]
    """Epoch milliseconds that never go back."""
    _last: int = 0

    def __call__(self) -> int:
        now = self.clock()
        if now >= self.lease_until:
            raise LeaseOver(f"The lease on node number {self.node} ended: the database has not been reachable")
        # A full millisecond borrows from the next one: ids stay unique and rising, and nobody waits.
        number = max((now - EPOCH_MS) * _COUNTS, self._last + 1)
        moment, count = divmod(number, _COUNTS)
        if moment + EPOCH_MS >= self.lease_until:
            raise LeaseOver(f"Node number {self.node} made ids faster than its lease lasts")
        self._last = number
        return ((moment << NODE_BITS) | self.node) << COUNTER_BITS | count

    @property
    def reached(self) -> int:
        """The first millisecond after all ids made so far."""
        return self._last // _COUNTS + EPOCH_MS + 1


def first_id_of(epoch_ms: int) -> int:
    """Ids that are made at this moment or later are not below it; those made before are."""
    return max(0, epoch_ms - EPOCH_MS) << (NODE_BITS + COUNTER_BITS)


def clock_from(epoch_ms: int) -> Callable[[], int]:
    """A clock that shows ``epoch_ms`` now and goes on with this process's monotonic time."""
    began = time.monotonic_ns()
    return lambda: epoch_ms + (time.monotonic_ns() - began) // 1_000_000


class NodeLease:
    """This process's node number; ``async with NodeLease(database).held()`` while ids are needed."""

    def __init__(self, database: Database, owner: str | None = None) -> None:
        self._database = database
        self.owner = owner or secrets.token_hex(8)
        self.generator: Generator | None = None

    async def claim(self) -> None:
        """Take the lowest free number; :func:`new_id` uses it from now on.

        Raises :class:`~app.errors.DatabaseFailure` when all numbers are taken.
        """
        free = select(Node.number).where(col(Node.lease_until) <= now_ms()).order_by(col(Node.number)).limit(1)
        for _ in range(NODES):
            async with self._database.write() as session:
                taken = await session.exec(
                    update(Node)
                    .where(col(Node.number) == free.scalar_subquery(), col(Node.lease_until) <= now_ms())
                    .values(owner=self.owner, lease_until=now_ms() + LEASE_MS)
                    .returning(col(Node.number), col(Node.lease_until))
                    .execution_options(synchronize_session=False)
                )
                row = taken.first()
                if row is None and (await session.exec(free)).first() is None:
                    raise DatabaseFailure(f"All {NODES} node numbers are taken: too many replicas on one database")
            if row is not None:  # otherwise another replica took the same number first
                number, until = row
                self.generator = Generator(number, until, clock_from(until - LEASE_MS))
                _install(self.generator)
                return
        raise DatabaseFailure("No node number could be claimed: other replicas were faster each time")

    async def renew(self) -> None:
        """Prolong the lease; when somebody else has the number meanwhile, claim another one."""
        if self.generator is None:
            return await self.claim()
        async with self._database.write() as session:
            renewed = await session.exec(
                update(Node)
                .where(col(Node.number) == self.generator.node, col(Node.owner) == self.owner)
                .values(lease_until=now_ms() + LEASE_MS)
                .returning(col(Node.lease_until))
                .execution_options(synchronize_session=False)
            )
            row = renewed.first()
        if row is None:
            return await self.claim()
        self.generator.lease_until = row[0]
        return None

    async def release(self) -> None:
        """Give the number back. It stays unused for as long as the ids made under it reach into the future."""
        if self.generator is None:
            return
        async with self._database.write() as session:
            await session.exec(
                update(Node)
                .where(col(Node.number) == self.generator.node, col(Node.owner) == self.owner)
                .values(owner="", lease_until=max(self.generator.reached, 0))
                .execution_options(synchronize_session=False)
            )
        self.generator.lease_until = 0
        self.generator = None

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Claim a number, keep renewing it, and release it at the end of the block."""
        await self.claim()
        renewing = asyncio.create_task(self._keep(), name="node lease")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
            try:
                await self.release()
            except (SQLAlchemyError, DatabaseFailure):
                logger.warning("the node number was not given back; its lease ends within a minute")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LEASE_MS / 1000 / 6)
            try:
                await self.renew()
            except (SQLAlchemyError, DatabaseFailure) as error:
                logger.warning("the lease on the node number was not renewed: %s; trying again", type(error).__name__)


_generator: Generator | None = None


def _install(generator: Generator) -> None:
    global _generator
    _generator = generator


def new_id() -> int:
    """The next id. Raises ``RuntimeError`` before a :class:`NodeLease` was claimed, :class:`LeaseOver` after it ended.

    The generator is the process's, not a parameter, because models take it as their default.
    """
    if _generator is None:
        raise RuntimeError("No node number claimed: ids are made inside 'async with NodeLease(database).held()'")
    return _generator()
