"""The supervisor under everything that may happen to it, on PostgreSQL: see ``tests/unit/test_state_machine.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.engine import URL

from app.database import Database
from app.migrations import migrate
from app.settings import Settings
from stream_jobs.local.endpoints import Endpoints
from tests.databases import postgres_schema
from tests.simulation import CLOCK_OF_POSTGRESQL
from tests.state_machine import explore

_EXAMPLES = 4


@pytest.fixture
def schema(endpoints: Endpoints) -> Iterator[URL]:
    """A migrated schema whose clock is the simulation's."""
    with postgres_schema(endpoints.postgres) as address:
        url = Settings.model_validate({"database_url": f"{address},pg_catalog"}).database()
        database = Database(url)

        async def make() -> None:
            await migrate(database)
            await database.close()

        asyncio.run(make())
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(CLOCK_OF_POSTGRESQL)
        yield url


@pytest.mark.timeout(3600)
def test_no_promise_is_broken_whatever_happens(schema: URL) -> None:
    address = schema.set(drivername="postgresql").render_as_string(hide_password=False)

    def new() -> URL:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("TRUNCATE run, run_event, savepoint CASCADE")
        return schema

    explore(new, _EXAMPLES)
