"""The way of a run to Flink: its version's compiled plan, with the secrets put in at the last moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from sqlmodel import col, select

from app.database import Database
from app.hlink.jobs.models import JobTableLink, JobVersion
from app.hlink.tables import service as tables
from app.hlink.tables.definition import to_definition
from app.supervisor import Run
from app.supervisor.runners.base import AlreadySubmitted, SubmissionRefused, SubmissionUncertain
from stream_jobs.definitions import Function, FunctionKind
from stream_jobs.planner.client import Planner, PlannerError
from stream_jobs.planner.function_sets import FunctionSet
from stream_jobs.planner.functions import FunctionFileMissing, prepare
from stream_jobs.planner.plan import fill_in, secrets_of_tables
from stream_jobs.rest import Clusters, FlinkRestError
from stream_jobs.sql.diagnosis import Refusal

_DUPLICATES = ("DuplicateApplicationSubmissionException", "DuplicateJobSubmissionException")


class PlanSubmitter:
    """Submits runs of SQL jobs through the planner."""

    def __init__(self, database: Database, planner: Planner, clusters: Clusters) -> None:
        self._database = database
        self._planner = planner
        self._clusters = clusters

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
        secrets = secrets_of_tables((to_definition(table) for table in used.values()), str(version.job_id))
        options = {**version.options, **_target(run)}
        try:
            functions = await self._functions(version, str(run.spec["flink_url"]))
            answer = await self._planner.execute(fill_in(version.compiled, secrets), options, functions)
        except FunctionFileMissing as error:
            raise SubmissionRefused(str(error)) from error
        except (PlannerError, FlinkRestError) as error:
            raise SubmissionUncertain(str(error)) from error
        if "error" not in answer:
            return
        refusal = Refusal.read(answer["error"])
        if any(name in kind or name in message for kind, message in refusal.causes for name in _DUPLICATES):
            raise AlreadySubmitted
        if refusal.function is not None:
            raise SubmissionRefused(f"A function of the job cannot be made: {refusal.innermost}")
        if answer["error"].get("step") == "load":
            raise SubmissionRefused(f"Flink cannot read the job's plan: {refusal.innermost}")
        raise SubmissionUncertain(refusal.innermost)

    async def _functions(self, version: JobVersion, flink_url: str) -> FunctionSet:
        """The version's functions, made ready; the product's own come along where the cluster lacks their jars."""
        functions, config = _called(version), self._planner.config
        lacking = False
        if any(not function.sha256 for function in functions):
            present = await self._clusters.at(flink_url).libraries()
            lacking = any(jar.name not in present for jar in config.shipped_jars)
        return await asyncio.to_thread(prepare, functions, config, bring_shipped=lacking)


def _called(version: JobVersion) -> list[Function]:
    return [Function(**{**fields, "kind": FunctionKind(fields["kind"])}) for fields in version.functions]  # type: ignore[arg-type]


def _target(run: Run) -> Mapping[str, str]:
    parts = urlsplit(str(run.spec["flink_url"]))
    options = {
        "rest.address": parts.hostname or "",
        "rest.port": str(parts.port or (443 if parts.scheme == "https" else 80)),
        "$internal.pipeline.job-id": run.external_id,
    }
    if parts.scheme == "https":
        options["security.ssl.rest.enabled"] = "true"
    return options
