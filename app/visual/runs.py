"""What runs say to this family: their state as a published status, in Python and in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import col

from app.supervisor import Run, State
from app.visual.choices import Status

KIND = "visual"
"""The kind of this family's runs."""

STATUS: Mapping[State, Status] = {
    State.CREATED: Status.WAITING,
    State.SUBMITTING: Status.WAITING,
    State.RUNNING: Status.RUNNING,
    State.RESTARTING: Status.RUNNING,
    State.STOPPING: Status.RUNNING,
    State.FINISHED: Status.SUCCEEDED,
    State.CANCELED: Status.STOPPED,
    State.FAILED: Status.FAILED,
    State.LOST: Status.FAILED,
}


def status_of(run: Run | None) -> Status:
    """The status of whatever ``run`` is the newest run of."""
    return Status.PREPARING if run is None else STATUS[run.state]


def has_status(asked: int | None, run_id: Any) -> list[ColumnElement[bool]]:
    """Rows whose newest run, joined by its id ``run_id``, gives this status; all rows without one."""
    if asked is None:
        return []
    if asked == Status.PREPARING:
        return [run_id.is_(None)]
    return [col(Run.state).in_([state for state, status in STATUS.items() if status == asked])]
