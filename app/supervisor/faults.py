"""Crash points: with ``HLINK_CRASH_AT=<point>`` the process kills itself there, as ``kill -9`` would.

For the tests that kill the service between every two steps. Without the variable a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from types import MappingProxyType

POINTS: Mapping[str, str] = MappingProxyType(
    {
        "run.created": "a run is committed, the supervisor was not told of it",
        "transition.uncommitted": "a transition's UPDATE and event are written, not committed",
        "submission.begun": "SUBMITTING and the attempt are committed, nothing was submitted yet",
        "submission.done": "the cluster has the job, the service has not noted it",
        "submission.refused": "the submission was refused, FAILED is not committed",
        "submission.noted": "the first observations after the submission are committed",
        "observation.unrecorded": "a run was observed to have changed, nothing is committed",
        "stop.begun": "STOPPING and the attempt's token are committed, nothing was asked of the cluster",
        "stop.asked": "the cluster was asked to stop, what it answered is not committed",
        "stop.noted": "the savepoint's path or the attempt's failure is committed",
        "savepoint.asked": "a savepoint was asked for, what the cluster answered is not committed",
        "schedule.uncommitted": "a schedule's next time and the savepoint that was due are written, not committed",
        "schedule.fired": "a savepoint that was due is committed, nothing was asked of the cluster",
        "removal.noted": "savepoints are to be removed, none of their files were touched",
        "removal.done": "a savepoint's files are deleted, that they are is not committed",
        "recovery.found": "the job of a lost run is there again, nothing of that is committed",
        "recovery.chosen": "the state that a lost run goes on from is chosen, not committed",
        "lost.superfluous": "a lost job is there again beside its successor, it was not asked to end",
        "lease.claimed": "runs were claimed, nothing was done with them",
    }
)
"""Point -> the moment at which the process dies."""

VARIABLE = "HLINK_CRASH_AT"


def crash_point(point: str) -> None:
    """Die here if that was asked for."""
    wanted = os.environ.get(VARIABLE)
    if wanted is not None and wanted == point:
        os.kill(os.getpid(), signal.SIGKILL)


def check_the_wish() -> None:
    """Raises ``ValueError`` when the environment names a point that does not exist: such a test would test nothing."""
    wanted = os.environ.get(VARIABLE)
    if wanted is not None and wanted not in POINTS:
        raise ValueError(f"{VARIABLE}={wanted} is not a crash point; there are: {', '.join(POINTS)}")
