"""The supervisor's tables. Times are epoch milliseconds by the database's clock."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, CheckConstraint, Enum, Index, Text, UniqueConstraint, false, text
from sqlmodel import Field, SQLModel

from app.database import now_ms
from app.ids import new_id
from app.supervisor.transitions import Desired, Purpose, SavepointProgress, State, StopMode


def _words(of: type[Any]) -> Enum:
    # As text and without a constraint: a new state must not need a change of the schema.
    return Enum(of, native_enum=False, create_constraint=False, length=16)


class Run(SQLModel, table=True):
    """One attempt to have something run outside: this row alone says what should be true.

    What somebody asked (``desired``, ``stop_mode``), what the service has committed (``state``) and what was seen
    outside (``observed``, with when and from where) are different columns and never stand for each other.
    """

    __tablename__ = "run"
    __table_args__ = (
        Index(
            "one_active_run_per_subject",
            "subject",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("runs_of_subject", "subject", "id"),
        Index(
            "active_runs",
            # Not when the lease ends: an index on what is renewed every few seconds would be written each time.
            "lease_owner",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index(
            "queue_of_place",
            "place",
            "started_at",
            sqlite_where=text("ended_at IS NULL AND slots IS NOT NULL"),
            postgresql_where=text("ended_at IS NULL AND slots IS NOT NULL"),
        ),
        Index(
            "runs_to_look_at_again",
            "look_again_at",
            sqlite_where=text("look_again_at IS NOT NULL"),
            postgresql_where=text("look_again_at IS NOT NULL"),
        ),
        CheckConstraint(
            "(ended_at IS NOT NULL) = (state IN ('FINISHED', 'FAILED', 'CANCELED', 'LOST'))", name="ended_is_final"
        ),
    )
    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    kind: str = Field(max_length=32)
    """Which runner looks after it."""
    subject: str = Field(max_length=128)
    """What it is a run of, for instance ``hlink.job:12``; the family's words."""
    spec: dict[str, Any] = Field(sa_type=JSON)
    """What the runner needs to start it. No secrets: this is shown and kept."""
    successor: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    """A restart is asked for: the ``spec`` of the run that begins in the transaction in which this one ends."""
    predecessor_id: int | None = Field(default=None, sa_type=BigInteger)
    """The run that this one goes on from."""
    external_id: str = Field(max_length=64, unique=True)
    """Its name outside (Flink's JobID, 32 hex digits): chosen and committed before anything is started."""

    place: str | None = Field(default=None, max_length=512)
    """Where it queues for slots; None for a run that needs none."""
    slots: int | None = None
    """How many slots it needs there."""
    priority: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """The higher is started first."""
    queued_at: int | None = Field(default=None, sa_type=BigInteger)
    """Since when it has been waiting for slots."""
    continues: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    """It was written when another run ended, whose slots it goes on with: it is ahead of all that are new."""
    recovery: int | None = None
    """It stands in for a run that was lost: which attempt that is, from 1, among those of late."""
    not_before: int | None = Field(default=None, sa_type=BigInteger)
    """It is not started before this moment."""

    state: State = Field(default=State.CREATED, sa_type=_words(State))
    reason: str | None = Field(default=None, sa_type=Text)
    """Why it is in this state, or what keeps it from the next one, for a person to read."""
    desired: Desired = Field(default=Desired.RUNNING, sa_type=_words(Desired))
    stop_mode: StopMode | None = Field(default=None, sa_type=_words(StopMode))
    stop_token: str | None = Field(default=None, max_length=32)
    """Names the current attempt to stop (Flink's triggerId), committed before the request: asking twice is once."""
    stop_native: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    """Whether the stop's savepoint is in the state backend's own format."""
    stop_requested_at: int | None = Field(default=None, sa_type=BigInteger)
    stop_attempts: int = 0
    stop_attempted_at: int | None = Field(default=None, sa_type=BigInteger)

    observed: str | None = Field(default=None, max_length=32)
    """The outside system's own word."""
    observed_at: int | None = Field(default=None, sa_type=BigInteger)
    look_id: int | None = Field(default=None, sa_type=BigInteger)
    """The looks that have found it as it is here, without writing it: the last of them was at :attr:`Look.at`."""
    observed_from: str | None = Field(default=None, max_length=512)
    """Where that was seen: the cluster's address."""
    missing_since: int | None = Field(default=None, sa_type=BigInteger)
    """Since when the outside system answers and does not know the run."""
    incarnation: str | None = Field(default=None, max_length=128)
    """Which life of the outside system the run was submitted to: one that was restarted has forgotten its ids."""

    attempts: int = 0
    """How often its submission was begun."""
    exception: str | None = Field(default=None, sa_type=Text)
    """The last failure's root cause."""
    checkpoint: str | None = Field(default=None, sa_type=Text)
    """Where the last complete checkpoint is."""
    checkpoint_at: int | None = Field(default=None, sa_type=BigInteger)
    """When that checkpoint was begun."""
    savepoint: str | None = Field(default=None, sa_type=Text)
    """Where the savepoint of its stop is, once it is complete."""
    latest_savepoint: str | None = Field(default=None, sa_type=Text)
    """Where the newest savepoint is that the outside system told of, whoever asked for it."""
    look_again_at: int | None = Field(default=None, sa_type=BigInteger)
    """When it is looked for again. It ended although nobody asked for that here: to find its last savepoint. Or it was
    lost: it may be there again."""
    restarts: int | None = None
    tasks_running: int | None = None
    tasks_total: int | None = None

    lease_owner: str | None = Field(default=None, max_length=64)
    lease_until: int | None = Field(default=None, sa_type=BigInteger)
    revision: int = Field(
        default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0", "onupdate": text("revision + 1")}
    )
    """Rises with every UPDATE that does not set it: a replica reads only what has changed since it read it last."""

    created_at: int | None = Field(
        default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()}
    )
    submitted_at: int | None = Field(default=None, sa_type=BigInteger)
    """When its last submission was begun."""
    started_at: int | None = Field(default=None, sa_type=BigInteger)
    """When it was first seen running."""
    down_ms: int | None = Field(default=None, sa_type=BigInteger)
    """How long nothing ran before: from the end of the run that it goes on from until it was first seen running."""
    ended_at: int | None = Field(default=None, sa_type=BigInteger)


class Look(SQLModel, table=True):
    """When a replica last looked at a place: one row that is written for all runs which that look found unchanged.

    A run names it (:attr:`Run.look_id`) while that is so, and for as long as nobody else has looked: after a takeover
    the run still tells when the replica that died had looked.
    """

    __tablename__ = "look"
    __table_args__ = (UniqueConstraint("owner", "place"),)

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    owner: str = Field(max_length=64)
    place: str = Field(max_length=512)
    at: int = Field(sa_type=BigInteger)


class Savepoint(SQLModel, table=True):
    """A copy of a run's state that is kept until somebody removes it; written down before it is asked for."""

    __tablename__ = "savepoint"
    __table_args__ = (
        Index("savepoints_of_subject", "subject", "id"),
        Index("savepoints_in_state", "state", "subject"),
        Index(
            "unsettled_savepoints",
            "run_id",
            sqlite_where=text("verified_at IS NULL AND state <> 'FAILED'"),
            postgresql_where=text("verified_at IS NULL AND state <> 'FAILED'"),
        ),
    )
    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    run_id: int = Field(foreign_key="run.id", sa_type=BigInteger)
    subject: str = Field(max_length=128)
    token: str = Field(max_length=32, unique=True)
    """Names the attempt (Flink's triggerId) and its folder; committed before the request: asking twice is once."""
    purpose: Purpose = Field(sa_type=_words(Purpose))
    drained: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    """Made after the sources were told that no more will come: its windows have fired."""
    native: bool = False
    """In the state backend's own format: quicker, and for that backend only. Otherwise any backend can read it."""
    state: SavepointProgress = Field(default=SavepointProgress.PENDING, sa_type=_words(SavepointProgress))
    path: str | None = Field(default=None, sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    """Why it failed, why it could not be verified, or why it could not be removed yet."""
    requested_at: int | None = Field(
        default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()}
    )
    ended_at: int | None = Field(default=None, sa_type=BigInteger)
    verified: bool | None = None
    """Whether its metadata could be read and every file that it names is there; None when that cannot be told."""
    verified_at: int | None = Field(default=None, sa_type=BigInteger)
    size: int | None = Field(default=None, sa_type=BigInteger)
    """Bytes of state."""
    checkpoint_id: int | None = Field(default=None, sa_type=BigInteger)
    """Its place in the order of all checkpoints and savepoints of its run."""
    made_with: str | None = Field(default=None, max_length=32)
    """The version of the outside system that made it."""
    removal: str | None = Field(default=None, sa_type=Text)
    """Why its files are deleted; committed before the first of them is."""
    removal_attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    removal_attempted_at: int | None = Field(default=None, sa_type=BigInteger)
    removed_at: int | None = Field(default=None, sa_type=BigInteger)


class SavepointSchedule(SQLModel, table=True):
    """When savepoints of a subject are made by themselves. Whoever moves ``next_at`` on carries that firing out."""

    __tablename__ = "savepoint_schedule"
    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    subject: str = Field(max_length=128, primary_key=True)
    cron: str = Field(max_length=128)
    time_zone: str = Field(max_length=64)
    """By IANA's name."""
    native: bool = False
    next_at: int = Field(sa_type=BigInteger, index=True)
    fired_at: int | None = Field(default=None, sa_type=BigInteger)
    outcome: str | None = Field(default=None, sa_type=Text)
    """What became of the last firing."""


class SavepointRetention(SQLModel, table=True):
    """How many savepoints of a subject are kept, and how long, where that is not as for all."""

    __tablename__ = "savepoint_retention"

    subject: str = Field(max_length=128, primary_key=True)
    most: int
    """0: any number."""
    days: int
    """0: for ever."""


class Event(SQLModel, table=True):
    """Something that happened to a run. Only ever added, in the same transaction as what it tells of."""

    __tablename__ = "run_event"
    __table_args__ = (Index("events_of_run", "run_id", "id"),)
    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    run_id: int = Field(foreign_key="run.id", sa_type=BigInteger)
    at: int | None = Field(default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()})
    what: str = Field(max_length=32)
    """``created``, ``state``, ``observed``, ``submission``, ``stop requested``, ``stop attempt``, ``taken over`` ..."""
    state: State = Field(sa_type=_words(State))
    """The run's state after it."""
    message: str | None = Field(default=None, sa_type=Text)
    by: str | None = Field(default=None, max_length=64)
    """The replica that did it; None for a request from outside."""
