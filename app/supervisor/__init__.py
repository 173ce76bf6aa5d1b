"""The durable job machine: knows runs and places, no family and no kind of work.

A family writes a run in its own transaction and lets the supervisor see to it::

    async with service.database.write() as session:
        run = await create_run(session, "flink", "hlink.job:12", spec)
    service.supervisor.kick(run)
    run = await service.supervisor.wait(run.id)
"""

from app.supervisor.loop import Pace, Supervisor
from app.supervisor.models import Event, Run, Savepoint, SavepointSchedule
from app.supervisor.retention import Retained
from app.supervisor.store import (
    active_run,
    create_run,
    events,
    history,
    latest_runs,
    request_restart,
    request_savepoint,
    request_stop,
    savepoints,
    want_no_more,
)
from app.supervisor.transitions import ENDED, Desired, Purpose, SavepointProgress, State, StopMode

__all__ = [
    "ENDED",
    "Desired",
    "Event",
    "Pace",
    "Purpose",
    "Retained",
    "Run",
    "Savepoint",
    "SavepointProgress",
    "SavepointSchedule",
    "State",
    "StopMode",
    "Supervisor",
    "active_run",
    "create_run",
    "events",
    "history",
    "latest_runs",
    "request_restart",
    "request_savepoint",
    "request_stop",
    "savepoints",
    "want_no_more",
]
