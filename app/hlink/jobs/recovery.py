"""What runs of jobs left behind: where their checkpoints are, and whether they are whole."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from app.database import Database
from app.hlink.jobs.models import JobVersion
from app.supervisor import Run
from app.supervisor.runners.base import LeftState, Unreachable
from stream_jobs.planner.client import Planner, PlannerError
from stream_jobs.rest import Clusters, FlinkRestError


class LeftStates:
    """Looks for the states of runs, by the planner, which reads their files."""

    def __init__(self, database: Database, planner: Planner, clusters: Clusters) -> None:
        self._database = database
        self._planner = planner
        self._clusters = clusters

    async def look(self, run: Run, path: str | None) -> LeftState | None:
        """See :meth:`app.supervisor.runners.base.Runner.left_state`. Raises ``Unreachable`` without a planner."""
        wanted = path
        if wanted is None:
            folder = await checkpoint_folder(self._database, self._clusters, run)
            if folder is None:
                return None
            wanted = f"{folder}/{run.external_id}/chk-0"
        try:
            found = await state_at(self._planner, wanted)
        except PlannerError as error:
            raise Unreachable(str(error)) from error
        if path is None and not found["complete"]:
            return None  # there was none
        return LeftState(str(found.get("path", wanted)), found["complete"], found.get("reason"))


async def state_at(planner: Planner, path: str) -> Mapping[str, Any]:
    """What the files of a savepoint say, or those of the newest checkpoint of the job that a noted one is of.

    As :meth:`~stream_jobs.planner.client.Planner.inspect_savepoint` and ``newest_checkpoint``; raises PlannerError.
    """
    is_checkpoint = path.rstrip("/").rpartition("/")[2].startswith("chk-")
    found: Mapping[str, Any] = await (planner.newest_checkpoint if is_checkpoint else planner.inspect_savepoint)(path)
    return found


async def checkpoint_folder(database: Database, clusters: Clusters, run: Run) -> str | None:
    """Where the run's checkpoints are, each run's in a folder of its id; None when that cannot be told."""
    async with database.read() as session:
        version = await session.get(JobVersion, run.spec["version"])
    settings = [version.options] if version is not None else []
    with contextlib.suppress(FlinkRestError):
        settings.append(await clusters.at(run.spec["flink_url"]).configuration())
    for options in settings:
        for name in ("execution.checkpointing.dir", "state.checkpoints.dir"):
            if folder := options.get(name):
                return folder.rstrip("/")
    return None
