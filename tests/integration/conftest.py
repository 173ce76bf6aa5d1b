"""The shared stack as fixtures, with short ways to put rows into it and to read what came out.

``endpoints``, ``kafka_topic(hint)``, ``produce(topic, rows)``, ``consume(topic, n)``, ``postgres()`` and
``pg_table(columns)``. For a family's routes alone: ``database_url`` and ``serve(family)``.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from psycopg import sql
from pydantic import SecretStr

from app.database import Database
from app.main import create_app
from app.migrations import migrate
from app.service import Family, Service, load_families
from app.settings import Settings
from stream_jobs.local.endpoints import Endpoints
from tests.airport import airport, api, service  # noqa: F401  fixtures
from tests.databases import postgres_schema
from tests.services import Serve
from tests.stack import shared_stack

Row = Mapping[str, Any]


@pytest.fixture(scope="session")
def endpoints() -> Iterator[Endpoints]:
    """Where Flink, Kafka and PostgreSQL are; started when the first test asks, shared by all test processes."""
    with shared_stack() as found:
        yield found


@pytest.fixture(scope="session")
def stack(endpoints: Endpoints) -> Endpoints:
    """The same as ``endpoints``."""
    return endpoints


@pytest.fixture(scope="session")
def _kafka_admin(endpoints: Endpoints) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=endpoints.kafka_bootstrap)
    yield admin
    admin.close()


@pytest.fixture(scope="session")
def _kafka_producer(endpoints: Endpoints) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=endpoints.kafka_bootstrap, linger_ms=5)
    yield producer
    producer.close()


@pytest.fixture
def kafka_topic(_kafka_admin: KafkaAdminClient) -> Iterator[Callable[..., str]]:
    """``kafka_topic("orders", partitions=1)`` creates a topic of a unique name and returns the name."""
    created: list[str] = []

    def create(name_hint: str = "topic", partitions: int = 1) -> str:
        topic = _unique(name_hint)
        options = {"num_partitions": partitions, "replication_factor": 1}
        _kafka_admin.create_topics({topic: options}, wait_for_metadata=True)
        created.append(topic)
        return topic

    yield create
    if created:
        # Without looking at the answer: a job that is just ending may hold a topic, and the stack goes anyway.
        _kafka_admin.delete_topics(created, raise_errors=False)


@pytest.fixture
def produce(_kafka_producer: KafkaProducer) -> Callable[..., None]:
    """``produce(topic, rows, key=None)`` writes each row as JSON and returns when the broker has them all.

    ``key`` names the field whose value, as text, is the record's key. A row that is bytes is written as it is.
    """

    def write(topic: str, rows: Sequence[Row | bytes], key: str | None = None) -> None:
        futures = [
            _kafka_producer.send(
                topic,
                value=row if isinstance(row, bytes) else json.dumps(row).encode(),
                key=None if key is None or isinstance(row, bytes) else str(row[key]).encode(),
            )
            for row in rows
        ]
        _kafka_producer.flush()
        for future in futures:
            future.get(timeout=30)

    return write


@pytest.fixture
def consume(endpoints: Endpoints) -> Callable[..., list[Any]]:
    """``consume(topic, n, timeout=30, committed=False)`` reads n records from the beginning, as JSON values.

    Returns as soon as there are n. Fails with what it found when there are fewer after ``timeout`` seconds. With
    ``n=None`` it returns what is in the topic now. ``committed`` hides open and aborted transactions.
    """

    def read(topic: str, n: int | None, timeout: float = 30.0, committed: bool = False) -> list[Any]:
        consumer = KafkaConsumer(
            bootstrap_servers=endpoints.kafka_bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed" if committed else "read_uncommitted",
        )
        try:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or {0}]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            found: list[Any] = []
            deadline = time.monotonic() + timeout
            while n is None or len(found) < n:
                for records in consumer.poll(timeout_ms=200).values():
                    found += [None if record.value is None else json.loads(record.value) for record in records]
                if n is None and all(consumer.position(partition) >= ends[partition] for partition in partitions):
                    break
                if time.monotonic() > deadline:
                    pytest.fail(f"{topic}: {len(found)} of {n} records after {timeout:.0f} s: {found[-20:]}")
            return found
        finally:
            consumer.close()

    return read


@pytest.fixture
def postgres(endpoints: Endpoints) -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    """``postgres()`` opens a connection (autocommit) that is closed after the test."""
    with ExitStack() as opened:

        def connect() -> psycopg.Connection[Any]:
            connection = psycopg.connect(**endpoints.postgres.parameters(), autocommit=True)
            opened.callback(connection.close)
            return connection

        yield connect


@pytest.fixture
def pg_table(postgres: Callable[[], psycopg.Connection[Any]]) -> Iterator[Callable[..., str]]:
    """``pg_table("id int primary key, name text", rows=[(1, "a")])`` creates a table and returns its unique name."""
    connection = postgres()
    created: list[str] = []

    def create(columns: str, rows: Sequence[Sequence[Any]] = (), name_hint: str = "t") -> str:
        table = _unique(name_hint).replace("-", "_")
        connection.execute(f"CREATE TABLE {table} ({columns})".encode())
        created.append(table)
        for row in rows:
            values = sql.SQL(", ").join(sql.Placeholder() * len(row))
            connection.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values), row)
        return table

    yield create
    for table in created:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(sql.Identifier(table)))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in a file as the service leaves it at its first start: ``serve`` begins with a copy."""
    load_families()
    settings = Settings(home=tmp_path_factory.mktemp("migrated"))

    async def migrate_once() -> None:
        database = Database(settings.database())
        await migrate(database)
        await database.close()

    with ThreadPoolExecutor(1) as pool:  # whose loop is no test's
        pool.submit(asyncio.run, migrate_once()).result()
    return Path(str(settings.database().database))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The service's own database: what is promised holds on both."""
    if request.param == "sqlite":
        yield ""
        return
    endpoints: Endpoints = request.getfixturevalue("endpoints")
    with postgres_schema(endpoints.postgres) as url:
        yield url


@pytest.fixture
async def serve(
    tmp_path: Path, database_url: str, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Serve]:
    """``client, service = await serve(family, **settings)``: the service with that family only, in this process."""
    if not database_url:
        shutil.copy(migrated, tmp_path / migrated.name)
    async with AsyncExitStack() as opened:

        async def start(family: Family, **settings: Any) -> tuple[httpx.AsyncClient, Service]:
            monkeypatch.setattr("app.main.load_families", lambda: [family])
            app = create_app(Settings(home=tmp_path, database_url=SecretStr(database_url), **settings))
            await opened.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://hlink")
            return await opened.enter_async_context(client), app.state.service

        yield start


def _unique(hint: str) -> str:
    return f"{re.sub(r'[^a-z0-9]+', '-', hint.lower()).strip('-') or 't'}-{uuid.uuid4().hex[:8]}"
