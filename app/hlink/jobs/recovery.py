"""What runs of jobs left behind: where their checkpoints are, and whether they are whole."""

from __future__ import annotations

import contextlib

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
        is_checkpoint = wanted.rstrip("/").rpartition("/")[2].startswith("chk-")
        ask = self._planner.newest_checkpoint if is_checkpoint else self._planner.inspect_savepoint
        try:
            found = await ask(wanted)
        except PlannerError as error:
            raise Unreachable(str(error)) from error
        if path is None and not found["complete"]:
            return None  # there was none
        return LeftState(str(found.get("path", wanted)), found["complete"], found.get("reason"))


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
