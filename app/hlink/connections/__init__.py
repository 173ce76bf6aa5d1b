"""Checks of the outside before a run is submitted: brokers, topics, databases, tables, columns, addresses.

Flink sees a wrong password or a missing topic only when the job runs, and then restarts it for ever with a message
that misleads. What can be known beforehand is asked here, concurrently and within bounded time. No message repeats a
password.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from app.errors import Problem
from app.hlink.connections import addresses, databases
from app.hlink.connections.kafka import Broker, Brokers
from app.hlink.connections.outcome import TIMEOUT_S, Check, FoundColumn, Outcome, failed
from app.hlink.connections.sessions import Sessions
from stream_jobs.definitions import (
    HbaseSink,
    HttpLookup,
    JdbcLookup,
    JdbcSink,
    KafkaLookup,
    KafkaSink,
    KafkaSource,
    PreviewSink,
    RedisLookup,
    Table,
)
from stream_jobs.sql.declaration import dead_letter_table

PART = "hlink.outside"
"""The part of the service that holds its :class:`Connections`."""

__all__ = ["PART", "TIMEOUT_S", "Check", "Connections", "FoundColumn", "Outcome", "unchecked"]


class Connections:
    """Checks tables against what they connect to. One object for the service; :meth:`close` it at the end.

    Kafka clients stay connected between checks, PostgreSQL sessions for a moment; MySQL is connected to for each.
    """

    def __init__(self) -> None:
        self._brokers = Brokers()
        self._sessions = Sessions()

    async def look(self, table: Table) -> Outcome:
        """All that can be seen of what the table connects to, within ``TIMEOUT_S`` seconds."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._look(table)
        except TimeoutError:
            return failed(
                "connection",
                Problem(
                    f"what it connects to did not answer within {TIMEOUT_S:g} s",
                    table=table.name,
                    remedy="check that it is up and not overloaded, then try again",
                ),
            )

    async def check(self, table: Table) -> list[Problem]:
        """What would keep a run of this table from working; empty when nothing was found.

        What cannot be checked from here is no problem; see :func:`unchecked`.
        """
        return (await self.look(table)).problems

    async def check_all(self, tables: Sequence[Table]) -> list[Problem]:
        """The problems of all tables, in the tables' order. They are checked at once; bounded as one check is."""
        found = await asyncio.gather(*map(self.check, tables))
        return [problem for problems in found for problem in problems]

    async def close(self) -> None:
        """Close the connections to brokers and databases."""
        await self._brokers.close()
        await self._sessions.close()

    async def _look(self, table: Table) -> Outcome:
        match table.connector:
            case KafkaSource() | KafkaSink() | KafkaLookup() as connector:
                found = await self._brokers.look(table, connector)
                return found if found.problems else await self._with_dead_letters(table, found)
            case JdbcLookup(connection=connection) | JdbcSink(connection=connection):
                return await databases.look(self._sessions, table, connection)
            case HttpLookup() as connector:
                return await addresses.look_at_url(table, connector)
            case RedisLookup() | HbaseSink() as connector:
                return await addresses.look_at_port(table, connector)
            case PreviewSink():
                return Outcome(())

    async def _with_dead_letters(self, table: Table, found: Outcome) -> Outcome:
        letters = dead_letter_table(table)
        if letters is None or not isinstance(letters.connector, KafkaSink):
            return found
        other = await self._brokers.look(letters, letters.connector)
        lacking = [
            replace(check, problem=replace(check.problem, table=table.name, field="dead_letter_topic"))
            for check in other.checks
            if check.problem is not None
        ]
        return replace(found, checks=(*found.checks, *lacking))


def unchecked(table: Table) -> str | None:
    """Why a table's connection is not, or not fully, checked before a run; None when it is."""
    match table.connector:
        case JdbcLookup(connection=connection) | JdbcSink(connection=connection) if (
            databases.kind_of(connection) == "oracle"
        ):
            return f"table {table.name}: Oracle is not checked before the run, its driver for Python is not installed"
        case KafkaSource() | KafkaSink() | KafkaLookup() as connector if not Broker.of(connector).can_be_asked:
            return (
                f"table {table.name}: only the broker's address is checked before the run, "
                "because its client properties name key stores or mechanisms that only Flink's client can use"
            )
        case RedisLookup() | HbaseSink():
            return f"table {table.name}: only its address is checked before the run"
    return None
