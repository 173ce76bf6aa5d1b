"""Targets, what is wrong with jobs, and what is to be sent. Times are epoch milliseconds by the database's clock."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Column, Enum, Index, Text, text
from sqlmodel import Field, SQLModel

from app.database import Audited, now_ms
from app.encryption import Encrypted
from app.ids import new_id

LONGEST_NAME = 200
LONGEST_URL = 2000

_PENDING = text("state = 'PENDING'")
_KEPT = text("del_flag <> -1")


class Kind(StrEnum):
    """What a notification is about."""

    FAILED = "FAILED"
    """A run of the job failed."""
    LOST = "LOST"
    """The cluster does not know the run any more."""
    FLAPPING = "FLAPPING"
    """Flink restarts the job again and again."""
    LAGGING = "LAGGING"
    """The job does not come up with what its sources bring."""
    CHECKPOINTS_FAILING = "CHECKPOINTS_FAILING"
    RECOVERED = "RECOVERED"
    """What was told of before is over."""


TROUBLES = tuple(kind for kind in Kind if kind is not Kind.RECOVERED)


class Progress(StrEnum):
    """How far a notification has come."""

    PENDING = "PENDING"
    SENT = "SENT"
    GIVEN_UP = "GIVEN_UP"


def _words(of: type[Any]) -> Enum:
    return Enum(of, native_enum=False, create_constraint=False, length=32)


class Target(Audited, SQLModel, table=True):
    """Somebody who is told. A removed one stays, for what was sent to it; its address does not."""

    __tablename__ = "hlink_notification_target"
    __table_args__ = (
        Index("hlink_notification_target_name", "name", unique=True, sqlite_where=_KEPT, postgresql_where=_KEPT),
    )

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    name: str = Field(max_length=LONGEST_NAME)
    secret: dict[str, str] | None = Field(default=None, sa_column=Column(Encrypted, nullable=True), repr=False)
    """``url``: the address as Apprise takes it, with all that is secret in it."""
    shown: str = Field(max_length=LONGEST_URL)
    """The address without its secrets."""
    kinds: list[str] = Field(sa_type=JSON)
    """What it is told of; all without any."""
    jobs: list[int] = Field(sa_type=JSON)
    """Of which jobs; of all without any."""
    since: int | None = Field(default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()})
    """It is told of what happens from then on: when it was added, or switched on again."""


class Trouble(SQLModel, table=True):
    """Something wrong with a job: one row for each kind, for as long as it lasts and afterwards."""

    __tablename__ = "hlink_trouble"

    job_id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    kind: Kind = Field(primary_key=True, sa_type=_words(Kind))
    run_id: int = Field(sa_type=BigInteger)
    since: int = Field(sa_type=BigInteger)
    """When it began, be it told of already or only suspected."""
    told_at: int | None = Field(default=None, sa_type=BigInteger)
    """When it was told of last; None while it is only suspected."""
    over_at: int | None = Field(default=None, sa_type=BigInteger)
    """When it was over; None while it lasts."""
    restarts: list[list[int]] = Field(default_factory=list, sa_type=JSON)
    """For FLAPPING: moments at which Flink's count of restarts was another one, each with the count."""


class Notification(SQLModel, table=True):
    """Something to be sent to one target: written with what it tells of, sent afterwards."""

    __tablename__ = "hlink_notification"
    __table_args__ = (Index("hlink_notification_due", "next_at", sqlite_where=_PENDING, postgresql_where=_PENDING),)
    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    target_id: int = Field(foreign_key="hlink_notification_target.id", sa_type=BigInteger)
    kind: Kind = Field(sa_type=_words(Kind))
    job_ids: list[int] = Field(sa_type=JSON)
    title: str = Field(sa_type=Text)
    body: str = Field(sa_type=Text)
    state: Progress = Field(default=Progress.PENDING, sa_type=_words(Progress))
    attempts: int = 0
    """How often sending it was begun."""
    next_at: int | None = Field(
        default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()}
    )
    """When it may be tried (again)."""
    reason: str | None = Field(default=None, sa_type=Text)
    """Why it could not be sent."""
    created_at: int | None = Field(
        default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()}
    )
    ended_at: int | None = Field(default=None, sa_type=BigInteger)


class EventCursor(SQLModel, table=True):
    """Up to where the supervisor's events have been read; one row, whose lock makes one replica the reader."""

    __tablename__ = "hlink_event_cursor"

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    event_id: int = Field(sa_type=BigInteger)
    """All events with a lower id have been read."""


class ReadEvent(SQLModel, table=True):
    """An event from beyond the cursor that has been read; see :mod:`app.hlink.notifications.reading`."""

    __tablename__ = "hlink_read_event"

    event_id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
