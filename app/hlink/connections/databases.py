"""Databases: the table a connector names, its columns, rights and keys, against the definition."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
import pymysql
from pymysql.constants import CR

from app.errors import Problem
from app.hlink import catalogue
from app.hlink.connections.outcome import CONNECT_TIMEOUT_S, Check, FoundColumn, Outcome, failed, unreachable
from app.hlink.connections.sessions import Session, Sessions
from app.hlink.tables import fields
from app.hlink.tables.column_types import parse
from stream_jobs.definitions import Column, JdbcConnection, JdbcSink, Table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    """A column as the database has it. ``needed``: an insert that leaves it out fails."""

    name: str
    type: str
    needed: bool


@dataclass(frozen=True)
class _FoundTable:
    columns: Sequence[_Found]
    primary: frozenset[str]
    """The columns of the primary key; empty without one."""
    unique: Sequence[frozenset[str]]
    """The columns of each unique index, the primary key's among them."""
    may_read: bool = True
    may_write: bool = True

    @property
    def key(self) -> list[str]:
        """The columns that a row is found by: of the primary key, else of the only unique index."""
        columns = self.primary or (self.unique[0] if len(self.unique) == 1 else frozenset())
        return [column.name for column in self.columns if column.name in columns]


async def look(sessions: Sessions, table: Table, connection: JdbcConnection) -> Outcome:
    """Whether the database answers and lets the user in, has the table, and has it as it is defined.

    Columns are compared when the definition has any. What cannot be asked from here is no problem.
    """
    kind = kind_of(connection)
    if kind == "oracle":
        return Outcome(())
    parts = urlsplit(connection.url.removeprefix("jdbc:"))
    hosts = [_host(entry, 5432 if kind == "postgresql" else 3306) for entry in parts.netloc.split(",")]
    if reason := await unreachable(hosts):
        return failed("database", _no_database(table, parts.netloc, reason))
    try:
        if kind == "postgresql":
            found = await _look_at_postgresql(sessions, connection)
        else:
            found = await asyncio.to_thread(_look_at_mysql, connection)
    except (psycopg.Error, pymysql.Error) as error:
        return failed("database", _refused(table, connection, parts.netloc, error))
    except _CannotAsk as reason_not:
        logger.info("table %s is not checked before the run: %s", table.name, reason_not)
        return Outcome(())
    answers = Check("database", f"the database at {parts.netloc} lets '{connection.username}' in")
    if found is None:
        return failed("table", _no_table(table, connection), answers)
    there = Check("table", f"table '{connection.table}' has {len(found.columns)} columns")
    compared = [Check("columns", problem=problem) for problem in _compare(table, connection, kind, found)]
    if table.columns and not compared:
        compared.append(Check("columns", "the definition fits the table"))
    shown = [
        FoundColumn(column.name, column.type, _flink_type(kind, column.type), column.name in found.key)
        for column in found.columns
    ]
    return Outcome((answers, there, *compared), columns=shown, key=found.key)


def kind_of(connection: JdbcConnection) -> str:
    """The database's kind: mysql, oracle, postgresql."""
    return next(kind for kind, prefix in fields.JDBC_PREFIXES.items() if connection.url.startswith(prefix))


def _no_database(table: Table, address: str, reason: str) -> Problem:
    return Problem(
        f"no database answers at {address} ({reason})",
        field="connector_url",
        table=table.name,
        remedy="start the database, or correct host and port in connector_url",
    )


def _no_table(table: Table, connection: JdbcConnection) -> Problem:
    return Problem(
        f"table '{connection.table}' does not exist in {_shown(connection)}",
        field="table_name",
        table=table.name,
        remedy="create the table, or correct table_name or connector_url",
    )


class _CannotAsk(Exception):
    """The database's way of logging in is one that our driver does not have."""


def _host(entry: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{entry}")
    return parts.hostname or "", parts.port or default_port


def _shown(connection: JdbcConnection) -> str:
    """The URL without its parameters, which may hold anything."""
    return connection.url.split("?", 1)[0]


def _refused(table: Table, connection: JdbcConnection, address: str, error: Exception) -> Problem:
    """The database's own words; servers do not repeat passwords, and ours is taken out of them all the same."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, pymysql.Error) and len(error.args) > 1:
        lines = [str(error.args[1])]
    words = next((line for line in lines if "FATAL" in line), lines[0] if lines else type(error).__name__)
    words = re.sub(r"^.*?FATAL:\s*", "", words)
    if connection.password.value:
        words = words.replace(connection.password.value, str(connection.password))
    database = any(part in words for part in ('database "', "Unknown database", "to database"))
    return Problem(
        f"the database at {address} refuses: {words}",
        field="connector_url" if database else "connector_password",
        table=table.name,
        remedy="correct the database in connector_url"
        if database
        else "correct connector_username and connector_password",
    )


_POSTGRESQL_COLUMNS = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type,
       attnotnull AND NOT atthasdef AND attidentity = '' AS needed
FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_POSTGRESQL_UNIQUE = """
SELECT ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) AS of,
       indisprimary AS is_primary
FROM pg_index i WHERE indrelid = to_regclass(%s) AND indisunique AND indpred IS NULL AND indexprs IS NULL
"""
_POSTGRESQL_RIGHTS = """
SELECT has_table_privilege(to_regclass(%(table)s), 'SELECT') AS may_read,
       has_table_privilege(to_regclass(%(table)s), 'INSERT') AS may_write
"""


def postgresql_parameters(connection: JdbcConnection, application: str) -> dict[str, Any]:
    """What psycopg connects with; ``application`` is what the database calls the session."""
    parts = urlsplit(connection.url.removeprefix("jdbc:"))
    hosts = [_host(entry, 5432) for entry in parts.netloc.split(",")]
    parameters = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    schema = parameters.get("currentSchema")
    return {
        "host": ",".join(host for host, _ in hosts),
        "port": ",".join(str(port) for _, port in hosts),
        "dbname": unquote(parts.path[1:]),
        "user": connection.username,
        "password": connection.password.value,
        "connect_timeout": int(CONNECT_TIMEOUT_S),
        "application_name": application,
        "sslmode": parameters.get("sslmode", "prefer"),
        "options": f"-csearch_path={schema}" if schema and re.fullmatch(r"[\w,]+", schema) else "",
    }


async def _look_at_postgresql(sessions: Sessions, connection: JdbcConnection) -> _FoundTable | None:
    async def describe(session: Session) -> _FoundTable | None:
        async with session.pipeline():  # one way there and back for all three
            columns = await session.execute(_POSTGRESQL_COLUMNS, [connection.table])
            unique = await session.execute(_POSTGRESQL_UNIQUE, [connection.table])
            rights = await session.execute(_POSTGRESQL_RIGHTS, {"table": connection.table})
            found, indexes, allowed = await columns.fetchall(), await unique.fetchall(), await rights.fetchone()
        if not found:
            return None
        return _FoundTable(
            [_Found(**column) for column in found],
            next((frozenset(row["of"]) for row in indexes if row["is_primary"]), frozenset()),
            [frozenset(row["of"]) for row in indexes],
            **(allowed or {}),
        )

    return await sessions.ask(postgresql_parameters(connection, "hlink-check"), describe)


def _mysql_session(connection: JdbcConnection, host: str, port: int, database: str) -> pymysql.Connection:
    """A session, encrypted when the server can, as MySQL's own driver does it.

    Whose certificate it is, is for the job to judge. Raises pymysql.Error and _CannotAsk.
    """
    encryption = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    encryption.check_hostname = False
    encryption.verify_mode = ssl.CERT_NONE
    for ways in ({"ssl": encryption}, {"ssl_disabled": True}):
        try:
            return pymysql.connect(
                host=host,
                port=port,
                user=connection.username,
                password=connection.password.value,
                database=database,
                connect_timeout=int(CONNECT_TIMEOUT_S),
                read_timeout=int(CONNECT_TIMEOUT_S),
                **ways,
            )
        except pymysql.OperationalError as error:
            if error.args[0] != CR.CR_SSL_CONNECTION_ERROR or "ssl_disabled" in ways:
                raise
        except RuntimeError as error:  # the package "cryptography" is needed for some ways of logging in
            raise _CannotAsk(str(error)) from error
    raise AssertionError("unreachable")


def _look_at_mysql(connection: JdbcConnection) -> _FoundTable | None:
    parts = urlsplit(connection.url.removeprefix("jdbc:"))
    host, port = _host(parts.netloc.split(",")[0], 3306)
    database = unquote(parts.path[1:])
    schema, _, name = connection.table.replace("`", "").rpartition(".")
    session = _mysql_session(connection, host, port, database)
    with session, session.cursor() as cursor:
        where = "WHERE table_schema = %s AND table_name = %s"
        cursor.execute(
            "SELECT column_name, column_type, is_nullable = 'NO' AND column_default IS NULL "
            f"AND extra NOT LIKE '%%auto_increment%%' AND extra NOT LIKE '%%GENERATED%%' "
            f"FROM information_schema.columns {where} ORDER BY ordinal_position",
            [schema or database, name],
        )
        columns = [_Found(str(name), str(kind), bool(needed)) for name, kind, needed in cursor.fetchall()]
        cursor.execute(
            f"SELECT index_name, column_name FROM information_schema.statistics {where} AND non_unique = 0",
            [schema or database, name],
        )
        unique: dict[str, set[str]] = {}
        for index, column in cursor.fetchall():
            unique.setdefault(str(index), set()).add(str(column))
    if not columns:
        return None
    primary = frozenset(unique.get("PRIMARY", ()))
    return _FoundTable(columns, primary, [frozenset(of) for of in unique.values()])


@dataclass(frozen=True)
class _DatabaseTypes:
    source: str
    families: Mapping[str, Mapping[str, str]]
    suggested: Mapping[str, str]
    reads: Mapping[str, Sequence[str]]
    writes: Mapping[str, Mapping[str, Sequence[str]]]


@cache
def database_types() -> _DatabaseTypes:
    """Which of a database's types Flink can read and write as which of its own (``database_types.json``)."""
    return catalogue.load("database_types", _DatabaseTypes)


def _compare(table: Table, connection: JdbcConnection, kind: str, found: _FoundTable) -> list[Problem]:
    """The table as it is defined against the table as the database has it."""
    problems: list[Problem] = []
    writes = isinstance(table.connector, JdbcSink)
    if not (found.may_write if writes else found.may_read):
        problems.append(
            Problem(
                f"user '{connection.username}' may not {'write' if writes else 'read'} table '{connection.table}'",
                field="connector_username",
                table=table.name,
                remedy=f"grant {'INSERT and UPDATE' if writes else 'SELECT'} to the user, or use another one",
            )
        )
    # Flink does not quote names for either database, and both then read them without regard to case.
    present = {column.name.lower(): column for column in found.columns}
    for column in table.columns:
        if column.expression:
            continue
        match = present.get(column.name.lower())
        if match is None:
            problems.append(
                _column_problem(
                    table,
                    column.name,
                    f"table '{connection.table}' has no such column",
                    f"it has: {', '.join(other.name for other in found.columns)}",
                )
            )
        elif fault := _type_fault(column, match, connection, writes):
            problems.append(_column_problem(table, column.name, *fault))
    if writes and table.columns:
        written = {column.name.lower() for column in table.columns}
        problems += [
            _column_problem(
                table,
                column.name,
                f"table '{connection.table}' needs a value for it, and the definition does not write it",
                "add the column to the definition, or give it a default in the database",
            )
            for column in found.columns
            if column.needed and column.name.lower() not in written
        ]
        problems += _key_problems(table, connection, kind, found)
    return problems


def _type_fault(column: Column, match: _Found, connection: JdbcConnection, writes: bool) -> tuple[str, str] | None:
    types, kind = database_types(), kind_of(connection)
    name = "ARRAY" if column.fields else parse(column.type).name
    family = _family(kind, match.type)
    possible = types.writes[kind] if writes else types.reads
    fitting = possible.get(name, ())
    if family in fitting:
        return None
    # MySQL's boolean is a tinyint(1), which is read as a number only when the URL asks for it.
    if match.type.lower() == "tinyint(1)" and "integer" in fitting and "tinyInt1isBit=false" in connection.url:
        return None
    direction = "written to" if writes else "read from"
    others = sorted(other for other, families in possible.items() if family in families)
    return (
        f"a {column.type} cannot be {direction} the database's {match.type}",
        f"use one of: {', '.join(others)}" if others else "cast it in a view of the database, and use the view",
    )


def _family(kind: str, database_type: str) -> str:
    """The family of a type such as ``bigint(20) unsigned``: as it is written, or without its length."""
    if database_type.endswith("[]"):
        return "array"
    families = database_types().families[kind]
    written = database_type.lower()
    bare = re.sub(r"\s*\(.*?\)", "", written)
    return families.get(written) or families.get(bare) or families.get(bare.split(" ")[0]) or written


def _flink_type(kind: str, database_type: str) -> str | None:
    """The Flink type to define a column with, so that it can be read and written; None when there is none."""
    if database_type.endswith("[]"):
        element = _flink_type(kind, database_type.removesuffix("[]"))
        return f"ARRAY<{element}>" if element else None
    suggested = database_types().suggested.get(_family(kind, database_type))
    size = re.search(r"\((\d+)(?:\s*,\s*(\d+))?\)", database_type)
    if suggested == "DECIMAL":
        if "unsigned" in database_type.lower() and "int" in database_type.lower():
            return "DECIMAL(20, 0)"
        return f"DECIMAL({size[1]}, {size[2] or 0})" if size else "DECIMAL(38, 18)"
    return suggested


def _key_problems(table: Table, connection: JdbcConnection, kind: str, found: _FoundTable) -> list[Problem]:
    if not table.primary_key:
        return []
    key = frozenset(name.lower() for name in table.primary_key)
    unique = [frozenset(name.lower() for name in columns) for columns in found.unique]
    # PostgreSQL's ON CONFLICT names the key's columns; MySQL's ON DUPLICATE KEY takes any unique index it hits.
    if key in unique or (kind == "mysql" and any(columns <= key for columns in unique)):
        return []
    return [
        Problem(
            f"table '{connection.table}' has no primary key or unique index on {', '.join(table.primary_key)}",
            field="primary_key",
            table=table.name,
            remedy="add one to the table, or correct primary_key: an upsert finds its row by it",
        )
    ]


def _column_problem(table: Table, column: str, message: str, remedy: str) -> Problem:
    return Problem(message, field=f"column {column}", table=table.name, remedy=remedy)
