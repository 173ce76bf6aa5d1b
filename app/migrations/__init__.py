"""The schema's history (Alembic). Each family has a branch of its own, so that families do not wait for each other.

A new revision, from the models as they are, in a database that is up to date::

    alembic revision --autogenerate -m "add udf" --head hlink@head

The first revision of a new branch: ``--head base --branch-label hlink``.
"""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from sqlalchemy.engine import Connection


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration; with a connection, everything runs in its transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
