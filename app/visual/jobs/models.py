"""The jobs' tables: a graph, node by node."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger
from sqlmodel import Field, SQLModel

from app.database import Audited
from app.ids import new_id

SUBJECT = "visual.job:"
"""What a job's runs are runs of begins so; the job's id follows."""


class VisualJob(Audited, SQLModel, table=True):
    """A graph of an experiment (wire: 任务). A deleted one stays, for the history of its runs."""

    __tablename__ = "visual_job"

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    experiment_id: int = Field(sa_type=BigInteger, index=True)
    purpose: int
    """:class:`~app.visual.choices.Purpose`."""
    last_run_id: int | None = Field(default=None, sa_type=BigInteger)
    """Written with the run, in one transaction."""
    origin: str | None = Field(default=None, max_length=100, index=True)
    """The run and the node that brought out its graph, where one did."""

    @property
    def subject(self) -> str:
        """What its runs are runs of."""
        return f"{SUBJECT}{self.id}"


class GraphNode(SQLModel, table=True):
    """A node of a job's graph, as it was drawn."""

    __tablename__ = "visual_node"

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    job_id: int = Field(sa_type=BigInteger, index=True)
    top: int
    left: int
    component: str = Field(max_length=200)
    """The component's ``uuid``."""
    info: dict[str, Any] = Field(sa_type=JSON)
    """``cpntInfo`` as it was sent: it is answered again, and means nothing here."""
    attributes: list[dict[str, Any]] = Field(sa_type=JSON)
    """``key`` and ``value`` of its parameters."""
    edges: list[dict[str, str]] = Field(sa_type=JSON)
    """``from_id``, ``from_port``, ``to_id``, ``to_port``; an edge stands at one of its two nodes, or at both."""
