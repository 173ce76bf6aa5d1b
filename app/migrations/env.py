"""Alembic's entry: runs in the caller's transaction, or (from its own command line) on the set database."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from app.database import Database
from app.service import load_families
from app.settings import settings


def as_plain_text(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Enumerations and SQLModel's strings are text to the database: a migration must not change when a model does."""
    if kind == "type" and isinstance(item, sa.Enum | sa.types.TypeDecorator) and hasattr(item, "length"):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    return False


def run(connection: Connection) -> None:
    load_families()  # their tables
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        compare_type=True,
        render_as_batch=True,  # SQLite changes a table by copying it
        render_item=as_plain_text,
    )
    context.run_migrations()


async def run_on_the_set_database() -> None:
    database = Database(settings().database())
    try:
        async with database.engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await database.close()


if context.is_offline_mode():
    raise SystemExit("SQL scripts without a database are not offered: migrations run when the service starts")
given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(run_on_the_set_database())
