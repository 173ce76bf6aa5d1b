"""Rows out of a table of PostgreSQL, by COPY: one statement, one moment, and never more than a row in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from app.hlink.extracts.orders import Database, Order, Selection
from app.hlink.extracts.rows import Refused, Rows

_COLUMNS = """
SELECT a.attname, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL), t.typcategory, t.typtype
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_TABLE = "SELECT to_regclass(%s)::text, (SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s))"


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    type: str
    category: str
    kind: str

    @property
    def expression(self) -> sql.Composable:
        """Its text: times with their zone in UTC, bytes as Base64, arrays and records as JSON."""
        name = sql.Identifier(self.name)
        if self.type == "timestamp with time zone":
            return sql.SQL("to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").format(name)
        if self.type == "bytea":
            return sql.SQL("translate(encode({}, 'base64'), E'\\n', '')").format(name)
        if self.category == "A" or self.kind == "c":
            return sql.SQL("to_json({})::text").format(name)
        return sql.SQL("{}::text").format(name)


def copy(order: Order, source: Database, rows: Rows) -> None:
    """Copy the order's rows. Raises :class:`Refused`, also for what the database says."""
    try:
        _copy(order, source, rows)
    except psycopg.Error as error:
        raise Refused(f"the database of '{order.name}' says: {' '.join(str(error).split())}") from error


def _copy(order: Order, source: Database, rows: Rows) -> None:
    with psycopg.connect(**source.parameters) as session:
        session.read_only = True
        session.execute("SET client_encoding = 'UTF8'")
        session.execute("SET datestyle = 'ISO'")
        session.execute("SET extra_float_digits = 1")  # doubles with all their digits
        known = [_Column(*one) for one in session.execute(_COLUMNS, [source.table])]
        found = session.execute(_TABLE, [source.table, source.table]).fetchone()
        if not known or found is None:
            raise Refused(
                f"table '{source.table}' does not exist, or '{source.username}' may not see it: create it, or "
                "correct table_name"
            )
        table, estimate = found
        columns = _chosen(order, source, known)
        rows.names([name for name, _ in columns])
        with session.cursor() as cursor, cursor.copy(_statement(order, table, columns, known)) as lines:
            whole = _expected(order.selection, estimate)
            for line in lines:
                # A row of one column that is missing would be a blank line, which is no row.
                rows.add_line(b'""\n' if line == b"\n" else bytes(line))
                rows.tell(None if whole is None else min(rows.number / whole, 0.99))


def _expected(wanted: Selection, estimate: float) -> float | None:
    """How many rows there may be, where that can be told; the database's estimate is below zero where it has none."""
    if wanted.from_ms is not None or wanted.to_ms is not None or estimate <= 0:
        return None
    return estimate if wanted.most_rows is None else min(estimate, wanted.most_rows)


def _statement(
    order: Order, table: str, columns: Sequence[tuple[str, _Column]], known: Sequence[_Column]
) -> sql.Composed:
    wanted = order.selection
    conditions = [
        sql.SQL("{} {} {}").format(_time(order, known), sql.SQL(compare), sql.Literal(_moment(at)))
        for compare, at in ((">=", wanted.from_ms), ("<", wanted.to_ms))
        if at is not None
    ]
    return sql.SQL("COPY (SELECT {} FROM {}{}{}) TO STDOUT WITH (FORMAT csv)").format(
        sql.SQL(", ").join(column.expression for _, column in columns),
        sql.SQL(table),  # PostgreSQL's own quoted name of it
        sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL(""),
        sql.SQL(" LIMIT {}").format(sql.Literal(wanted.most_rows)) if wanted.most_rows is not None else sql.SQL(""),
    )


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _time(order: Order, known: Sequence[_Column]) -> sql.Composable:
    """The column of times as something that moments can be compared with."""
    name = order.selection.time_column
    column = _find(known, name)
    if column is None:
        raise Refused(f"there is no column '{name}' to choose times by: it has {_names(known)}")
    match column.type:
        case "timestamp with time zone":
            return sql.Identifier(column.name)
        case "timestamp without time zone" | "date":
            return sql.SQL("({}::timestamp AT TIME ZONE 'UTC')").format(sql.Identifier(column.name))
    raise Refused(f"the column '{name}' has the type {column.type}, which is no time: name a column of times")


def _chosen(order: Order, source: Database, known: Sequence[_Column]) -> list[tuple[str, _Column]]:
    """The columns to copy, each with what the file calls it; Flink names them without regard to case."""
    if not order.leaves:
        return [(column.name, column) for column in known]
    chosen = []
    for leaf in order.leaves:
        column = _find(known, leaf.name)
        if column is None:
            raise Refused(f"table '{source.table}' has no column '{leaf.name}': it has {_names(known)}")
        chosen.append((leaf.name, column))
    return chosen


def _find(known: Sequence[_Column], name: str) -> _Column | None:
    exact = next((column for column in known if column.name == name), None)
    return exact or next((column for column in known if column.name.lower() == name.lower()), None)


def _names(known: Sequence[_Column]) -> str:
    return ", ".join(column.name for column in known[:20])
