"""The experiments' table."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field, SQLModel

from app.database import Audited
from app.ids import new_id

LONGEST_NAME = 200
LONGEST_DESCRIPTION = 2000

_KEPT = text("del_flag = 1")


class Experiment(Audited, SQLModel, table=True):
    """An experiment (wire: 实验); its jobs are runs of graphs that are made in it."""

    __tablename__ = "visual_experiment"
    __table_args__ = (Index("visual_experiment_name", "name", unique=True, sqlite_where=_KEPT, postgresql_where=_KEPT),)

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    name: str = Field(max_length=LONGEST_NAME)
    pattern: int
    """:class:`~app.visual.choices.Pattern`."""
    learning: int
    """:class:`~app.visual.choices.Learning`."""
    framework: int
    """:class:`~app.visual.catalogue.Framework`."""
    description: str = Field(default="", max_length=LONGEST_DESCRIPTION)
