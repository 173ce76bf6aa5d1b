"""A job's settings of how it is looked after: its place among those that wait for slots, and what becomes of it when
it is lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.errors import InvalidInput, Problem
from app.hlink.jobs.definition import JarJob
from app.hlink.jobs.models import StoredJob
from app.supervisor import State
from stream_jobs.definitions import Job

LOST = "lost"
RECOVERED: Mapping[str, tuple[State, ...]] = {
    "none": (),
    LOST: (State.LOST,),
    "failed": (State.LOST, State.FAILED),
}
"""``recover`` of a job -> the ends after which it is started again."""

_HIGHEST = 1_000_000
# Options of tables, and hints in statements, that give one operator a parallelism of its own.
_FIXED_PARALLELISM = re.compile(r'"(?:sink|scan)\.parallelism"\s*:\s*"(\d{1,5})"')


def check(settings: Mapping[str, Any]) -> None:
    """Raises :class:`~app.errors.InvalidInput` with every setting that cannot be."""
    problems = []
    if (recover := settings.get("recover")) not in (None, *RECOVERED):
        problems.append(Problem(f"{recover!r} is not possible", field="recover", remedy="use none, lost or failed"))
    if (without := settings.get("recover_without_state")) not in (None, 0, 1):
        problems.append(Problem(f"{without} is not possible", field="recoverWithoutState", remedy="use 0 or 1"))
    if abs(priority := settings.get("priority") or 0) > _HIGHEST:
        remedy = f"use {-_HIGHEST} to {_HIGHEST}"
        problems.append(Problem(f"{priority} is not possible", field="priority", remedy=remedy))
    if (limit := settings.get("queue_limit_s")) is not None and limit < 0:
        remedy = "use 0 for no limit, or the seconds that it waits at most"
        problems.append(Problem(f"{limit} is not possible", field="queueLimitS", remedy=remedy))
    if problems:
        raise InvalidInput(*problems)


def needed_slots(definition: Job | JarJob, compiled: str) -> int:
    """How many slots the job takes: all its operators share slots, so as many as the most parallel one has subtasks."""
    fixed = (int(found) for found in _FIXED_PARALLELISM.findall(compiled))
    return max(definition.execution.parallelism, *fixed, 1)


def queue_of(job: StoredJob, place: str, slots: int, wait_s: float) -> dict[str, Any]:
    """What the queue for slots goes by (:mod:`app.supervisor.queue`); ``wait_s`` is for jobs that do not say it."""
    own = job.settings.get("queue_limit_s")
    return {
        "place": place,
        "slots": slots,
        "priority": job.settings.get("priority") or 0,
        "wait_s": (wait_s if own is None else own) or None,
        "name": job.name,
    }


def recovery_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What becomes of a run that is lost (:mod:`app.supervisor.recovery`)."""
    return {
        "of": list(RECOVERED[settings.get("recover") or LOST]),
        "without_state": settings.get("recover_without_state") == 1,
    }
