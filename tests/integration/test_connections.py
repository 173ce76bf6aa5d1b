"""What is checked before a run, against the stack's real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from app.errors import Problem
from app.hlink.connections import Connections, unchecked
from app.hlink.connections.kafka import Broker
from app.hlink.connections.outcome import CONNECT_TIMEOUT_S
from stream_jobs.definitions import (
    Column,
    JdbcConnection,
    JdbcLookup,
    JdbcSink,
    KafkaSink,
    KafkaSource,
    Role,
    Secret,
    Startup,
    Table,
)
from stream_jobs.local import ports
from stream_jobs.local.endpoints import Endpoints

NewTable = Callable[..., str]
NewTopic = Callable[..., str]


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    opened = Connections()
    yield opened
    await opened.close()


@pytest.fixture
def nowhere() -> str:
    return f"127.0.0.1:{ports.choose(set())}"


def source(servers: str, topic: str) -> Table:
    return Table("orders", Role.SOURCE, KafkaSource(servers, topic, "g"), (Column("id", "BIGINT"),))


def sink(servers: str, topic: str) -> Table:
    return Table("out_t", Role.SINK, KafkaSink(servers, topic), (Column("id", "BIGINT"),))


def connection(endpoints: Endpoints, table: str) -> JdbcConnection:
    database = endpoints.postgres
    return JdbcConnection(database.jdbc_url, table, database.user, Secret(database.password))


def side(to: JdbcConnection, *columns: Column) -> Table:
    return Table("products", Role.SIDE, JdbcLookup(to), columns or (Column("id", "INT"),), join_key=("id",))


def written(to: JdbcConnection, *columns: Column, key: tuple[str, ...] = ()) -> Table:
    return Table("results", Role.SINK, JdbcSink(to), columns, primary_key=key)


def told(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems]


async def test_a_topic_that_is_there_is_no_problem(
    connections: Connections, endpoints: Endpoints, kafka_topic: NewTopic
) -> None:
    topic = kafka_topic("orders")
    servers = endpoints.kafka_bootstrap
    assert await connections.check_all([source(servers, topic), sink(servers, topic)]) == []


async def test_a_missing_topic_is_told_and_not_created(connections: Connections, endpoints: Endpoints) -> None:
    servers = endpoints.kafka_bootstrap
    for _ in range(2):
        found = await connections.check_all([source(servers, "nowhere"), sink(servers, "nowhere")])
        assert told(found) == [
            f"table {name}, connector_topic: topic 'nowhere' does not exist on broker {servers} "
            "(create the topic, or correct connector_topic or bootstrap_servers)"
            for name in ("orders", "out_t")
        ]


async def test_a_partition_that_is_not_there_is_told(
    connections: Connections, endpoints: Endpoints, kafka_topic: NewTopic
) -> None:
    topic = kafka_topic("orders", partitions=2)
    table = source(endpoints.kafka_bootstrap, topic)
    connector = replace(table.connector, startup=Startup.SPECIFIC, startup_offsets=((1, 0), (2, 0)))
    assert told(await connections.check(replace(table, connector=connector))) == [
        f"table orders, partition_offset: topic '{topic}' has no partition 2, it has 2 "
        "(give offsets of the partitions 0 to 1)"
    ]


async def test_an_unreachable_broker_is_told_at_once(connections: Connections, nowhere: str) -> None:
    assert told(await connections.check(source(nowhere, "orders"))) == [
        f"table orders, bootstrap_servers: no Kafka broker answers at {nowhere} (connection refused) "
        "(start the broker, or correct bootstrap_servers)"
    ]


async def test_a_broker_that_went_away_is_told_at_once(
    connections: Connections, endpoints: Endpoints, kafka_topic: NewTopic, nowhere: str
) -> None:
    table = source(endpoints.kafka_bootstrap, kafka_topic("orders"))
    await connections.check(table)
    gone = source(nowhere, "orders")
    ((_, client),) = connections._brokers._clients.items()
    connections._brokers._clients = {Broker.of(gone.connector): client}
    began = time.monotonic()
    (problem,) = told(await connections.check(gone))
    assert "(connection refused)" in problem
    assert time.monotonic() - began < 1


async def test_something_else_at_the_brokers_address_is_told_in_time(
    connections: Connections, endpoints: Endpoints
) -> None:
    address = endpoints.flink_url.removeprefix("http://")
    began = time.monotonic()
    (problem,) = told(await connections.check(source(address, "orders")))
    assert "what answers there is not a Kafka broker" in problem
    assert time.monotonic() - began < CONNECT_TIMEOUT_S + 1


async def test_a_broker_that_says_nothing_does_not_hold_up_the_others(
    connections: Connections, endpoints: Endpoints, kafka_topic: NewTopic
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    topic = kafka_topic("orders")
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        silent = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        began = time.monotonic()
        tables = [source(silent, topic), sink(silent, topic), source(endpoints.kafka_bootstrap, topic)]
        found = await connections.check_all(tables)
        took = time.monotonic() - began
    assert [problem.table for problem in found] == ["orders", "out_t"]
    assert took < 5.5


async def test_a_warm_check_of_a_topic_takes_milliseconds(
    connections: Connections, endpoints: Endpoints, kafka_topic: NewTopic
) -> None:
    table = source(endpoints.kafka_bootstrap, kafka_topic("orders"))
    await connections.check(table)
    times = []
    for _ in range(21):
        began = time.perf_counter()
        await connections.check(table)
        times.append(time.perf_counter() - began)
    assert sorted(times)[10] < 0.03


async def test_a_client_that_another_check_has_closed_is_replaced(
    connections: Connections, endpoints: Endpoints, kafka_topic: NewTopic
) -> None:
    table = source(endpoints.kafka_bootstrap, kafka_topic("orders"))
    await connections.check(table)
    (client,) = connections._brokers._clients.values()
    client.close()
    assert await connections.check(table) == []


async def test_a_database_table_that_fits_is_no_problem(
    connections: Connections, endpoints: Endpoints, pg_table: NewTable
) -> None:
    to = connection(endpoints, pg_table('id int primary key, "Name" varchar(20), price numeric(10, 2), at timestamp'))
    columns = (Column("id", "INT"), Column("name", "STRING"), Column("price", "DECIMAL(10, 2)"))
    assert await connections.check(written(to, *columns, key=("id",))) == []


@pytest.fixture
def pg_database(endpoints: Endpoints, postgres: Callable[[], psycopg.Connection[Any]]) -> Iterator[str]:
    """The name of a database of the test's own, where no other test has a session."""
    name, server = f"own_{uuid.uuid4().hex[:8]}", postgres()
    server.execute(f"CREATE DATABASE {name}".encode())
    yield name
    server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def test_a_session_is_used_again_and_replaced_when_the_server_has_ended_it(
    connections: Connections, endpoints: Endpoints, pg_database: str, postgres: Callable[[], psycopg.Connection[Any]]
) -> None:
    own = replace(endpoints.postgres, database=pg_database)
    with psycopg.connect(**own.parameters(), autocommit=True) as prepared:
        prepared.execute("CREATE TABLE products (id int primary key)")
    to = connection(replace(endpoints, postgres=own), "products")
    server = postgres()

    def sessions() -> list[int]:
        found = server.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", [pg_database])
        return [pid for (pid,) in found.fetchall()]

    assert await connections.check(side(to, Column("id", "INT"))) == []
    (opened,) = sessions()
    assert await connections.check(side(to, Column("id", "INT"))) == []
    assert sessions() == [opened]
    ended = server.execute("SELECT pg_terminate_backend(%s, 30000)", [opened]).fetchone()
    assert ended == (True,), "the server waits for its end"
    assert await connections.check(side(to, Column("id", "INT"))) == []
    (another,) = sessions()
    assert another != opened
    await connections.close()
    async with asyncio.timeout(30):
        while sessions():  # noqa: ASYNC110 the server tells nobody
            await asyncio.sleep(0.05)


async def test_a_session_is_ended_some_time_after_its_login(
    connections: Connections, endpoints: Endpoints, pg_table: NewTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.hlink.connections.sessions.LIFE_S", 2.0)
    assert await connections.check(side(connection(endpoints, pg_table("id int")), Column("id", "INT"))) == []
    assert connections._sessions._idle
    async with asyncio.timeout(2.5):
        while connections._sessions._idle:  # noqa: ASYNC110 it ends by itself
            await asyncio.sleep(0.05)


async def test_an_unreachable_database_is_told(connections: Connections, endpoints: Endpoints, nowhere: str) -> None:
    to = replace(connection(endpoints, "t"), url=f"jdbc:postgresql://{nowhere}/hlink")
    assert told(await connections.check(side(to))) == [
        f"table products, connector_url: no database answers at {nowhere} (connection refused) "
        "(start the database, or correct host and port in connector_url)"
    ]


async def test_a_wrong_password_is_told_and_not_repeated(connections: Connections, endpoints: Endpoints) -> None:
    to = replace(connection(endpoints, "t"), password=Secret("wr0ng-one"))
    (problem,) = told(await connections.check(side(to)))
    assert problem.startswith("table products, connector_password: the database at ")
    assert f'password authentication failed for user "{endpoints.postgres.user}"' in problem
    assert problem.endswith("(correct connector_username and connector_password)")
    assert "wr0ng-one" not in problem


async def test_a_missing_database_is_told(connections: Connections, endpoints: Endpoints) -> None:
    to = connection(endpoints, "t")
    (problem,) = told(await connections.check(side(replace(to, url=to.url.rsplit("/", 1)[0] + "/nodb"))))
    assert 'database "nodb" does not exist (correct the database in connector_url)' in problem


async def test_a_missing_table_is_told(connections: Connections, endpoints: Endpoints) -> None:
    to = connection(endpoints, "nothing")
    assert told(await connections.check(side(to))) == [
        f"table products, table_name: table 'nothing' does not exist in {endpoints.postgres.jdbc_url} "
        "(create the table, or correct table_name or connector_url)"
    ]


async def test_a_missing_column_is_told_with_those_there_are(
    connections: Connections, endpoints: Endpoints, pg_table: NewTable
) -> None:
    table = pg_table("id int, price float8")
    found = await connections.check(side(connection(endpoints, table), Column("id", "INT"), Column("prise", "DOUBLE")))
    assert told(found) == [f"table products, column prise: table '{table}' has no such column (it has: id, price)"]


async def test_a_type_that_cannot_be_read_is_told(
    connections: Connections, endpoints: Endpoints, pg_table: NewTable
) -> None:
    to = connection(endpoints, pg_table("id int, code uuid"))
    columns = (Column("id", "STRING"), Column("code", "STRING"))
    assert told(await connections.check(side(to, *columns))) == [
        "table products, column id: a STRING cannot be read from the database's integer "
        "(use one of: INT, SMALLINT, TINYINT)",
        "table products, column code: a STRING cannot be read from the database's uuid "
        "(cast it in a view of the database, and use the view)",
    ]


async def test_a_lookup_reads_an_integer_as_no_other_number_but_a_write_converts(
    connections: Connections, endpoints: Endpoints, pg_table: NewTable
) -> None:
    to = connection(endpoints, pg_table("id int, n int"))
    columns = (Column("id", "INT"), Column("n", "BIGINT"))
    assert told(await connections.check(side(to, *columns))) == [
        "table products, column n: a BIGINT cannot be read from the database's integer "
        "(use one of: INT, SMALLINT, TINYINT)"
    ]
    assert await connections.check(written(to, *columns)) == []


async def test_a_column_that_must_have_a_value_is_told(
    connections: Connections, endpoints: Endpoints, pg_table: NewTable
) -> None:
    table = pg_table(
        "id int primary key, name text not null, at timestamp not null default now(), "
        "n int generated always as identity, twice int generated always as (id * 2) stored"
    )
    assert told(await connections.check(written(connection(endpoints, table), Column("id", "INT"), key=("id",)))) == [
        f"table results, column name: table '{table}' needs a value for it, and the definition does not write it "
        "(add the column to the definition, or give it a default in the database)"
    ]


async def test_an_upsert_needs_a_unique_key_in_the_database(
    connections: Connections, endpoints: Endpoints, pg_table: NewTable
) -> None:
    table = pg_table("a int, b int")
    to = connection(endpoints, table)
    columns = (Column("a", "INT"), Column("b", "INT"))
    assert told(await connections.check(written(to, *columns, key=("a", "b")))) == [
        f"table results, primary_key: table '{table}' has no primary key or unique index on a, b "
        "(add one to the table, or correct primary_key: an upsert finds its row by it)"
    ]
    keyed = connection(endpoints, pg_table("a int, b int, unique (b, a)"))
    assert await connections.check(written(keyed, *columns, key=("a", "b"))) == []


async def test_oracle_is_not_checked_and_said_so(connections: Connections) -> None:
    table = side(JdbcConnection("jdbc:oracle:thin:@//host:1521/x", "t", "u", Secret("p")))
    assert await connections.check(table) == []
    assert unchecked(table) == (
        "table products: Oracle is not checked before the run, its driver for Python is not installed"
    )


async def test_a_broker_with_java_key_stores_is_checked_by_its_address_only(
    connections: Connections, endpoints: Endpoints, nowhere: str
) -> None:
    secured = {"security.protocol": "SASL_SSL", "sasl.jaas.config": Secret("PlainLoginModule password='p'")}
    here = Table(
        "orders",
        Role.SOURCE,
        KafkaSource(endpoints.kafka_bootstrap, "t", "g", properties=secured),
        (Column("a", "INT"),),
    )
    assert await connections.check(here) == []
    assert "only the broker's address is checked" in (unchecked(here) or "")
    gone = replace(here, connector=replace(here.connector, bootstrap_servers=nowhere))
    assert "no Kafka broker answers" in told(await connections.check(gone))[0]
