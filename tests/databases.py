"""Databases for tests of the service's own tables."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from stream_jobs.local.endpoints import PostgresEndpoint


@contextmanager
def postgres_schema(postgres: PostgresEndpoint) -> Iterator[str]:
    """The address of an empty schema of its own in this PostgreSQL; dropped at the end."""
    name = f"hlink_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(**postgres.parameters(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        try:
            yield f"{postgres.url}?options=-csearch_path%3D{name}"
        finally:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
