"""Transactions, the clock and the migrations, on SQLite; the store's tests cover PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, SQLModel, select

import app.database
from app.database import Audited, Database
from app.errors import DatabaseFailure
from app.ids import Node
from app.migrations import migrate
from app.service import load_families
from app.settings import Settings


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(Settings(home=tmp_path).database())
    await migrate(opened)
    yield opened
    await opened.close()


async def test_models_and_migrations_agree(database: Database) -> None:
    load_families()
    async with database.engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True}), _tables_of_the_service()
            )
        )
    assert differences == []


def _tables_of_the_service() -> object:
    """Without the tables that tests define."""
    tables = SQLModel.metadata
    for table in [one for one in tables.sorted_tables if one.name.startswith("test_")]:
        tables.remove(table)
    return tables


async def test_given_a_migrated_database_when_it_is_migrated_again_then_nothing_happens(database: Database) -> None:
    await migrate(database)
    async with database.read() as session:
        assert len((await session.exec(select(Node))).all()) == 32


async def test_the_clock_is_in_milliseconds(database: Database) -> None:
    assert abs(await database.ping() - time.time() * 1000) < 5_000


async def test_given_many_writers_that_read_first_then_none_of_them_fails(database: Database, tmp_path: Path) -> None:
    other = Database(Settings(home=tmp_path).database())

    async def count_up(through: Database) -> None:
        async with through.write() as session:
            node = (await session.exec(select(Node).where(Node.number == 0))).one()
            await asyncio.sleep(0.001)
            node.lease_until += 1

    await asyncio.gather(*(count_up(one) for one in (database, other) for _ in range(20)))
    async with database.read() as session:
        assert (await session.exec(select(Node).where(Node.number == 0))).one().lease_until == 40
    await other.close()


async def test_given_a_writer_then_readers_do_not_wait_for_it(database: Database) -> None:
    async with database.write() as session:
        node = (await session.exec(select(Node).where(Node.number == 0))).one()
        node.owner = "not committed"
        await session.flush()
        async with asyncio.timeout(5), database.read() as reader:
            assert (await reader.exec(select(Node).where(Node.number == 0))).one().owner == ""


async def test_given_a_transaction_inside_another_one_then_it_fails_instead_of_hanging(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.database, "BUSY_TIMEOUT_S", 0.05)
    async with database.write():
        with pytest.raises(DatabaseFailure, match="No turn to write"):
            async with database.write():
                pass


@pytest.mark.parametrize("steps", range(5))
async def test_given_a_writer_that_is_cancelled_as_its_turn_comes_then_it_ends_and_the_next_one_has_its_turn(
    database: Database, steps: int
) -> None:
    ended: list[str] = []

    async def write(name: str) -> None:
        async with database.write():
            await asyncio.sleep(0.01)
        ended.append(name)

    async with database.write():
        writers = [asyncio.create_task(write(name)) for name in ("first", "second")]
        await asyncio.sleep(0.01)
    for _ in range(steps):  # how far it has come with its turn by then
        await asyncio.sleep(0)
    writers[0].cancel()
    await asyncio.wait(writers, timeout=10)

    assert (writers[0].cancelled(), ended) == (True, ["second"])


async def test_given_a_reading_session_then_its_changes_are_not_kept(database: Database) -> None:
    async with database.read() as session:
        (await session.exec(select(Node).where(Node.number == 0))).one().owner = "me"
        await session.flush()
    async with database.read() as session:
        assert (await session.exec(select(Node).where(Node.number == 0))).one().owner == ""


async def test_foreign_keys_hold(database: Database) -> None:
    orphan = "INSERT INTO run_event (id, run_id, at, what, state) VALUES (1, 404, 0, 'x', 'CREATED')"
    async with database.connect_to_write() as connection:
        with pytest.raises(IntegrityError):
            await connection.execute(text(orphan))


async def test_given_an_audited_record_then_the_database_keeps_its_times(tmp_path: Path) -> None:
    class Note(Audited, table=True):
        __tablename__ = "test_note"
        id: int = Field(primary_key=True)
        text: str

    database = Database(Settings(home=tmp_path).database())
    async with database.connect_to_write() as connection:
        await connection.run_sync(lambda sync: SQLModel.metadata.tables["test_note"].create(sync))
    async with database.write() as session:
        note = Note(id=1, text="a")
        session.add(note)
        await session.flush()
        created = note.create_time
    await asyncio.sleep(0.01)
    async with database.write() as session:
        note = (await session.exec(select(Note))).one()
        note.text = "b"
        await session.flush()
        assert note.create_time == created
        assert note.modify_time is not None
        assert created is not None
        assert note.modify_time > created
    await database.close()
