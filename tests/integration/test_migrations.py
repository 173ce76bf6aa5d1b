"""The schema's history: it ends at the models as they are, and takes along a database of the first release."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlmodel import SQLModel

from app.database import Database
from app.migrations import configuration, migrate
from app.service import load_families
from app.settings import Settings

_FIRST = ("service_0001", "hlink_0002")
_RUN = """
INSERT INTO run (id, kind, subject, spec, external_id, state, desired, stop_attempts, attempts, created_at)
VALUES (1, 'flink', 'hlink.job:1', '{}', 'a', 'RUNNING', 'RUNNING', 0, 1, 0)
"""


@pytest.fixture
async def database(tmp_path: Path, database_url: str) -> AsyncIterator[Database]:
    url = database_url or f"sqlite:///{tmp_path}/hlink.db"
    opened = Database(Settings.model_validate({"database_url": url}).database())
    await opened.create()
    yield opened
    await opened.close()


async def test_the_history_ends_at_the_models(database: Database) -> None:
    load_families()
    await migrate(database)

    def differences(connection: Connection) -> list[object]:
        # Other tests define tables of their own beside the models.
        opts = {"compare_type": True, "include_object": lambda _, name, *__: not str(name).startswith("test_")}
        context = MigrationContext.configure(connection, opts=opts)
        return list(compare_metadata(context, SQLModel.metadata))

    async with database.engine.connect() as connection:
        found = await connection.run_sync(differences)
    # An index on part of a table is compared by its columns only, which is enough.
    assert found == []


async def test_given_a_database_of_the_first_release_then_its_rows_are_taken_along(database: Database) -> None:
    async with database.connect_to_write() as connection:
        for revision in _FIRST:
            await connection.run_sync(lambda sync, to=revision: command.upgrade(configuration(sync), to))
        await connection.execute(text(_RUN))
    await migrate(database)

    async with database.engine.connect() as connection:
        rows = (await connection.execute(text("SELECT id, state, successor FROM run"))).all()
        heads = (await connection.execute(text("SELECT count(*) FROM alembic_version"))).scalar_one()
    assert rows == [(1, "RUNNING", None)]
    assert heads == 3
