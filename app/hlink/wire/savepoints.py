"""Wire models of savepoints: ours, the published API has only the call that makes one."""

from __future__ import annotations

from pydantic import Field

from app.hlink.wire.envelope import Int64, OptionalDateTime, OptionalInt64, OptionalText, Wire


class SavepointView(Wire):
    """A savepoint of a job, whatever became of it."""

    id: Int64
    run_id: Int64 = Field(alias="runId")
    purpose: str = Field(description="REQUEST, STOP, RESTART: why it was made; OUTSIDE: not by this service")
    format: str = Field(description="CANONICAL, NATIVE")
    state: str = Field(description="PENDING, COMPLETED, FAILED")
    path: OptionalText = None
    size: OptionalInt64 = Field(None, description="bytes of state")
    verified: bool | None = Field(
        None, description="whether its metadata was read and every file of it found; null: not (yet) to be told"
    )
    reason: OptionalText = Field(None, description="why it failed or could not be verified")
    requested_at: OptionalDateTime = Field(None, alias="requestTime")
    ended_at: OptionalDateTime = Field(None, alias="endTime")
