"""A service and a small job in it: a topic with rows, a side table, sinks in Kafka and PostgreSQL.

Fixtures, which ``tests/integration/conftest.py`` makes known: ``service``, ``api``, ``airport``. The service is one for
all modules that want nothing special of it: a start with its planner costs more than most tests.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stream_jobs.local.endpoints import Endpoints
from tests.services import Api, Json, ServiceProcess, running_service

EVENTS = {"k": "STRING", "v": "DOUBLE", "ts": {"flinkType": "TIMESTAMP(3)", "eventTime": 1}}


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture(scope="session")
def api(service: ServiceProcess, endpoints: Endpoints) -> Api:
    return Api(service.url, endpoints)


@dataclass
class Airport:
    """A source with rows in it, a side table and sinks, all with names of their own."""

    api: Api
    tag: str
    topic: str
    out_topic: str
    names_table: str
    totals_table: str
    source: int
    names: int
    out: int
    totals: int

    @property
    def events(self) -> str:
        return f"events_{self.tag}"

    def enriched(self) -> str:
        return (
            f"SELECT e.k, n.name, e.v FROM events_{self.tag} e LEFT JOIN names_{self.tag} n ON e.k = n.k WHERE e.v >= 0"
        )

    def job(self, sql: str = "", **settings: Any) -> Json:
        return self.api.job(
            f"job {self.tag}", [self.source, self.names], {self.out: sql or self.enriched()}, **settings
        )

    def add(self, sql: str = "", **settings: Any) -> int:
        """The id of the job, stored."""
        return int(self.api.ok("POST", "/jobs/addDO", json=self.job(sql, **settings))["id"])


@pytest.fixture
def airport(
    api: Api, kafka_topic: Callable[..., str], produce: Callable[..., None], pg_table: Callable[..., str]
) -> Airport:
    tag = uuid.uuid4().hex[:8]
    topic, out_topic = kafka_topic("events"), kafka_topic("out")
    produce(topic, [{"k": "ab"[n % 2], "v": n, "ts": f"2026-01-01 00:{n // 60:02d}:{n % 60:02d}"} for n in range(120)])
    names_table = pg_table("k text primary key, name text", [("a", "Alpha"), ("b", "Beta")])
    totals_table = pg_table("name text primary key, n bigint, total double precision")
    features = {"k": "STRING", "name": "STRING", "v": "DOUBLE"}
    return Airport(
        api,
        tag,
        topic,
        out_topic,
        names_table,
        totals_table,
        source=api.kafka_source(f"events_{tag}", topic, EVENTS),
        names=api.postgresql(
            f"names_{tag}", "side", names_table, {"k": {"flinkType": "STRING", "joinKey": 1}, "name": "STRING"}
        ),
        out=api.kafka_sink(f"out_{tag}", out_topic, features),
        totals=api.postgresql(
            f"totals_{tag}",
            "sink",
            totals_table,
            {"name": "STRING", "n": "BIGINT", "total": "DOUBLE"},
            primary_key="name",
        ),
    )
