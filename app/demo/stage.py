"""What surrounds the service in the demo: two topics, a PostgreSQL schema with the side tables, and both sinks' ends.

Each run has topics and a schema of its own, so that no row of an earlier run, or of anything else of the user's,
can be taken for one of this run.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from psycopg import sql

from app.demo.data import Year, messages, rows
from app.demo.errors import DemoError
from stream_jobs.local.endpoints import PostgresEndpoint

_TABLES = {
    "airlines": "carrier text PRIMARY KEY, name text",
    "planes": "tailnum text PRIMARY KEY, built integer, manufacturer text, model text, seats integer",
    "weather": "origin text, time_hour timestamp(3), wind_speed double precision, temp double precision, "
    "visib double precision, PRIMARY KEY (origin, time_hour)",
    "features": "carrier text, airline text, origin text, hour_start timestamp(3), flights bigint, departures bigint, "
    "mean_delay double precision, p90_delay double precision, cancelled_share double precision, "
    "plane_age double precision, wind_speed double precision, PRIMARY KEY (carrier, origin, hour_start)",
}
_NEWEST = 12
_POLL_MS = 300

Row = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """The names of one run's topics and schema. ``tag``: letters, digits and underscores, different for each run."""

    tag: str

    @property
    def flights_topic(self) -> str:
        return f"hlink-demo-{self.tag}-flights"

    @property
    def features_topic(self) -> str:
        return f"hlink-demo-{self.tag}-features"

    @property
    def schema(self) -> str:
        return f"hlink_demo_{self.tag}"

    def table(self, name: str) -> str:
        return f"{self.schema}.{name}"


def create_topics(bootstrap: str, places: Places) -> None:
    """Create both topics with one partition each: the order of a topic is that of its partition.

    :raises DemoError: the broker refuses.
    """
    _administer(
        bootstrap,
        "create the demo's topics",
        lambda admin: admin.create_topics(
            {topic: {"num_partitions": 1} for topic in (places.flights_topic, places.features_topic)},
            wait_for_metadata=True,
        ),
    )


def remove(bootstrap: str, database: PostgresEndpoint, places: Places) -> None:
    """Remove topics and schema of a run, as far as they are there.

    :raises DemoError: broker or database refuse.
    """
    wanted = {places.flights_topic, places.features_topic}

    def delete(admin: KafkaAdminClient) -> None:
        if present := wanted & set(admin.list_topics()):
            admin.delete_topics(sorted(present))

    _administer(bootstrap, "remove the last run's topics", delete)
    with _connected(database) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(places.schema)))


def create_tables(database: PostgresEndpoint, places: Places, year: Year) -> None:
    """Create the side tables with their rows, and the empty table of features.

    :raises DemoError: the database refuses.
    """
    with _connected(database) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(places.schema)))
        for name, columns in _TABLES.items():
            table = sql.Identifier(places.schema, name)
            connection.execute(sql.SQL("CREATE TABLE {} (" + columns + ")").format(table))
        with connection.cursor() as cursor:
            for name in ("airlines", "planes", "weather"):
                content = getattr(year, name)
                copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
                    sql.Identifier(places.schema, name), sql.SQL(", ").join(map(sql.Identifier, content.columns))
                )
                with cursor.copy(copy) as target:
                    for row in rows(content):
                        target.write_row(row)


def rows_written(database: PostgresEndpoint, places: Places) -> int:
    """How many feature rows are in PostgreSQL."""
    with _connected(database) as connection:
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(places.schema, "features"))
        (count,) = connection.execute(query).fetchone() or (0,)
        return int(count)


def rows_of_table(database: PostgresEndpoint, places: Places, columns: Iterable[str]) -> list[Row]:
    """The feature rows in PostgreSQL."""
    names = list(columns)
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(places.schema, "features")
    )
    with _connected(database) as connection:
        return [dict(zip(names, row, strict=True)) for row in connection.execute(query)]


class Player:
    """Plays flights into their topic, in their order, in a thread.

    :param rate: flights a second; None for as fast as possible.
    """

    def __init__(self, bootstrap: str, topic: str, year: Year, rate: float | None) -> None:
        self.total = len(year.flights)
        self.sent = 0
        self.seconds = 0.0
        self.error: str | None = None
        self._bootstrap, self._topic, self._year, self._rate = bootstrap, topic, year, rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)

    @property
    def done(self) -> bool:
        """All flights are in the topic."""
        return self.sent == self.total and not self._thread.is_alive() and self.error is None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        began = time.monotonic()
        try:
            producer = KafkaProducer(
                bootstrap_servers=self._bootstrap.split(","),
                # In order and once, whatever has to be sent again.
                enable_idempotence=True,
                acks="all",
                linger_ms=20,
                batch_size=256 * 1024,
                # Less for the client to checksum, which it does in Python: three times as fast.
                compression_type="gzip",
            )
        except KafkaError as error:
            self.error = f"no producer for {self._bootstrap}: {error}"
            return
        try:
            for number, message in enumerate(messages(self._year.flights), start=1):
                if self._stopped.is_set():
                    break
                if self._rate is not None:
                    self._keep_pace(began, number)
                producer.send(self._topic, message, partition=0)
                if number % 500 == 0:
                    self.sent = number
            else:
                producer.flush()
                self.sent = self.total
        except KafkaError as error:
            self.error = f"the flights cannot be sent: {error}"
        finally:
            self.seconds = time.monotonic() - began
            producer.close(timeout=1)

    def _keep_pace(self, began: float, number: int) -> None:
        assert self._rate is not None
        ahead = number / self._rate - (time.monotonic() - began)
        if ahead > 0.01:
            self.sent = number - 1
            self._stopped.wait(ahead)


class TopicReader:
    """Reads the feature rows out of their topic, in a thread, as any consumer of features would."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.rows: list[Row] = []
        self.newest: deque[Row] = deque(maxlen=_NEWEST)
        self.first_at: float | None = None
        self.error: str | None = None
        self._bootstrap, self._topic = bootstrap, topic
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        try:
            consumer = KafkaConsumer(
                bootstrap_servers=self._bootstrap.split(","),
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                check_crcs=False,
            )
            consumer.assign([TopicPartition(self._topic, 0)])
            while not self._stopped.is_set():
                for records in consumer.poll(timeout_ms=_POLL_MS, max_records=2000).values():
                    self._take([json.loads(record.value) for record in records])
            consumer.close()
        except KafkaError as error:
            self.error = f"the features cannot be read from {self._topic}: {error}"

    def _take(self, rows: Sequence[Row]) -> None:
        if self.first_at is None:
            self.first_at = time.monotonic()
        self.rows.extend(rows)
        self.newest.extend(rows)


def _administer(bootstrap: str, what: str, act: Callable[[KafkaAdminClient], object]) -> None:
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","), client_id="hlink-demo")
        try:
            act(admin)
        finally:
            admin.close()
    except KafkaError as error:
        raise DemoError(f"Kafka at {bootstrap} does not {what}: {error}") from error


@contextmanager
def _connected(database: PostgresEndpoint) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database, committed and closed at the end; its errors as the demo's."""
    try:
        with psycopg.connect(**database.parameters(), connect_timeout=5) as connection:
            yield connection
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise DemoError(f"PostgreSQL at {database.host}:{database.port} refuses: {reason}") from error
