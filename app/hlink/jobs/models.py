"""Jobs, the tables they use, and their versions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel

from app.database import Audited, now_ms
from app.ids import new_id

SQL, JAR = 0, 1
"""``kind`` of a job (wire: ``jobType``)."""

_KEPT = text("del_flag = 1")


SUBJECT = "hlink.job:"


def subject_of(job_id: int) -> str:
    """What the supervisor calls the runs of a job."""
    return f"{SUBJECT}{job_id}"


class StoredJob(Audited, SQLModel, table=True):
    """A job (wire: 作业) as its user defined it. Its runs are the supervisor's business."""

    __tablename__ = "hlink_job"
    __table_args__ = (Index("hlink_job_name", "name", unique=True, sqlite_where=_KEPT, postgresql_where=_KEPT),)

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    code: str = Field(max_length=64)
    name: str = Field(max_length=200)
    description: str = Field(default="", max_length=2000)
    kind: int = SQL
    cluster_id: int = Field(sa_type=BigInteger, index=True)
    settings: dict[str, Any] = Field(sa_type=JSON)
    """How it runs, by the names of :class:`~app.hlink.wire.jobs.JobView`."""


class JobTableLink(SQLModel, table=True):
    """A table that a job uses, and the statement of a sink (wire: ``jobDsVOS``)."""

    __tablename__ = "hlink_job_table"

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    job_id: int = Field(sa_type=BigInteger, foreign_key="hlink_job.id", index=True)
    table_id: int = Field(sa_type=BigInteger, index=True)
    role: str = Field(max_length=16)
    sql: str = Field(default="", sa_type=Text)


class JobVersion(SQLModel, table=True):
    """What one set of definitions was planned to; runs are started from it. Never changed, holds no secret."""

    __tablename__ = "hlink_job_version"
    __table_args__ = (Index("hlink_job_version_number", "job_id", "number", unique=True),)

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    job_id: int = Field(sa_type=BigInteger, foreign_key="hlink_job.id")
    number: int
    digest: str = Field(max_length=64)
    """Of everything that went into the plan: a job whose digest is another one has to be planned again."""
    script: str = Field(sa_type=Text)
    """The generated SQL, for people."""
    compiled: str = Field(sa_type=Text)
    """Flink's compiled plan as JSON, with placeholders for secrets."""
    options: dict[str, str] = Field(sa_type=JSON)
    definition: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    """The job as its user had defined it (:func:`~app.hlink.jobs.versions.definition_of`); None in versions from before
    this was kept."""
    functions: list[dict[str, str]] = Field(
        default_factory=list, sa_type=JSON, sa_column_kwargs={"server_default": "[]"}
    )
    """The functions that it was planned with, each a :class:`~stream_jobs.definitions.Function`'s fields."""
    highest_operator: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """The greatest number that an operator of the job has had up to this version; 0 in versions from before they were
    kept."""
    created_at: int | None = Field(
        default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()}
    )


class JobMessage(SQLModel, table=True):
    """What became of a job outside of its runs: a start that was refused before there was a run. Only ever added."""

    __tablename__ = "hlink_job_message"
    __table_args__ = (Index("hlink_job_messages_of_job", "job_id", "id"),)

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    job_id: int = Field(sa_type=BigInteger, foreign_key="hlink_job.id")
    at: int | None = Field(default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()})
    message: str = Field(sa_type=Text)
