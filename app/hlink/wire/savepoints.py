"""Wire models of savepoints: ours, the published API has only the call that makes one."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from app.wire import Int32, Int64, OptionalDateTime, OptionalInt32, OptionalInt64, OptionalText, Wire


class StopChoice(StrEnum):
    """How a job is stopped."""

    SAVEPOINT = "savepoint"
    """With a savepoint; when none can be made the job goes on."""
    DRAIN = "drain"
    """With a savepoint, after its windows have fired, as if no more rows would come."""
    NONE = "none"
    """At once, without a savepoint."""


class SavepointView(Wire):
    """A savepoint of a job, whatever became of it."""

    id: Int64
    run_id: Int64 = Field(alias="runId")
    purpose: str = Field(description="REQUEST, SCHEDULE, STOP, RESTART: why it was made; OUTSIDE: not by this service")
    format: str = Field(description="CANONICAL, NATIVE")
    state: str = Field(description="PENDING, COMPLETED, FAILED, REMOVING, REMOVED")
    path: OptionalText = None
    size: OptionalInt64 = Field(None, description="bytes of state")
    verified: bool | None = Field(
        None, description="whether its metadata was read and every file of it found; null: not (yet) to be told"
    )
    reason: OptionalText = Field(None, description="why it failed, could not be verified, or is not removed yet")
    requested_at: OptionalDateTime = Field(None, alias="requestTime")
    ended_at: OptionalDateTime = Field(None, alias="endTime")
    duration_ms: OptionalInt64 = Field(None, alias="durationMs", description="from the request until it was complete")
    drained: bool = Field(False, description="its windows have fired, as if no more rows would come")
    version: OptionalInt32 = Field(None, alias="jobVersion", description="the job's version that made it")
    flink_version: OptionalText = Field(None, alias="flinkVersion")
    removal: OptionalText = Field(None, description="why its files are deleted")
    removed_at: OptionalDateTime = Field(None, alias="removeTime")


class ScheduleBody(Wire):
    """When savepoints of a job are made by themselves."""

    # Misspelt, a field would be ignored and the default taken in silence.
    model_config = ConfigDict(extra="forbid")

    cron: str = Field(max_length=128, description="minute, hour, day of month, month, day of week; '0 * * * *' hourly")
    time_zone: str = Field("UTC", alias="timeZone", max_length=64, description="as Asia/Shanghai")
    native: bool = Field(False, description="in the state backend's own format")


class ScheduleView(Wire):
    """When savepoints of a job are made by themselves, and what became of the last time."""

    job_id: Int64 = Field(alias="jobId")
    job_name: OptionalText = Field(None, alias="jobName")
    cron: str
    time_zone: str = Field(alias="timeZone")
    native: bool
    next_at: OptionalDateTime = Field(None, alias="nextTime")
    fired_at: OptionalDateTime = Field(None, alias="lastTime")
    outcome: OptionalText = Field(None, alias="lastOutcome")


class RetentionBody(Wire):
    """How many savepoints of a job are kept, and how long; both left out: as the service's settings say."""

    model_config = ConfigDict(extra="forbid")

    most: OptionalInt32 = Field(None, ge=0, description="0: any number")
    days: OptionalInt32 = Field(None, ge=0, description="0: for ever")


class RetentionView(Wire):
    """How many savepoints of a job are kept, and how long; 0 sets no limit."""

    most: Int32
    days: Int32
