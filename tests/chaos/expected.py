"""What the service promises under faults, in one place: how long it may take, and what has to be done by hand."""

from __future__ import annotations

from typing import Any

SERVICE = {
    "HLINK_TICK_S": "0.5",
    "HLINK_LEASE_S": "3",
    "HLINK_PLANNER_TIMEOUT_S": "20",
    "HLINK_RECOVERIES": "1000",
    "HLINK_RECOVERY_PAUSE_S": "0.5",
}
"""The service's settings: a dead replica's runs move within lease and tick, before the API may be called wrong, and
jobs are started again by themselves however often they are lost."""

CONTRADICTION_S = 5.0
"""How long the API may say something else than Flink, while both answer."""

STARTS_WITHIN_S = 240.0
"""How long a replica may take until it answers, on a busy machine."""

WELL_AGAIN_S = 400.0
"""How long the service and its jobs may take until all is well after the last fault, on a busy machine."""

STAYS_STOPPED_S = 6.0
"""How long a job that a user has stopped is left like that, before the user restarts it."""

RUNNING, STOPPED, SUBMITTING = 1, 2, 9
"""Published codes of a job's status; 0 and 3 are those of a job that has ended or failed."""

LIVE = frozenset({"INITIALIZING", "CREATED", "RUNNING", "RESTARTING", "FAILING", "RECONCILING", "CANCELLING"})
"""Flink's words for a job that has not ended."""


def contradiction(status: int, job_id: str | None, flink: dict[str, str]) -> str | None:
    """In what the API contradicts Flink, for a person to read; None where it does not.

    ``status`` and ``job_id`` are what the API says; ``flink`` is id -> state, as Flink has it.
    """
    state = flink.get(job_id or "")
    if status == RUNNING and state not in LIVE:
        return f"the API calls it running, Flink has {job_id} as {state or 'unknown'}"
    if status == SUBMITTING and state == "RUNNING":
        return f"the API calls it submitting, Flink has {job_id} as RUNNING"
    if status not in (RUNNING, SUBMITTING) and state in LIVE:
        return f"the API says that it does not run ({status}), Flink has {job_id} as {state}"
    return None


def is_kept(savepoint: dict[str, Any]) -> bool:
    """Whether a savepoint of ``/jobs/{jobId}/savepoints`` must be there: complete, and not being removed."""
    return savepoint["state"] == "COMPLETED"
