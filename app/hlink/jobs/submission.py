"""The way of a run to Flink: its version's compiled plan, with the secrets put in at the last moment."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from sqlmodel import col, select

from app.database import Database
from app.hlink.clusters import service as clusters
from app.hlink.jobs.models import JobTableLink, JobVersion
from app.hlink.tables import service as tables
from app.hlink.tables.definition import to_definition
from app.supervisor import Run
from app.supervisor.runners.base import (
    AlreadySubmitted,
    Inspection,
    SubmissionRefused,
    SubmissionUncertain,
    Unreachable,
)
from stream_jobs.planner.client import Planner, PlannerError
from stream_jobs.planner.plan import fill_in, secrets_of_tables
from stream_jobs.sql.diagnosis import Refusal

_DUPLICATES = ("DuplicateApplicationSubmissionException", "DuplicateJobSubmissionException")


class PlanSubmitter:
    """Submits runs of SQL jobs through the planner."""

    def __init__(self, database: Database, planner: Planner) -> None:
        self._database = database
        self._planner = planner

    async def submit(self, run: Run) -> None:
        """Submit a run under its ``external_id``.

        Raises:
            SubmissionRefused: nothing was started and nothing would be.
            AlreadySubmitted: Flink has had this id.
            SubmissionUncertain: it is not known whether Flink got it.
        """
        async with self._database.read() as session:
            version = await session.get(JobVersion, run.spec["version"])
            if version is None:
                raise SubmissionRefused("The job's version that this run was to start is not there any more")
            links = (await session.exec(select(JobTableLink).where(col(JobTableLink.job_id) == version.job_id))).all()
            used = await tables.find_all(session, [link.table_id for link in links])
            authorization = await clusters.authorization(session, str(run.spec["flink_url"]))
        secrets = secrets_of_tables((to_definition(table) for table in used.values()), str(version.job_id))
        options = {**version.options, **await self._restored_from(run), **_target(run)}
        try:
            answer = await self._planner.execute(fill_in(version.compiled, secrets), options, authorization)
        except PlannerError as error:
            raise SubmissionUncertain(str(error)) from error
        if "error" not in answer:
            return
        refusal = Refusal.read(answer["error"])
        if any(name in kind or name in message for kind, message in refusal.causes for name in _DUPLICATES):
            raise AlreadySubmitted
        if answer["error"].get("step") == "load":
            raise SubmissionRefused(f"Flink cannot read the job's plan: {refusal.innermost}")
        raise SubmissionUncertain(refusal.innermost)

    async def inspect(self, path: str) -> Inspection:
        """See :meth:`stream_jobs.planner.client.Planner.inspect_savepoint`. Raises ``Unreachable``."""
        try:
            found = await self._planner.inspect_savepoint(path)
        except PlannerError as error:
            raise Unreachable(str(error)) from error
        return Inspection(found["complete"], found.get("reason"), found.get("size"))

    async def _restored_from(self, run: Run) -> Mapping[str, str]:
        """What a restart goes on from, whatever the job's definition says of the first start.

        Flink accepts a savepoint that lacks a file, and fails later, for ever: it is refused before.
        """
        path = run.spec.get("restore")
        if path is None:
            return {}
        is_checkpoint = str(path).rstrip("/").rpartition("/")[2].startswith("chk-")
        look = self._planner.newest_checkpoint if is_checkpoint else self._planner.inspect_savepoint
        try:
            found = await look(path)
        except PlannerError as error:
            raise SubmissionUncertain(str(error)) from error
        if found["complete"] is False:
            raise SubmissionRefused(
                f"The state at {path} that it was to go on from is not whole: {found['reason']}. It was not started; "
                "start it from an older savepoint (savepointPath), or without state"
            )
        return {
            "execution.state-recovery.path": str(found.get("path", path)),
            "execution.state-recovery.ignore-unclaimed-state": str(bool(run.spec.get("allow_non_restored"))).lower(),
        }


def _target(run: Run) -> Mapping[str, str]:
    parts = urlsplit(str(run.spec["flink_url"]))
    options = {
        "rest.address": parts.hostname or "",
        "rest.port": str(parts.port or (443 if parts.scheme == "https" else 80)),
        "$internal.pipeline.job-id": run.external_id,
    }
    if parts.scheme == "https":
        options["security.ssl.rest.enabled"] = "true"
    if path := parts.path.strip("/"):
        options["rest.path"] = f"/{path}"  # Flink 2.3 does not heed rest.url-prefix here
    return options
