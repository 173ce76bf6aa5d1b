"""Checks of the outside before a run is submitted: brokers, topics, databases, tables, columns.

Flink sees a wrong password or a missing topic only when the job runs, and then restarts it for ever with a message
that misleads. What can be known beforehand is asked here, concurrently and within bounded time. No message repeats a
password.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
import pymysql
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from psycopg.rows import dict_row

from app.errors import Problem
from app.hlink import catalogue
from app.hlink.tables import fields
from app.hlink.tables.column_types import parse
from stream_jobs.definitions import (
    Column,
    JdbcConnection,
    JdbcLookup,
    JdbcSink,
    KafkaSink,
    KafkaSource,
    Secret,
    Table,
)
from stream_jobs.sql.declaration import dead_letter_table

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""The longest the check of all of a job's tables may take."""
CONNECT_TIMEOUT_S = 3.0
"""The longest that one broker or database may take to answer."""

_UNKNOWN_TOPIC, _NOT_AUTHORISED = 3, 29
_SASL = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Connections:
    """Checks tables against what they connect to. One object for the service; :meth:`close` it at the end.

    Kafka clients stay connected between checks (a warm check takes a few milliseconds); database connections are
    opened for each check.
    """

    def __init__(self) -> None:
        self._kafka: dict[Broker, KafkaAdminClient] = {}

    async def check(self, table: Table) -> list[Problem]:
        """What would keep a run of this table from working; empty when nothing was found.

        Takes at most ``TIMEOUT_S`` seconds. What cannot be checked from here is no problem; see :func:`unchecked`.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                match table.connector:
                    case KafkaSource() | KafkaSink() as connector:
                        found = await self._check_kafka(table, connector)
                        return found or await self._check_dead_letters(table)
                    case JdbcLookup(connection=connection) | JdbcSink(connection=connection):
                        return await _check_jdbc(table, connection)
        except TimeoutError:
            return [
                Problem(
                    f"what it connects to did not answer within {TIMEOUT_S:g} s",
                    table=table.name,
                    remedy="check that it is up and not overloaded, then try again",
                )
            ]

    async def check_all(self, tables: Sequence[Table]) -> list[Problem]:
        """The problems of all tables, in the tables' order. They are checked at once; bounded as one check is."""
        found = await asyncio.gather(*map(self.check, tables))
        return [problem for problems in found for problem in problems]

    async def close(self) -> None:
        """Close the connections to the brokers."""
        clients, self._kafka = list(self._kafka.values()), {}
        for client in clients:
            await asyncio.to_thread(client.close)

    async def _check_kafka(self, table: Table, connector: KafkaSource | KafkaSink) -> list[Problem]:
        servers = connector.bootstrap_servers
        broker = Broker.of(connector)
        # Asked first, also with a client at hand: that one would try for seconds to reach a broker that is down.
        if reason := await unreachable(fields.brokers(servers)):
            return [_no_broker(table, servers, reason)]
        if not broker.can_be_asked:
            return []
        try:
            topic = await asyncio.to_thread(self._describe, broker, connector.topic)
        except KafkaError as error:
            return [_no_broker(table, servers, kafka_reason(error))]
        if topic["error_code"] == _NOT_AUTHORISED:
            return [
                Problem(
                    f"the broker {servers} refuses to show topic '{connector.topic}'",
                    field="connector_topic",
                    table=table.name,
                    remedy="let the user of the client properties describe and read or write the topic",
                )
            ]
        if topic["error_code"] == _UNKNOWN_TOPIC:
            return [
                Problem(
                    f"topic '{connector.topic}' does not exist on broker {servers}",
                    field="connector_topic",
                    table=table.name,
                    remedy="create the topic, or correct connector_topic or bootstrap_servers",
                )
            ]
        known = {partition["partition_index"] for partition in topic["partitions"]}
        wanted = {partition for partition, _ in getattr(connector, "startup_offsets", ())}
        return [
            Problem(
                f"topic '{connector.topic}' has no partition {partition}, it has {len(known)}",
                field="partition_offset",
                table=table.name,
                remedy=f"give offsets of the partitions 0 to {len(known) - 1}",
            )
            for partition in sorted(wanted - known)
        ]

    async def _check_dead_letters(self, table: Table) -> list[Problem]:
        letters = dead_letter_table(table)
        if letters is None or not isinstance(letters.connector, KafkaSink):
            return []
        problems = await self._check_kafka(letters, letters.connector)
        return [replace(problem, table=table.name, field="dead_letter_topic") for problem in problems]

    def _describe(self, broker: Broker, topic: str) -> Mapping:  # type: ignore[type-arg]
        """Kafka's metadata of one topic. Runs in a thread; never lets the broker create the topic."""
        client = self._kafka.get(broker)
        if client is not None:
            try:
                return _described(client, topic)
            except (KafkaError, RuntimeError):
                # The broker was restarted since, or another check has closed this client (a RuntimeError to the
                # library): once more with a new one.
                self._kafka.pop(broker, None)
                client.close()
        client = broker.connect()
        try:
            described = _described(client, topic)
        except KafkaError:
            client.close()
            raise
        kept = self._kafka.setdefault(broker, client)
        if kept is not client:  # another check connected meanwhile
            client.close()
        return described


def unchecked(table: Table) -> str | None:
    """Why a table's connection is not, or not fully, checked before a run; None when it is."""
    match table.connector:
        case JdbcLookup(connection=connection) | JdbcSink(connection=connection) if _kind(connection) == "oracle":
            return f"table {table.name}: Oracle is not checked before the run, its driver for Python is not installed"
        case KafkaSource() | KafkaSink() as connector if not Broker.of(connector).can_be_asked:
            return (
                f"table {table.name}: only the broker's address is checked before the run, "
                "because its client properties name key stores or mechanisms that only Flink's client can use"
            )
    return None


@dataclass(frozen=True)
class Broker:
    """A Kafka cluster and how to be let in."""

    servers: str
    protocol: str = "PLAINTEXT"
    mechanism: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, connector: KafkaSource | KafkaSink) -> Broker:
        given = {
            key: value.value if isinstance(value, Secret) else value for key, value in connector.properties.items()
        }
        protocol = given.get("security.protocol", "PLAINTEXT").upper()
        if protocol == "PLAINTEXT":
            return cls(connector.bootstrap_servers)
        login = {
            name: match[2] if (match := re.search(rf"\b{name}\s*=\s*([\"'])(.*?)\1", jaas)) else ""
            for jaas in (given.get("sasl.jaas.config", ""),)
            for name in ("username", "password")
        }
        mechanism = given.get("sasl.mechanism", "GSSAPI").upper()
        return cls(connector.bootstrap_servers, protocol, mechanism, login["username"], login["password"])

    @property
    def can_be_asked(self) -> bool:
        """Whether our client can be what Flink's will be. It reads no Java key stores."""
        if self.protocol == "PLAINTEXT":
            return True
        return self.protocol == "SASL_PLAINTEXT" and self.mechanism in _SASL and bool(self.user)

    def connect(self) -> KafkaAdminClient:
        """A connected client. Raises KafkaError. Blocks for up to ``CONNECT_TIMEOUT_S`` seconds."""
        opened: list[KafkaNetClient] = []

        def net_client(**options: object) -> KafkaNetClient:
            opened.append(KafkaNetClient(**options))
            return opened[-1]

        milliseconds = int(CONNECT_TIMEOUT_S * 1000)
        try:
            return KafkaAdminClient(
                bootstrap_servers=self.servers.split(","),
                bootstrap_timeout_ms=milliseconds,
                request_timeout_ms=milliseconds,
                client_id="hlink-check",
                kafka_client=net_client,
                **self._login(),
            )
        except KafkaError:
            # The client starts its thread before it connects, and does not end it when that fails.
            for client in opened:
                client.close()
                client._manager._net.stop()
            raise

    def consumer(self) -> KafkaConsumer:
        """A consumer that belongs to no group. Raises KafkaError. Blocks as :meth:`connect`."""
        milliseconds = int(CONNECT_TIMEOUT_S * 1000)
        return KafkaConsumer(
            bootstrap_servers=self.servers.split(","),
            client_id="hlink-sample",
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=milliseconds,
            request_timeout_ms=milliseconds,
            **self._login(),
        )

    def _login(self) -> dict[str, str]:
        if self.protocol == "PLAINTEXT":
            return {}
        return {
            "security_protocol": self.protocol,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.user,
            "sasl_plain_password": self.password,
        }


def _described(client: KafkaAdminClient, topic: str) -> Mapping:  # type: ignore[type-arg]
    (described,) = client.describe_topics([topic])
    found: Mapping = described  # type: ignore[type-arg]
    return found


def _no_broker(table: Table, servers: str, reason: str) -> Problem:
    return Problem(
        f"no Kafka broker answers at {servers} ({reason})",
        field="bootstrap_servers",
        table=table.name,
        remedy="start the broker, or correct bootstrap_servers",
    )


def kafka_reason(error: KafkaError) -> str:
    text = str(error)
    return "what answers there is not a Kafka broker, or it refuses the client" if "bootstrap" in text else text


async def unreachable(addresses: Sequence[tuple[str, int]]) -> str | None:
    """Why none of the addresses takes a connection; None when one does."""
    outcomes = await asyncio.gather(*(_refusal(host, port) for host, port in addresses))
    return None if None in outcomes else outcomes[0]


async def _refusal(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no connection within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        return {111: "connection refused"}.get(error.errno or 0, error.strerror or str(error))
    writer.close()
    return None


# Databases


@dataclass(frozen=True)
class _Found:
    """A column as the database has it. ``needed``: an insert that leaves it out fails."""

    name: str
    type: str
    needed: bool


@dataclass(frozen=True)
class _FoundTable:
    columns: Sequence[_Found]
    unique: Sequence[frozenset[str]]
    """The columns of each unique index."""
    may_read: bool = True
    may_write: bool = True


async def _check_jdbc(table: Table, connection: JdbcConnection) -> list[Problem]:
    kind = _kind(connection)
    if kind == "oracle":
        return []
    parts = urlsplit(connection.url.removeprefix("jdbc:"))
    hosts = [_host(entry, 5432 if kind == "postgresql" else 3306) for entry in parts.netloc.split(",")]
    if reason := await unreachable(hosts):
        return [
            Problem(
                f"no database answers at {parts.netloc} ({reason})",
                field="connector_url",
                table=table.name,
                remedy="start the database, or correct host and port in connector_url",
            )
        ]
    try:
        if kind == "postgresql":
            found = await _look_at_postgresql(connection)
        else:
            found = await asyncio.to_thread(_look_at_mysql, connection)
    except (psycopg.Error, pymysql.Error) as error:
        return [_refused(table, connection, parts.netloc, error)]
    except _CannotAsk as reason_not:
        logger.info("table %s is not checked before the run: %s", table.name, reason_not)
        return []
    if found is None:
        return [
            Problem(
                f"table '{connection.table}' does not exist in {_shown(connection)}",
                field="table_name",
                table=table.name,
                remedy="create the table, or correct table_name or connector_url",
            )
        ]
    return _compare(table, connection, kind, found)


class _CannotAsk(Exception):
    """The database's way of logging in is one that our driver does not have."""


def _kind(connection: JdbcConnection) -> str:
    return next(kind for kind, prefix in fields.JDBC_PREFIXES.items() if connection.url.startswith(prefix))


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
SELECT attname AS name, format_type(atttypid, NULL) AS type,
       attnotnull AND NOT atthasdef AND attidentity = '' AS needed
FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_POSTGRESQL_UNIQUE = """
SELECT ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) AS of
FROM pg_index i WHERE indrelid = to_regclass(%s) AND indisunique AND indpred IS NULL AND indexprs IS NULL
"""
_POSTGRESQL_RIGHTS = """
SELECT has_table_privilege(to_regclass(%(table)s), 'SELECT') AS may_read,
       has_table_privilege(to_regclass(%(table)s), 'INSERT') AS may_write
"""


async def _look_at_postgresql(connection: JdbcConnection) -> _FoundTable | None:
    parts = urlsplit(connection.url.removeprefix("jdbc:"))
    hosts = [_host(entry, 5432) for entry in parts.netloc.split(",")]
    parameters = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    schema = parameters.get("currentSchema")
    session = await psycopg.AsyncConnection.connect(
        host=",".join(host for host, _ in hosts),
        port=",".join(str(port) for _, port in hosts),
        dbname=unquote(parts.path[1:]),
        user=connection.username,
        password=connection.password.value,
        connect_timeout=int(CONNECT_TIMEOUT_S),
        application_name="hlink-check",
        sslmode=parameters.get("sslmode", "prefer"),
        options=f"-csearch_path={schema}" if schema and re.fullmatch(r"[\w,]+", schema) else "",
        autocommit=True,
        row_factory=dict_row,
    )
    async with session:
        columns = await (await session.execute(_POSTGRESQL_COLUMNS, [connection.table])).fetchall()
        if not columns:
            return None
        unique = await (await session.execute(_POSTGRESQL_UNIQUE, [connection.table])).fetchall()
        rights = await (await session.execute(_POSTGRESQL_RIGHTS, {"table": connection.table})).fetchone()
    return _FoundTable(
        [_Found(**column) for column in columns], [frozenset(row["of"]) for row in unique], **(rights or {})
    )


def _look_at_mysql(connection: JdbcConnection) -> _FoundTable | None:
    parts = urlsplit(connection.url.removeprefix("jdbc:"))
    host, port = _host(parts.netloc.split(",")[0], 3306)
    database = unquote(parts.path[1:])
    schema, _, name = connection.table.replace("`", "").rpartition(".")
    # Encrypted when the server can, as MySQL's own driver does it; whose certificate it is, is for the job to judge.
    encryption = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    encryption.check_hostname = False
    encryption.verify_mode = ssl.CERT_NONE
    try:
        session = pymysql.connect(
            host=host,
            port=port,
            user=connection.username,
            password=connection.password.value,
            database=database,
            connect_timeout=int(CONNECT_TIMEOUT_S),
            read_timeout=int(CONNECT_TIMEOUT_S),
            ssl=encryption,
        )
    except RuntimeError as error:  # the package "cryptography" is needed for some ways of logging in
        raise _CannotAsk(str(error)) from error
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
    return _FoundTable(columns, [frozenset(of) for of in unique.values()]) if columns else None


@dataclass(frozen=True)
class _DatabaseTypes:
    source: str
    families: Mapping[str, Mapping[str, str]]
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
    if writes:
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
    types, kind = database_types(), _kind(connection)
    name = "ARRAY" if column.fields else parse(column.type).name
    family = "array" if match.type.endswith("[]") else _family(types.families[kind], match.type)
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


def _family(families: Mapping[str, str], database_type: str) -> str:
    """The family of a type such as ``bigint(20) unsigned``: as it is written, or without its length."""
    written = database_type.lower()
    bare = re.sub(r"\(.*?\)", "", written)
    return families.get(written) or families.get(bare) or families.get(bare.split(" ")[0]) or written


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
