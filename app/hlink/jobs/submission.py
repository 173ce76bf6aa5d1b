"""The way of a run to Flink: its version's compiled plan, with the secrets put in at the last moment, or its jar."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from urllib.parse import urlsplit

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database
from app.errors import NotFound
from app.hlink.clusters import service as clusters
from app.hlink.jars.service import bring
from app.hlink.jobs.models import JAR, JobTableLink, JobVersion
from app.hlink.jobs.recovery import LeftStates, state_at
from app.hlink.tables import service as tables
from app.hlink.tables.definition import to_definition
from app.hlink.tables.models import StoredTable
from app.supervisor import Run
from app.supervisor.runners.base import (
    AlreadySubmitted,
    Inspection,
    LeftState,
    SubmissionRefused,
    SubmissionUncertain,
    Unreachable,
)
from app.uploads import Files
from stream_jobs.definitions import Function, FunctionKind, Table
from stream_jobs.models import is_of_a_model
from stream_jobs.planner.client import Planner, PlannerError, PlannerUnavailable
from stream_jobs.planner.function_sets import NO_FUNCTIONS, FunctionSet
from stream_jobs.planner.functions import FunctionFileMissing, prepare
from stream_jobs.planner.plan import fill_in, secrets_of_tables
from stream_jobs.rest import Cluster as FlinkCluster
from stream_jobs.rest import ClusterError, Clusters, FlinkRestError, JobNotFound
from stream_jobs.sql.ddl import PLACEHOLDER
from stream_jobs.sql.diagnosis import Refusal, of_plan

LEAVES = "leaves_state_of"
"""In a run's spec: the run whose state it does not take over, although it comes behind it."""
_PATH = "execution.state-recovery.path"
_IGNORE_UNCLAIMED = "execution.state-recovery.ignore-unclaimed-state"
_CLAIM_MODE = "execution.state-recovery.claim-mode"
_DUPLICATES = ("DuplicateApplicationSubmissionException", "DuplicateJobSubmissionException")


class JobSubmitter:
    """Submits each run in the way of its job."""

    def __init__(self, plans: PlanSubmitter, jars: JarSubmitter, left: LeftStates) -> None:
        self._plans = plans
        self._jars = jars
        self._left = left

    async def submit(self, run: Run) -> None:
        """See :meth:`PlanSubmitter.submit`."""
        await (self._jars if run.spec.get("job_kind") == JAR else self._plans).submit(run)

    async def inspect(self, path: str) -> Inspection:
        """See :meth:`PlanSubmitter.inspect`."""
        return await self._plans.inspect(path)

    async def savepoint_in(self, folder: str) -> str | None:
        """See :meth:`PlanSubmitter.savepoint_in`."""
        return await self._plans.savepoint_in(folder)

    async def remove_savepoint(self, folder: str) -> str | None:
        """See :meth:`PlanSubmitter.remove_savepoint`."""
        return await self._plans.remove_savepoint(folder)

    async def left_state(self, run: Run, path: str | None) -> LeftState | None:
        """See :meth:`~app.hlink.jobs.recovery.LeftStates.look`."""
        return await self._left.look(run, path)


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
            Unreachable: nothing was sent, because no planner is ready.
        """
        async with self._database.read() as session:
            version = await _version_of(session, run)
            used = await _tables_of(session, version) if PLACEHOLDER in version.compiled else ()
            authorization = await clusters.authorization(session, str(run.spec["flink_url"]))
        secrets = secrets_of_tables(map(to_definition, used), str(version.job_id))
        options = {**await _with_origin(self._planner, run, version.options), **_target(run)}
        try:
            functions = await _functions_of(self._planner, self._clusters, version, str(run.spec["flink_url"]))
            answer = await self._planner.execute(
                fill_in(version.compiled, secrets), options, functions, authorization=authorization
            )
        except FunctionFileMissing as error:
            raise SubmissionRefused(str(error)) from error
        except PlannerUnavailable as error:
            raise Unreachable(str(error)) from error
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
            raise SubmissionRefused(f"Flink cannot make a job of the plan: {of_plan(refusal)}")
        raise SubmissionUncertain(refusal.innermost)

    async def inspect(self, path: str) -> Inspection:
        """See :meth:`stream_jobs.planner.client.Planner.inspect_savepoint`. Raises ``Unreachable``."""
        try:
            found = await self._planner.inspect_savepoint(path)
        except PlannerError as error:
            raise Unreachable(str(error)) from error
        return Inspection(found["complete"], found.get("reason"), found.get("size"), found.get("checkpoint_id"))

    async def savepoint_in(self, folder: str) -> str | None:
        """See :meth:`stream_jobs.planner.client.Planner.inspect_savepoint_in`. Raises ``Unreachable``."""
        try:
            found = await self._planner.inspect_savepoint_in(folder)
        except PlannerError as error:
            raise Unreachable(str(error)) from error
        return str(found["path"]) if found["complete"] is True else None

    async def remove_savepoint(self, folder: str) -> str | None:
        """See :meth:`stream_jobs.planner.client.Planner.remove_savepoint`. Raises ``Unreachable``."""
        try:
            found = await self._planner.remove_savepoint(folder)
        except PlannerError as error:
            raise Unreachable(str(error)) from error
        return None if found["gone"] is True else str(found["reason"])


class JarSubmitter:
    """Submits runs of programs in jars through Flink's REST API."""

    def __init__(self, database: Database, planner: Planner, flink: Clusters, files: Files, timeout_s: float) -> None:
        """``timeout_s`` is how long a program may take until it has submitted its job."""
        self._database = database
        self._planner = planner
        self._flink = flink
        self._files = files
        self._timeout_s = timeout_s

    async def submit(self, run: Run) -> None:
        """Bring the jar to the cluster if it lacks it, and run its program under the run's ``external_id``.

        Raises what :meth:`PlanSubmitter.submit` raises.
        """
        async with self._database.read() as session:
            version = await _version_of(session, run)
        program = json.loads(version.compiled)
        options = await _with_origin(self._planner, run, version.options)
        body = {
            "jobId": run.external_id,
            "entryClass": program["entryClass"],
            "programArgsList": program["programArgsList"],
            "parallelism": program["parallelism"],
            "savepointPath": options.pop(_PATH, None),
            "allowNonRestoredState": options.pop(_IGNORE_UNCLAIMED, "") == "true",
            "claimMode": options.pop(_CLAIM_MODE, None),
            "flinkConfiguration": options,
        }
        cluster = self._flink.at(str(run.spec["flink_url"]))
        try:
            file = self._files.path(program["sha256"], program["jar"])
            await cluster.run_jar(await bring(cluster, file, program["jar"]), body, self._timeout_s)
        except NotFound as error:
            raise SubmissionRefused(error.message) from error
        except ClusterError as error:
            await _judge(cluster, run, error)
        except FlinkRestError as error:
            raise SubmissionUncertain(str(error)) from error


async def _judge(cluster: FlinkCluster, run: Run, error: ClusterError) -> None:
    """What a program's failure means: it may have submitted its job before, and only the cluster knows."""
    if any(name in error.message for name in _DUPLICATES):
        raise AlreadySubmitted from error
    try:
        await cluster.status(run.external_id)
    except JobNotFound:
        raise SubmissionRefused(f"The program failed before it submitted its job: {error.message}") from error
    except FlinkRestError:
        raise SubmissionUncertain(error.message) from error


async def translate_ahead(
    planner: Planner, clusters: Clusters, version: JobVersion, tables: Iterable[Table], flink_url: str
) -> None:
    """Have the planner translate a version's plan, for its start as it is defined, which follows within a moment.

    The start does it itself where that came to nothing: what fails here is told there. One that goes on from a state
    has to look into that first, and has it as an option.
    """
    if _PATH in version.options:
        return
    secrets = secrets_of_tables(tables, str(version.job_id)) if PLACEHOLDER in version.compiled else {}
    with contextlib.suppress(PlannerError, FlinkRestError):
        functions = await _functions_of(planner, clusters, version, flink_url)
        planner.translate_ahead(fill_in(version.compiled, secrets), _without_origin(version.options), functions)


async def _functions_of(planner: Planner, clusters: Clusters, version: JobVersion, flink_url: str) -> FunctionSet:
    """The version's functions, made ready; what they need of the product comes along where the cluster lacks it."""
    functions, config = _called(version), planner.config
    if not functions:
        return NO_FUNCTIONS
    shipped = any(not function.sha256 for function in functions)
    models = any(is_of_a_model(function) for function in functions)
    present = await clusters.at(flink_url).libraries() if shipped or models else frozenset()
    return await asyncio.to_thread(
        prepare,
        functions,
        config,
        bring_shipped=shipped and any(jar.name not in present for jar in config.shipped_jars),
        bring_models=models and any(jar.name not in present for jar in config.model_jars),
    )


async def _version_of(session: AsyncSession, run: Run) -> JobVersion:
    version = await session.get(JobVersion, run.spec["version"])
    if version is None:
        raise SubmissionRefused("The job's version that this run was to start is not there any more")
    return version


async def _tables_of(session: AsyncSession, version: JobVersion) -> Collection[StoredTable]:
    links = (await session.exec(select(JobTableLink).where(col(JobTableLink.job_id) == version.job_id))).all()
    return (await tables.find_all(session, [link.table_id for link in links])).values()


async def _with_origin(planner: Planner, run: Run, options: Mapping[str, str]) -> dict[str, str]:
    """A version's options, with what the run goes on from, whatever the job's definition says of the first start.

    Flink accepts a savepoint that lacks a file, and fails later, for ever: it is refused before.
    """
    if "restore" not in run.spec:  # written down before every run said what it goes on from
        return dict(options)
    kept = _without_origin(options)
    if run.spec["restore"] is None or _leaves_state(run):
        return kept
    paths = [run.spec["restore"], *run.spec.get("restore_others", ())]
    look = planner.inspect_savepoint if run.spec.get("restore_exactly") else partial(state_at, planner)
    try:
        found = [{"path": path, **await look(path)} for path in paths]
    except PlannerUnavailable as error:
        raise Unreachable(str(error)) from error
    except PlannerError as error:
        raise SubmissionUncertain(str(error)) from error
    usable = [one for one in found if one["complete"] is not False]
    if not usable:
        raise SubmissionRefused(
            f"The state at {paths[0]} that it was to go on from is not whole: {found[0]['reason']}. It was not "
            "started; start it from an older savepoint (restoreFrom, savepointPath), or without (restoreFrom=none)"
        )
    newest = max(usable, key=lambda one: one.get("checkpoint_id") or 0)
    return kept | {
        _PATH: str(newest["path"]),
        _IGNORE_UNCLAIMED: str(bool(run.spec.get("allow_non_restored"))).lower(),
        # A job that claims a savepoint deletes it later, whoever else may need it.
        _CLAIM_MODE: "NO_CLAIM",
    }


def _without_origin(options: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if name not in (_PATH, _IGNORE_UNCLAIMED)}


def _leaves_state(run: Run) -> bool:
    """Whether it was allowed that the run leaves the state of the one before; a run that follows it takes its own."""
    return run.predecessor_id is not None and run.spec.get(LEAVES) == run.predecessor_id


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
    if path := parts.path.strip("/"):
        options["rest.path"] = f"/{path}"  # Flink 2.3 does not heed rest.url-prefix here
    return options
