"""How a stored table is reached: an order to copy its rows, checked as far as its definition tells."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import InvalidInput, Problem
from app.hlink.connections.databases import kind_of, postgresql_parameters
from app.hlink.connections.kafka import Broker
from app.hlink.extracts.orders import Database, Leaf, Order, Selection, Topic
from app.hlink.tables.definition import to_connection
from app.hlink.tables.service import find
from stream_jobs.definitions import (
    Column,
    JdbcConnection,
    JdbcLookup,
    JdbcSink,
    KafkaLookup,
    KafkaSink,
    KafkaSource,
    OnError,
    Secret,
    Table,
    TimeFormat,
)
from stream_jobs.sql import types
from stream_jobs.sql.types import DataType

_MOST_NAMED = 20
_CLIENT = "hlink-extract"
"""What brokers and databases call who copies."""


async def order_of(session: AsyncSession, table_id: int, selection: Selection) -> Order:
    """What it takes to copy rows of the stored table.

    Raises:
        NotFound: there is no such table.
        InvalidInput: it is of a kind that is not copied, its definition has faults, or the selection does not fit it.
    """
    stored = await find(session, table_id)
    table = to_connection(stored)
    if selection.from_ms is not None and selection.to_ms is not None and selection.from_ms >= selection.to_ms:
        raise InvalidInput(Problem("it is not after fromTime", field="toTime", remedy="give a later time, or none"))
    leaves = [leaf for column in table.columns if _is_carried(column) for leaf in _leaves(column)]
    source: Database | Topic
    match table.connector:
        case JdbcSink(connection=connection) | JdbcLookup(connection=connection):
            selection = _of_database(table, connection, selection)
            source = Database(connection.table, connection.username, postgresql_parameters(connection, _CLIENT))
            secrets = [connection.password.value]
        case KafkaSource() | KafkaSink() | KafkaLookup() as connector:
            source = _topic(table, connector, selection, leaves)
            secrets = [one.value for one in connector.properties.values() if isinstance(one, Secret)]
        case _:
            raise _not_copied(table, stored.kind)
    return Order(table.name, source, selection, _chosen(table, leaves, selection.columns), secrets)


def _not_copied(table: Table, kind: str) -> InvalidInput:
    return InvalidInput(
        Problem(
            f"rows are copied out of PostgreSQL's tables and Kafka's topics, and '{table.name}' is of the kind {kind}",
            field="tableId",
            remedy="choose another table, or upload the rows as a file",
        )
    )


def _of_database(table: Table, connection: JdbcConnection, selection: Selection) -> Selection:
    if (kind := kind_of(connection)) != "postgresql":
        raise _not_copied(table, kind)
    if selection.from_ms is None and selection.to_ms is None:
        return selection
    times = [column.name for column in table.columns if "TIMESTAMP" in column.type or column.type.startswith("DATE")]
    if not selection.time_column and len(times) == 1:
        return replace(selection, time_column=times[0])
    if not selection.time_column:
        there = f"it has {', '.join(times[:_MOST_NAMED])}" if times else "its definition names none"
        raise InvalidInput(
            Problem(
                f"'{table.name}' is a table of a database, and it is not said which column the times are of: {there}",
                field="timeColumn",
                remedy="name a column of times, or leave fromTime and toTime out",
            )
        )
    return selection


def _topic(
    table: Table, connector: KafkaSource | KafkaSink | KafkaLookup, selection: Selection, leaves: Sequence[Leaf]
) -> Topic:
    if selection.time_column:
        raise InvalidInput(
            Problem(
                f"'{table.name}' is a topic: fromTime and toTime are about the times of its messages",
                field="timeColumn",
                remedy="leave it out",
            )
        )
    if not leaves:
        raise InvalidInput(
            Problem(
                f"the definition of '{table.name}' has no columns that are in order",
                field="tableId",
                remedy="correct the table's columns: they say what its messages have",
            )
        )
    broker = Broker.of(connector)
    if not broker.can_be_asked:
        raise InvalidInput(
            Problem(
                f"the broker {connector.bootstrap_servers} cannot be read from here: the client properties of "
                f"'{table.name}' name key stores or mechanisms that only Flink's client can use",
                field="tableId",
                remedy="have a job write the rows to a table of PostgreSQL, and copy that",
            )
        )
    may_skip = isinstance(connector, KafkaSource) and connector.on_error is not OnError.FAIL
    return Topic(connector.topic, broker.servers, connector.format, may_skip, table, broker.consumer_options(_CLIENT))


def _chosen(table: Table, leaves: Sequence[Leaf], names: Sequence[str]) -> Sequence[Leaf]:
    """The columns of these names, in the names' order; all without any."""
    if not names:
        return leaves
    if not leaves:  # a database's table whose definition has none: it is seen there
        return [Leaf((name,), DataType("STRING")) for name in names]
    chosen: dict[str, Leaf] = {}
    for name in names:
        found = [leaf for leaf in leaves if leaf.name == name or leaf.name.startswith(f"{name}.")]
        if not found:
            known = [leaf.name for leaf in leaves]
            near = difflib.get_close_matches(name, known, 1)
            raise InvalidInput(
                Problem(
                    f"'{table.name}' has no column {name!r}",
                    field="columns",
                    remedy=f"is {near[0]!r} meant?" if near else f"it has {', '.join(known[:_MOST_NAMED])}",
                )
            )
        chosen.update((leaf.name, leaf) for leaf in found)
    return list(chosen.values())


def _is_carried(column: Column) -> bool:
    return not column.expression and not column.metadata


def _leaves(column: Column, above: tuple[str, ...] = ()) -> Iterator[Leaf]:
    path = (*above, column.name)
    if column.type == "ROW" and column.fields:
        for field in column.fields:
            yield from _leaves(field, path)
    else:
        yield from _leaves_of_type(types.of_column(column), path, column.time)


def _leaves_of_type(kind: DataType, path: tuple[str, ...], time: TimeFormat | None) -> Iterator[Leaf]:
    if kind.name == "ROW":
        for name, element in zip(kind.field_names, kind.elements, strict=True):
            yield from _leaves_of_type(element, (*path, name), time)
    else:
        yield Leaf(path, kind, time)
