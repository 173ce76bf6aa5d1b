"""The rules of jobs: what may be stored, what may run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, literal
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.database import Database
from app.errors import Conflict, HlinkError, InvalidInput, NotFound, Problem, Unavailable
from app.hlink.clusters import service as clusters
from app.hlink.clusters.models import DELETED, Cluster
from app.hlink.connections import Connections
from app.hlink.filters import containing, equal, within
from app.hlink.jobs.definition import digest_of, job_of
from app.hlink.jobs.keys import plan_with_keys
from app.hlink.jobs.models import SQL, JobTableLink, JobVersion, StoredJob, subject_of
from app.hlink.planner import refusal
from app.hlink.tables import service as tables
from app.hlink.tables.models import StoredTable
from app.hlink.wire import JobQuery, JobView
from app.ids import new_id
from app.supervisor import Run, State, StopMode, Supervisor, active_run, create_run, latest_runs, request_stop
from app.supervisor.faults import crash_point
from stream_jobs.definitions import Job
from stream_jobs.planner.client import Planner, PlannerError
from stream_jobs.planner.plan import Plan
from stream_jobs.problems import InvalidJob
from stream_jobs.rest import Clusters, FlinkRestError

KIND = "flink"
"""The supervisor's word for what runs on a Flink cluster."""
ANSWER_WITHIN_S = 20.0
"""How long a caller who starts or stops a job is kept waiting for the outcome; it goes on all the same."""

_NOT_SETTINGS = {
        "id", "code", "name", "description", "kind", "status", "flink_job_id", "cluster_id", "version", "enabled",
        "created_by", "created_at", "modified_by", "modified_at", "kind_name", "status_name", "cluster_name",
        "cluster_type", "cluster_type_name", "tables", "requested_page", "requested_size", "parameters",
}  # fmt: skip


class RunFailed(HlinkError):
    """A run was made and came to nothing; the message gives Flink's root cause."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What jobs need of the running service."""

    database: Database
    planner: Planner
    supervisor: Supervisor
    clusters: Clusters
    connections: Connections


@dataclass(frozen=True, slots=True)
class Drafted:
    """A job as it was sent, with the tables that it names; nothing is stored yet."""

    job: StoredJob
    links: Sequence[JobTableLink]
    tables: Mapping[int, StoredTable]
    cluster: Cluster

    @property
    def definition(self) -> Job:
        return job_of(self.job, self.links, self.tables)


@dataclass(frozen=True, slots=True)
class Found:
    """A stored job with what belongs to it."""

    job: StoredJob
    links: Sequence[JobTableLink]
    cluster: Cluster | None
    run: Run | None
    version: int | None


async def drafted(session: AsyncSession, view: JobView) -> Drafted:
    """The job that somebody sent, its tables and its cluster found.

    Raises:
        InvalidInput: a name, the cluster or the tables are missing.
        NotFound: a table or the cluster does not exist.
    """
    problems: list[Problem] = []
    name = (view.name or "").strip()
    if not name:
        problems.append(Problem("the job has no name", field="jobName", remedy="give it one"))
    if len(name) > 200:
        problems.append(Problem("the name is longer than 200 characters", field="jobName", remedy="shorten it"))
    if not view.cluster_id:
        problems.append(Problem("no cluster is chosen", field="clusterId", remedy="choose one of /cluster/check/list"))
    wanted = [(link.table_id or 0, link) for link in view.tables or []]
    if not wanted:
        problems.append(
            Problem("no table is chosen", field="jobDsVOS", remedy="choose at least a source and a sink of /ds/list")
        )
    if any(not table_id for table_id, _ in wanted):
        problems.append(Problem("a table has no id", field="jobDsVOS.dsId", remedy="give the id that /ds/list shows"))
    if problems:
        raise InvalidInput(*problems)
    job_id = view.id or new_id()
    job = StoredJob(
        id=job_id,
        code=(view.code or "").strip() or f"J{job_id}",
        name=name,
        description=view.description or "",
        kind=SQL if view.kind is None else view.kind,
        cluster_id=view.cluster_id or 0,
        settings=view.model_dump(exclude=_NOT_SETTINGS, exclude_none=True),
        create_by=view.created_by or "",
    )
    links = [
        JobTableLink(job_id=job_id, table_id=table_id, role=(link.role or "").strip(), sql=link.sql or "")
        for table_id, link in wanted
    ]
    cluster = await clusters.find(session, job.cluster_id)
    return Drafted(job, links, await tables.find_all(session, [link.table_id for link in links]), cluster)


async def planned(planner: Planner, connections: Connections, definition: Job, job_id: int, *, with_plan: bool) -> Plan:
    """The job's plan; a database is asked for the key of a sink that lacks one.

    Raises:
        InvalidInput: with every problem that was found, in the places of the user's own text.
        Unavailable: the planner could not answer.
    """
    try:
        return await plan_with_keys(planner, connections, definition, str(job_id), with_plan=with_plan)
    except InvalidJob as error:
        raise refusal(error.problems) from None
    except PlannerError as error:
        raise Unavailable(str(error)) from error


async def add(database: Database, planner: Planner, connections: Connections, view: JobView) -> StoredJob:
    """Stores a job that Flink would accept; a job that it would not is refused and nothing is stored.

    Raises:
        InvalidInput: the definition or its SQL, with every problem.
        NotFound, Conflict, Unavailable: a table or cluster that is not there; a name that is taken; no planner.
    """
    async with database.read() as session:
        draft = await drafted(session, view)
        await _refuse_taken_name(session, draft.job.name)
    definition = draft.definition
    made = await planned(planner, connections, definition, draft.job.id, with_plan=True)
    try:
        async with database.write() as session:
            # A table may have been removed while the job was planned.
            await tables.find_all(session, draft.tables, hold=True)
            session.add(draft.job)
            await session.flush()
            session.add_all(draft.links)
            session.add(_version(draft.job.id, 1, digest_of(definition, draft.job.id), made))
    except IntegrityError:  # somebody else took the name while it was planned
        async with database.read() as session:
            await _refuse_taken_name(session, draft.job.name)
        raise
    return draft.job


async def find(session: AsyncSession, job_id: int) -> Found:
    """The job with its tables, cluster, newest run and version. Raises :class:`~app.errors.NotFound`."""
    return (await _complete(session, [await _kept(session, job_id)]))[0]


async def page(session: AsyncSession, query: JobQuery) -> tuple[Sequence[Found], int]:
    """The jobs that a list's query lets through, newest first: one page of them, and how many there are."""
    newest = (
        select(func.max(Run.id))
        .where(Run.subject == literal("hlink.job:") + cast(col(StoredJob.id), String))
        .correlate(StoredJob)
        .scalar_subquery()
    )
    base = (
        select(StoredJob)
        .join(Run, col(Run.id) == newest, isouter=True)
        .join(Cluster, col(Cluster.id) == col(StoredJob.cluster_id), isouter=True)
        .where(*_conditions(query))
    )
    total = (await session.exec(select(func.count()).select_from(base.subquery()))).one()
    rows = await session.exec(base.order_by(col(StoredJob.id).desc()).offset(query.offset).limit(query.size))
    return await _complete(session, rows.all()), total


async def run(engine: Engine, job_id: int) -> Run:
    """Starts the job, and waits a while for its outcome.

    Everything that can be known beforehand is checked first: the statement against the tables as they are now, the
    brokers and databases, the cluster's free slots. A refusal leaves nothing behind.

    Raises:
        NotFound, Conflict: no such job; it runs already.
        InvalidInput: with every problem that keeps it from running.
        Unavailable: the cluster or the planner does not answer.
    """
    async with engine.database.read() as session:
        job = await _kept(session, job_id)
        links = (await session.exec(_links([job_id]))).all()
        cluster = await session.get(Cluster, job.cluster_id)
        active = await active_run(session, subject_of(job_id))
        stored = await tables.find_all(session, [link.table_id for link in links])
        version = await _newest_version(session, job_id)
    if active is not None:
        raise Conflict(f"Job {job.name!r} is {active.state.lower()} already", run_id=active.id)
    if cluster is None or cluster.del_flag == DELETED:
        raise NotFound(f"The cluster of job {job.name!r} was deleted: choose another for it")
    definition = job_of(job, links, stored)
    digest = digest_of(definition, job_id)
    next_version = None
    if version is None or version.digest != digest:
        made, _ = await asyncio.gather(
            planned(engine.planner, engine.connections, definition, job_id, with_plan=True),
            check_outside(engine, cluster, definition),
        )
        next_version = version = _version(job_id, version.number + 1 if version else 1, digest, made)
    else:
        await check_outside(engine, cluster, definition)
    async with engine.database.write() as session:
        if next_version is not None:
            session.add(next_version)
        made_run = await create_run(session, KIND, subject_of(job_id), _spec(cluster, version, definition))
    crash_point("run.created")
    engine.supervisor.kick(made_run)
    return await engine.supervisor.wait(made_run.id, timeout_s=ANSWER_WITHIN_S)


async def cancel(engine: Engine, job_id: int) -> Run:
    """Stops the job's run, and waits a while for its end. The request stands until it is carried out.

    Raises:
        NotFound, Conflict: no such job; it does not run.
    """
    async with engine.database.write() as session:
        found = await find(session, job_id)
        stopped = await request_stop(session, subject_of(job_id), StopMode.CANCEL)
    if stopped is None:
        raise Conflict(f"Job {found.job.name!r} is not running")
    engine.supervisor.kick(stopped)
    return await engine.supervisor.wait(stopped.id, lambda run: run.state.ended, ANSWER_WITHIN_S)


def _spec(cluster: Cluster, version: JobVersion, definition: Job) -> dict[str, Any]:
    spec: dict[str, Any] = {"flink_url": cluster.address, "version": version.id}
    if definition.execution.savepoint_dir:
        spec["savepoint_dir"] = definition.execution.savepoint_dir
    return spec


def _version(job_id: int, number: int, digest: str, made: Plan) -> JobVersion:
    return JobVersion(
        job_id=job_id,
        number=number,
        digest=digest,
        script=made.sql,
        compiled=made.compiled,
        options=dict(made.options),
    )


async def check_outside(engine: Engine, cluster: Cluster, definition: Job) -> None:
    """Asks everything that the job needs, at once: the cluster's slots, the brokers, the databases.

    Raises:
        InvalidInput: with every problem that was found.
        Unavailable: the cluster does not answer.
    """
    slots, outside = await asyncio.gather(
        _check_slots(engine.clusters, cluster, definition), engine.connections.check_all(definition.tables)
    )
    if slots or outside:
        raise InvalidInput(*slots, *outside)


async def _check_slots(flink: Clusters, cluster: Cluster, definition: Job) -> list[Problem]:
    """Whether the cluster has room: all operators of a job share slots, so it needs as many as it is parallel."""
    try:
        overview = await flink.at(cluster.address).overview()
        if overview.slots_available >= definition.execution.parallelism:
            return []
        holders = [job.name for job in await flink.at(cluster.address).jobs() if job.tasks.running]
    except FlinkRestError as error:
        raise Unavailable(f"Cluster {cluster.name!r}: {error}") from error
    held = f", held by {', '.join(holders)}" if holders else ""
    return [
        Problem(
            f"the job needs {definition.execution.parallelism} slots, and cluster {cluster.name!r} has "
            f"{overview.slots_available} free of {overview.slots_total}{held}",
            field="parallelism",
            remedy="stop another job, add a TaskManager, or lower the parallelism",
        )
    ]


async def _kept(session: AsyncSession, job_id: int) -> StoredJob:
    job = await session.get(StoredJob, job_id)
    if job is None or job.del_flag != 1:
        raise NotFound(f"There is no job {job_id}: /jobs/list shows those there are")
    return job


def _links(job_ids: Sequence[int]) -> SelectOfScalar[JobTableLink]:
    return select(JobTableLink).where(col(JobTableLink.job_id).in_(job_ids)).order_by(col(JobTableLink.id))


async def _complete(session: AsyncSession, jobs: Sequence[StoredJob]) -> list[Found]:
    ids = [job.id for job in jobs]
    links = (await session.exec(_links(ids))).all()
    known = {
        cluster.id: cluster
        for cluster in await session.exec(select(Cluster).where(col(Cluster.id).in_({j.cluster_id for j in jobs})))
    }
    runs = await latest_runs(session, [subject_of(job_id) for job_id in ids])
    versions = dict(
        (
            await session.exec(
                select(JobVersion.job_id, func.max(JobVersion.number))
                .where(col(JobVersion.job_id).in_(ids))
                .group_by(col(JobVersion.job_id))
            )
        ).all()
    )
    return [
        Found(
            job,
            [link for link in links if link.job_id == job.id],
            known.get(job.cluster_id),
            runs.get(subject_of(job.id)),
            versions.get(job.id),
        )
        for job in jobs
    ]


async def _newest_version(session: AsyncSession, job_id: int) -> JobVersion | None:
    query = select(JobVersion).where(JobVersion.job_id == job_id).order_by(col(JobVersion.number).desc()).limit(1)
    return (await session.exec(query)).first()


async def _refuse_taken_name(session: AsyncSession, name: str) -> None:
    taken = await session.exec(select(StoredJob.id).where(StoredJob.name == name, StoredJob.del_flag == 1))
    if taken.first() is not None:
        raise Conflict(f"There is a job called {name!r} already: choose another jobName")


#: The published five codes of a job's status, by the state of its newest run.
STATUS: Mapping[State, int] = {
    State.CREATED: 9,
    State.SUBMITTING: 9,
    State.RUNNING: 1,
    State.RESTARTING: 1,
    State.STOPPING: 1,
    State.FINISHED: 0,
    State.FAILED: 3,
    State.LOST: 3,
    State.CANCELED: 2,
}
STATUS_NAMES: Mapping[int, str] = {0: "未运行", 1: "运行中", 2: "取消", 3: "失败", 9: "提交中"}
KIND_NAMES: Mapping[int, str] = {0: "SQL", 1: "JAR"}
_JSON_SETTINGS = (
    "parallelism", "computing_units", "time_type", "checkpoint_interval_ms", "checkpoint_mode",
    "checkpoint_timeout_ms", "checkpoint_min_pause_ms", "max_concurrent_checkpoints", "checkpoint_cleanup",
    "state_backend", "allow_non_restored_state", "restart_strategy", "restart_attempts", "restart_delay_s",
    "max_failures", "failure_interval_min", "mini_batch", "mini_batch_latency_s", "mini_batch_size",
    "two_phase_aggregation", "split_distinct_aggregation",
)  # fmt: skip
_TEXT_SETTINGS = ("checkpoint_storage", "savepoint_dir", "savepoint_path", "jar", "entry_class", "program_arguments")


def _conditions(query: JobQuery) -> list[ColumnElement[bool]]:
    wanted = [
        col(StoredJob.del_flag) == (1 if query.enabled is None else query.enabled),
        *equal(StoredJob.id, query.id),
        *containing(StoredJob.code, query.code),
        *containing(StoredJob.name, query.name),
        *containing(StoredJob.description, query.description),
        *equal(StoredJob.kind, query.kind),
        *equal(StoredJob.cluster_id, query.cluster_id),
        *containing(Cluster.name, query.cluster_name),
        *containing(Run.external_id, query.flink_job_id),
        *containing(StoredJob.create_by, query.created_by),
        *containing(StoredJob.modify_by, query.modified_by),
        *within(StoredJob.create_time, query.created_at),
        *within(StoredJob.modify_time, query.modified_at),
        *_status_condition(query),
    ]
    if query.kind_name is not None:
        wanted.append(col(StoredJob.kind).in_(_named(KIND_NAMES, query.kind_name)))
    if query.cluster_type is not None:
        # The job view's 0 and the dictionary's 1 both say standalone.
        types = (0, 1) if query.cluster_type in (0, 1) else (query.cluster_type,)
        wanted.append(col(Cluster.type).in_(types))
    if query.cluster_type_name is not None and query.cluster_type_name.strip().lower() not in "standalone":
        wanted.append(literal(False))
    settings = col(StoredJob.settings)
    for name in _JSON_SETTINGS:
        if (value := getattr(query, name)) is not None:
            wanted.append(settings[name].as_integer() == value)
    for name in _TEXT_SETTINGS:
        wanted += containing(settings[name].as_string(), getattr(query, name))
    links = [
        *equal(JobTableLink.table_id, query.table_id),
        *containing(JobTableLink.role, query.table_role),
        *equal(JobTableLink.id, query.table_mapping_id),
        *equal(JobTableLink.job_id, query.table_job_id),
        *containing(JobTableLink.sql, query.table_sql),
    ]
    if links:
        wanted.append(
            select(JobTableLink.id).where(JobTableLink.job_id == StoredJob.id, *links).correlate(StoredJob).exists()
        )
    return wanted


def _status_condition(query: JobQuery) -> list[ColumnElement[bool]]:
    codes = set(STATUS_NAMES)
    if query.status is not None:
        codes &= {query.status}
    if query.status_name is not None:
        codes &= _named(STATUS_NAMES, query.status_name)
    if codes == set(STATUS_NAMES):
        return []
    among = col(Run.state).in_([state for state, code in STATUS.items() if code in codes])
    return [among | col(Run.id).is_(None)] if 0 in codes else [among]


def _named(names: Mapping[int, str], text: str) -> set[int]:
    return {code for code, name in names.items() if text.strip().lower() in name.lower()}
