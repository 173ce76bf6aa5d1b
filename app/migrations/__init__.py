"""The schema's history (Alembic). Each family has a branch of its own, so that families do not wait for each other.

A new revision, from the models as they are, in a database that is up to date::

    alembic revision --autogenerate -m "add udf" --head hlink@head

The first revision of a new branch: ``--head base --branch-label hlink``.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.engine import Connection

from app.database import Database

_LOCK = 0x686C696E6B  # "hlink"


async def migrate(database: Database) -> None:
    """Bring the schema up to date; replicas that start at once wait for each other.

    All in one transaction: on SQLite its being a writer is the lock, on PostgreSQL an advisory lock is taken.
    """
    await database.create()
    async with database.connect_to_write() as connection:
        if not database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        await connection.run_sync(lambda sync: command.upgrade(configuration(sync), "heads"))


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration; with a connection, everything runs in its transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
