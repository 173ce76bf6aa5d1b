"""Wire models of what a change means to a job's state: ours."""

from __future__ import annotations

from pydantic import Field

from app.hlink.wire.jobs import JobEntity
from app.wire import OptionalText, Wire


class OperatorImpact(Wire):
    """What becomes of the state of one operator."""

    operator: str = Field(description="what it is: by table, by key, and by the statement that it is of")
    sources: list[str] = Field(description="the tables that its rows come from")
    sinks: list[str] = Field(description="the tables that its rows end in")
    verdict: str = Field(description="kept, kept with another meaning, incompatible, lost, new, unknown")
    reason: str
    remedy: OptionalText = Field(None, description="what to do; null where nothing is")


class JobImpact(Wire):
    """What becomes of a job's state when it is changed and started from it."""

    restores: bool = Field(description="whether all of it goes on as it is; else a restart is refused")
    summary: str
    state_of_version: int | None = Field(None, alias="stateOfVersion", description="the version that gathered it")
    state_path: OptionalText = Field(
        None, alias="statePath", description="the savepoint or checkpoint that was looked into; null while the job runs"
    )
    operators: list[OperatorImpact]


class ChangedJob(JobEntity):
    """The answer of ``/jobs/updateDO``; beside what is published, what the change means to the job's state."""

    impact: JobImpact | None = Field(None, description="null without a state, or without a change")
