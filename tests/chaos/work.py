"""The jobs under test: each has state, and what it must have written follows from what was fed to it.

The feed's own topic is the truth: a row that the broker has is to be counted exactly once, whoever was killed when.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from tests.services import Api

Row = dict[str, Any]

_KEYS = "abcdefgh"
_ROWS_A_SECOND = 40
_CAUGHT_UP_S = 180.0


class Topic:
    """What a topic has had so far, aborted transactions left out; read on where it was left."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._bootstrap = bootstrap
        self.name = name
        self.rows: list[Row] = []
        self._next = 0

    def read_on(self) -> list[Row]:
        """All rows until now. Raises ``KafkaError`` when the broker does not answer."""
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, isolation_level="read_committed"
        )
        partition = TopicPartition(self.name, 0)
        try:
            consumer.assign([partition])
            consumer.seek(partition, self._next)
            end = consumer.end_offsets([partition])[partition]
            quiet_since = time.monotonic()
            while self._next < end and time.monotonic() - quiet_since < 2.0:
                for records in consumer.poll(timeout_ms=200).values():
                    quiet_since = time.monotonic()
                    self.rows += [json.loads(record.value) for record in records]
                self._next = max(self._next, consumer.position(partition))
        finally:
            consumer.close()
        return self.rows


class Feed:
    """Writes rows of a seed into a topic, as fast as the broker takes them and no faster than a few a second."""

    def __init__(self, bootstrap: str, topic: str, seed: int) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, and return when the broker has everything."""
        self._ended.set()
        self._thread.join(60)

    def _run(self) -> None:
        number = 0
        while not self._ended.is_set():
            try:
                producer = KafkaProducer(bootstrap_servers=self._bootstrap, acks="all", max_block_ms=5000)
                try:
                    while not self._ended.is_set():
                        futures = []
                        for _ in range(_ROWS_A_SECOND // 5):
                            number += 1
                            row = {"n": number, "k": self._chance.choice(_KEYS)}
                            futures.append(producer.send(self._topic, json.dumps(row).encode()))
                        for future in futures:
                            future.get(timeout=10)
                        self._ended.wait(0.2)
                finally:
                    producer.close(timeout=5)
            except (KafkaError, OSError):  # the broker is away; what it took and what not stands in the topic
                self._ended.wait(0.5)


@dataclass
class Work:
    """One job with what it is to bring out. ``wrong`` tells what is wrong with its results so far, if anything."""

    id: int
    name: str
    parallelism: int
    wrong: Callable[[list[Row]], str | None]
    complete: Callable[[list[Row]], bool]
    """Whether all of the rows are in its results."""


class Works:
    """All jobs, on one feed."""

    def __init__(self, api: Api, savepoints: str, seed: int) -> None:
        """``savepoints`` is the folder for savepoints, as an address."""
        self._database = {**api.endpoints.postgres.parameters(), "connect_timeout": 5}
        bootstrap = api.endpoints.kafka_bootstrap
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        topics = ("chaos-rows", "chaos-copies", "chaos-sums")
        admin.create_topics(
            {name: {"num_partitions": 1, "replication_factor": 1} for name in topics}, wait_for_metadata=True
        )
        admin.close()
        with psycopg.connect(**self._database, autocommit=True) as connection:
            connection.execute("CREATE TABLE chaos_counts (k TEXT PRIMARY KEY, n BIGINT, s BIGINT)")
        self.rows = Topic(bootstrap, "chaos-rows")
        self._copies = Topic(bootstrap, "chaos-copies")
        self._sums = Topic(bootstrap, "chaos-sums")
        self.feed = Feed(bootstrap, "chaos-rows", seed)
        columns = {"n": "BIGINT", "k": "STRING"}
        source = api.kafka_source("chaos_rows", "chaos-rows", columns)
        copies = api.kafka_sink("chaos_copies", "chaos-copies", columns, exactly_once="yes")
        sums = api.kafka_sink("chaos_sums", "chaos-sums", {**columns, "c": "BIGINT", "s": "BIGINT"}, exactly_once="yes")
        counts = api.postgresql(
            "chaos_counts",
            "sink",
            "chaos_counts",
            {"k": "STRING", "n": "BIGINT", "s": "BIGINT"},
            primary_key="k",
            flush_interval="200",
        )
        window = "OVER (PARTITION BY k ORDER BY p ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        statements = {
            "copies": (copies, "SELECT n, k FROM chaos_rows", 1),
            "sums": (
                sums,
                f"SELECT n, k, COUNT(*) {window}, SUM(n) {window} FROM (SELECT n, k, PROCTIME() AS p FROM chaos_rows)",
                2,
            ),
            "counts": (counts, "SELECT k, COUNT(*), SUM(n) FROM chaos_rows GROUP BY k", 1),
        }
        checks = {
            "copies": (self._copies_wrong, self._copies_complete),
            "sums": (self._sums_wrong, self._sums_complete),
            "counts": (self._counts_wrong, self._counts_complete),
        }
        self.all: list[Work] = []
        for name, (sink, sql, parallelism) in statements.items():
            body = api.job(
                f"chaos {name}",
                [source],
                {sink: sql},
                parallelism=parallelism,
                checkpointInterval=1000,
                stateSavepointsDir=savepoints,
                # Flink's own recovery, as often as it takes.
                restartStrategy=1,
                restartAttempts=1_000_000,
                delayInterval=1,
                # And the service's, whatever a job ended by.
                recover="failed",
            )
            job_id = int(api.ok("POST", "/jobs/addDO", json=body)["id"])
            self.all.append(Work(job_id, f"chaos {name}", parallelism, *checks[name]))

    def wrong(self) -> list[str]:
        """What is wrong with what was written until now: rows twice, rows left out, wrong sums."""
        for topic in (self._copies, self._sums):
            topic.read_on()
        fed = self.rows.read_on()
        return [f"{work.name}: {fault}" for work in self.all if (fault := work.wrong(fed)) is not None]

    def wrong_at_the_end(self) -> list[str]:
        """The same, once nothing more is fed: everything that was must be there after a while."""
        deadline = time.monotonic() + _CAUGHT_UP_S
        while True:
            wrong = self.wrong()
            late = [work.name for work in self.all if not work.complete(self.rows.rows)]
            if wrong or not late:
                return wrong
            if time.monotonic() > deadline:
                return [f"{name}: not all of the {len(self.rows.rows)} rows that were fed have come" for name in late]
            time.sleep(1)

    # What is right

    def _copies_wrong(self, fed: list[Row]) -> str | None:
        return _first_difference(self._copies.rows, fed)

    def _copies_complete(self, fed: list[Row]) -> bool:
        return len(self._copies.rows) == len(fed)

    def _sums_wrong(self, fed: list[Row]) -> str | None:
        # Rows of one key keep their order; those of different keys need not.
        expected, found = defaultdict(list), defaultdict(list)
        counts: Counter[str] = Counter()
        sums: Counter[str] = Counter()
        for row in fed:
            counts[row["k"]] += 1
            sums[row["k"]] += row["n"]
            expected[row["k"]].append({**row, "c": counts[row["k"]], "s": sums[row["k"]]})
        for row in self._sums.rows:
            found[row["k"]].append(row)
        faults = (_first_difference(rows, expected[key]) for key, rows in found.items())
        return next((fault for fault in faults if fault is not None), None)

    def _sums_complete(self, fed: list[Row]) -> bool:
        return len(self._sums.rows) == len(fed)

    def _counts(self) -> dict[str, tuple[int, int]]:
        with psycopg.connect(**self._database) as connection:
            return {k: (n, s) for k, n, s in connection.execute("SELECT k, n, s FROM chaos_counts")}

    def _counts_wrong(self, fed: list[Row]) -> str | None:
        # It writes over what it wrote: a count goes back for a moment when the job goes on from its last state.
        total = Counter(row["k"] for row in fed)
        for key, (count, _) in self._counts().items():
            if count > total[key]:
                fed = self.rows.read_on()  # rows that came while it was looked at
                total = Counter(row["k"] for row in fed)
                if count > total[key]:
                    return f"{count} rows of {key!r} were counted, {total[key]} were fed"
        return None

    def _counts_complete(self, fed: list[Row]) -> bool:
        expected: dict[str, tuple[int, int]] = {}
        for row in fed:
            count, total = expected.get(row["k"], (0, 0))
            expected[row["k"]] = count + 1, total + row["n"]
        return self._counts() == expected


def _first_difference(found: list[Row], expected: list[Row]) -> str | None:
    for place, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f"row {place} is {one} and should be {other}"
    if len(found) > len(expected):
        return f"{len(found)} rows came, {len(expected)} are right; the first too many is {found[len(expected)]}"
    return None
