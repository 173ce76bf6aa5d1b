"""The rules of jobs: what may be stored, what may run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.database import Database
from app.errors import Conflict, HlinkError, InvalidInput, NotFound, Problem, Unavailable
from app.hlink.clusters import service as clusters
from app.hlink.clusters.models import DELETED, Cluster
from app.hlink.connections import Connections
from app.hlink.functions import service as functions
from app.hlink.jars import service as jars
from app.hlink.jars.models import StoredJar
from app.hlink.jobs import versions
from app.hlink.jobs.definition import JarJob, digest_of, jar_job_of, job_of, sql_of
from app.hlink.jobs.judgement import goes_on_from, last_ran, numbered
from app.hlink.jobs.keys import plan_with_keys
from app.hlink.jobs.looking_after import check, needed_slots, queue_of, recovery_of
from app.hlink.jobs.models import JAR, SQL, JobMessage, JobTableLink, JobVersion, StoredJob, subject_of
from app.hlink.jobs.submission import translate_ahead
from app.hlink.planner import refusal
from app.hlink.tables import service as tables
from app.hlink.tables.models import StoredTable
from app.hlink.wire import JobView
from app.ids import new_id
from app.supervisor import (
    Desired,
    Run,
    State,
    StopMode,
    Supervisor,
    active_run,
    create_run,
    latest_runs,
    request_stop,
    want_no_more,
)
from app.supervisor.faults import crash_point
from app.supervisor.retention import hold_savepoint, savepoint_at
from app.supervisor.runners.base import Room
from app.supervisor.schedules import remove_schedule
from app.uploads import Files
from stream_jobs import formats
from stream_jobs.definitions import Function, Job
from stream_jobs.planner.client import Planner, PlannerError
from stream_jobs.planner.plan import Plan
from stream_jobs.problems import InvalidJob
from stream_jobs.rest import Clusters, FlinkRestError
from stream_jobs.sql.formats import needs_ours

KIND = "flink"
"""The supervisor's word for what runs on a Flink cluster."""
ANSWER_WITHIN_S = 20.0
"""How long a caller who starts or stops a job is kept waiting for the outcome; it goes on all the same."""

_NOT_SETTINGS = {
        "id", "code", "name", "description", "kind", "status", "flink_job_id", "cluster_id", "version", "enabled",
        "created_by", "created_at", "modified_by", "modified_at", "kind_name", "status_name", "cluster_name",
        "cluster_type", "cluster_type_name", "tables", "requested_page", "requested_size", "limit", "timeout_s",
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
    files: Files
    queue_wait_s: float = 0.0
    """How long a job waits for slots that does not say it itself; 0: for ever."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A job as it was sent, with the tables or the jar that it names; nothing is stored yet."""

    job: StoredJob
    links: Sequence[JobTableLink]
    tables: Mapping[int, StoredTable]
    cluster: Cluster
    functions: tuple[Function, ...] = ()
    jar: StoredJar | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a version keeps so that it can be run; see :class:`~app.hlink.jobs.models.JobVersion`."""

    script: str
    compiled: str
    options: Mapping[str, str]
    functions: tuple[Function, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A stored job with what belongs to it."""

    job: StoredJob
    links: Sequence[JobTableLink]
    cluster: Cluster | None
    run: Run | None
    version: int | None


@dataclass(frozen=True, slots=True)
class Updated:
    """What came of a change to a job."""

    job: StoredJob
    version: int
    """The newest version now."""
    is_new: bool
    """Whether the change made a version; it does not when nothing was changed."""
    running: int | None
    """The version that a run is of at this moment; it keeps that until the job is run again."""


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
    is_jar = view.kind == JAR
    wanted = [] if is_jar else [(link.table_id or 0, link) for link in view.tables or []]
    if is_jar and not (view.jar or "").strip():
        problems.append(Problem("no jar is chosen", field="useJar", remedy="choose one of /jars/list"))
    if not wanted and not is_jar:
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
    jar = await jars.find(session, view.jar or "") if is_jar else None
    if jar is not None:
        job.settings = {**job.settings, "jar": str(jar.id)}  # another jar may be given the same name later
    used = await tables.find_all(session, [link.table_id for link in links])
    return Drafted(job, links, used, cluster, await functions.named_in(session, sql_of(links, used)), jar)


async def defined(engine: Engine, draft: Drafted) -> Job | JarJob:
    """The job as a value. Raises :class:`~app.errors.InvalidInput` for what cannot run as it is defined."""
    check(draft.job.settings)
    if draft.jar is None:
        return job_of(draft.job, draft.links, draft.tables, draft.functions)
    return await asyncio.to_thread(jar_job_of, draft.job, draft.jar, engine.files)


async def prepared(engine: Engine, definition: Job | JarJob, job_id: int) -> Prepared:
    """What its runs are started from. Raises what :func:`planned` raises."""
    if isinstance(definition, JarJob):
        program = {
            "jar": definition.jar,
            "sha256": definition.sha256,
            "entryClass": definition.entry_class,
            "programArgsList": definition.arguments,
            "parallelism": definition.execution.parallelism,
        }
        return Prepared(definition.script, json.dumps(program), definition.options)
    made = await planned(engine, definition, job_id, with_plan=True)
    return Prepared(made.sql, made.compiled, made.options, made.functions)


async def planned(engine: Engine, definition: Job, job_id: int, *, with_plan: bool) -> Plan:
    """The job's plan; a database is asked for the key of a sink that lacks one.

    Raises:
        InvalidInput: with every problem that was found, in the places of the user's own text.
        Unavailable: the planner could not answer.
    """
    try:
        return await plan_with_keys(engine.planner, engine.connections, definition, str(job_id), with_plan=with_plan)
    except InvalidJob as error:
        raise refusal(error.problems) from None
    except PlannerError as error:
        raise Unavailable(str(error)) from error


async def add(engine: Engine, view: JobView) -> StoredJob:
    """Stores a job that Flink would accept; a job that it would not is refused and nothing is stored.

    Raises:
        InvalidInput: the definition or its SQL, with every problem.
        NotFound, Conflict, Unavailable: a table or cluster that is not there; a name that is taken; no planner.
    """
    async with engine.database.read() as session:
        draft = await drafted(session, view)
        await _refuse_taken_name(session, draft.job.name)
    definition = await defined(engine, draft)
    made = await prepared(engine, definition, draft.job.id)
    async with _taking_the_name(engine.database, draft.job), engine.database.write() as session:
        # A table or a function may have been removed while the job was planned.
        await tables.find_all(session, draft.tables, hold=True)
        await functions.hold(session, made.functions)
        session.add(draft.job)
        await session.flush()
        session.add_all(draft.links)
        session.add(_version(draft.job, draft.links, None, None, digest_of(definition, draft.job.id), made))
    return draft.job


async def update(engine: Engine, view: JobView) -> Updated:
    """Puts the whole definition that was sent in the place of the stored one, as a new version of the job.

    All of it may change at any time, also while the job runs: the run keeps the version that it was started from,
    on the cluster where it is. What Flink would not accept is refused and the stored definition stays.

    Raises:
        InvalidInput, NotFound, Conflict, Unavailable: as :func:`add`; no such job.
    """
    if not view.id:
        raise InvalidInput(Problem("the job has no id", field="id", remedy="give the id that /jobs/list shows"))
    async with engine.database.read() as session:
        await kept(session, view.id)
        draft = await drafted(session, view)
        await _refuse_taken_name(session, draft.job.name, view.id)
    definition = await defined(engine, draft)
    made = await prepared(engine, definition, view.id)
    digest, kept_as = digest_of(definition, view.id), versions.definition_of(draft.job, draft.links)
    async with _taking_the_name(engine.database, draft.job), engine.database.write() as session:
        await tables.find_all(session, draft.tables, hold=True)
        await functions.hold(session, made.functions)
        job = await _locked(session, view.id)
        for name in ("name", "description", "kind", "cluster_id", "settings"):
            setattr(job, name, getattr(draft.job, name))
        job.code = (view.code or "").strip() or job.code
        job.modify_by = view.modified_by or ""
        await session.exec(delete(JobTableLink).where(col(JobTableLink.job_id) == job.id))
        session.add_all(draft.links)
        before = await versions.newest(session, job.id)
        is_new = before is None or (before.digest, before.definition) != (digest, kept_as)
        number = before.number if before else 0
        if is_new:
            number += 1
            ran = await last_ran(session, job.id)
            session.add(_version(draft.job, draft.links, before, ran, digest, made))
        active = await active_run(session, subject_of(job.id))
        running = await session.get(JobVersion, active.spec["version"]) if active else None
    return Updated(job, number, is_new, running.number if running else None)


async def rollback(engine: Engine, job_id: int, number: int) -> Updated:
    """Stores what a version was defined as again, as the newest version; planned first, with the tables as they are.

    Raises:
        InvalidInput, NotFound, Conflict, Unavailable: as :func:`update`; no such version.
    """
    async with engine.database.read() as session:
        await kept(session, job_id)
        version = await versions.find(session, job_id, number)
    return await update(engine, versions.view_of_version(version))


async def remove(database: Database, job_id: int) -> None:
    """Takes the job out of use; its runs and versions are kept, its name is free again.

    Raises:
        NotFound, Conflict: no such job; a run of it has not ended.
    """
    async with database.write() as session:
        job = await _locked(session, job_id)
        active = await active_run(session, subject_of(job_id))
        if active is not None:
            raise Conflict(f"Job {job.name!r} is {active.state.lower()}: cancel it first", run_id=active.id)
        job.del_flag = 0
        await remove_schedule(session, subject_of(job_id))
        await want_no_more(session, subject_of(job_id))


async def find(session: AsyncSession, job_id: int) -> Found:
    """The job with its tables, cluster, newest run and version. Raises :class:`~app.errors.NotFound`."""
    return (await complete(session, [await kept(session, job_id)]))[0]


@dataclass(frozen=True, slots=True)
class Ready:
    """A job that can be started as far as can be known beforehand."""

    job: StoredJob
    spec: dict[str, Any]
    """What its run is started from."""
    version: JobVersion
    known: JobVersion | None
    """The newest version that was stored when this was checked; ``version`` is another one when it has to be made."""
    room: Room
    """The cluster's slots as it told of them."""
    notice: str = ""
    """What becomes of the state that it goes on from, against the service's advice."""


async def ready(engine: Engine, job_id: int, *, replaces: Run | None = None, starts_as_defined: bool = False) -> Ready:
    """Checks everything that can be known before a start.

    The statement against the tables as they are now, the brokers and databases, the cluster's slots. A start waits
    for slots that are not free; what ``replaces`` a run must not, so it needs that run's or free ones. A refusal
    leaves nothing behind but a line in the job's log. With ``starts_as_defined`` the planner begins with what the
    submission needs, beside the checks.

    Raises:
        NotFound, Conflict: no such job; it runs, and is not to be replaced.
        InvalidInput: with every problem that keeps it from running.
        Unavailable: the cluster or the planner does not answer.
    """
    try:
        return await _ready(engine, job_id, replaces, starts_as_defined)
    except (InvalidInput, Unavailable) as refusal:
        async with engine.database.write() as session:
            session.add(JobMessage(job_id=job_id, message=f"not started: {refusal.message}"))
        raise


async def _ready(engine: Engine, job_id: int, replaces: Run | None, starts_as_defined: bool) -> Ready:
    async with engine.database.read() as session:
        job = await kept(session, job_id)
        links = (await session.exec(_links([job_id]))).all()
        cluster = await session.get(Cluster, job.cluster_id)
        stored = await tables.find_all(session, [link.table_id for link in links])
        callable_ = await functions.named_in(session, sql_of(links, stored))
        jar = await jars.find(session, job.settings["jar"]) if job.kind == JAR else None
        known = await versions.newest(session, job_id)
        active = await active_run(session, subject_of(job_id))
    if active is not None and replaces is None:
        raise Conflict(f"Job {job.name!r} is {active.state.lower()} already", run_id=active.id)
    if cluster is None or cluster.del_flag == DELETED:
        raise NotFound(f"The cluster of job {job.name!r} was deleted: choose another for it")
    definition = await defined(engine, Drafted(job, links, stored, cluster, callable_, jar))
    digest = digest_of(definition, job_id)
    freed = None
    if replaces is not None:
        freed = (replaces.slots or 0) if replaces.spec.get("flink_url") == cluster.address else 0

    async def begin_translation(version: JobVersion) -> None:
        if starts_as_defined and isinstance(definition, Job):
            await translate_ahead(engine.planner, engine.clusters, version, definition.tables, cluster.address)

    version = known
    if version is None or version.digest != digest:
        made, room = await asyncio.gather(
            prepared(engine, definition, job_id),
            check_outside(engine, cluster, definition, freed=freed),
        )
        async with engine.database.read() as session:
            ran = await last_ran(session, job_id)
        version = _version(job, links, version, ran, digest, made)
        await begin_translation(version)
    else:
        _, room = await asyncio.gather(
            begin_translation(version),  # first, as it takes the longest
            check_outside(engine, cluster, definition, freed=freed),
        )
    return Ready(job, _spec(engine, job, cluster, version, definition), version, known, room)


async def settle_version(session: AsyncSession, job: Ready) -> None:
    """Stores the version that is about to run, in the caller's transaction.

    Raises :class:`~app.errors.Conflict` when the job was changed since it was checked.
    """
    await _locked(session, job.job.id)
    now = await versions.newest(session, job.job.id)
    if (now and now.id) != (job.known and job.known.id):
        raise Conflict(f"Job {job.job.name!r} was changed while it was being started: run it again")
    if job.version is not job.known:
        session.add(job.version)
    if job.notice:
        session.add(JobMessage(job_id=job.job.id, message=job.notice))


async def run(engine: Engine, job_id: int) -> Run:
    """Starts the job as it is defined, and waits a while for its outcome.

    Raises what :func:`ready` and :func:`start` raise.
    """
    return await start(engine, await ready(engine, job_id, starts_as_defined=True))


async def start(
    engine: Engine,
    job: Ready,
    origin: Mapping[str, Any] | None = None,
    savepoint_id: int | None = None,
    predecessor_id: int | None = None,
) -> Run:
    """Writes the run down, has it started, and waits a while for its outcome.

    ``origin`` is what its spec says of the state that it goes on from, by default what the job's definition says;
    ``savepoint_id`` the entry of the history that this is; ``predecessor_id`` the run that it goes on from.

    Raises:
        InvalidInput: that state would be lost or misread.
        Conflict: it runs already, or was changed at this moment; the savepoint was removed.
        RunFailed: it was started and came to nothing.
    """
    imported = job.version.options.get("execution.state-recovery.path")
    if origin is None:
        origin = {"restore": imported, "restore_exactly": True} if imported else {"restore": None}
    job = await goes_on_from(engine, job, origin["restore"])
    async with engine.database.write() as session:
        await settle_version(session, job)
        if savepoint_id is not None:
            await hold_savepoint(session, subject_of(job.job.id), savepoint_id)
        elif origin["restore"] is not None:
            known = await savepoint_at(session, origin["restore"])
            if known is not None and known.removal is not None:
                raise Conflict(f"The savepoint at {origin['restore']} was removed: {known.removal}. Choose another one")
        spec = {**origin, **job.spec}  # a state that does not fit at all is left out by the job's own
        made = await create_run(session, KIND, subject_of(job.job.id), spec, predecessor_id)
    crash_point("run.created")
    engine.supervisor.kick(made, job.room)
    return settled(await engine.supervisor.wait(made.id, timeout_s=ANSWER_WITHIN_S, known=made))


def settled(outcome: Run) -> Run:
    """The run, unless it came to nothing: then raises :class:`RunFailed`."""
    if outcome.state not in (State.FAILED, State.LOST):
        return outcome
    restored = outcome.spec.get("restore")
    kept_at = f" Its state is kept at {restored}" if restored else ""
    raise RunFailed(
        f"The job did not start: {outcome.reason}{kept_at}", run_id=outcome.id, flink_job_id=outcome.external_id
    )


async def cancel(engine: Engine, job_id: int, mode: StopMode = StopMode.SAVEPOINT, *, native: bool = False) -> Run:
    """Stops the job's run, and waits a while for its end. The request stands until it is carried out or given up.

    A run that is still being started has nothing to save and is stopped at once, whatever the mode.

    Raises:
        NotFound, Conflict: no such job; it does not run; it is being stopped in another way.
        RunFailed: no savepoint could be made of it, so it goes on; the message gives the cause and the remedy.
    """
    async with engine.database.write() as session:
        found = await find(session, job_id)
        stopped = await request_stop(session, subject_of(job_id), mode, native=native)
    if stopped is None:
        raise Conflict(f"Job {found.job.name!r} is not running")
    engine.supervisor.kick(stopped)
    return unless_it_goes_on(await engine.supervisor.wait(stopped.id, is_decided, ANSWER_WITHIN_S))


def is_decided(stopping: Run) -> bool:
    """Whether a stop that was asked for has come to its end, or was given up."""
    return stopping.state.ended or stopping.desired is Desired.RUNNING


def unless_it_goes_on(run: Run) -> Run:
    """The run that was to be stopped, unless that was given up: then raises :class:`RunFailed`."""
    if run.state.ended or run.desired is Desired.STOPPED:
        return run
    raise RunFailed(run.reason or "Not stopped, it goes on as before", run_id=run.id)


def _spec(
    engine: Engine, job: StoredJob, cluster: Cluster, version: JobVersion, definition: Job | JarJob
) -> dict[str, Any]:
    slots = needed_slots(definition, version.compiled)
    spec: dict[str, Any] = {
        "flink_url": cluster.address,
        "version": version.id,
        "job_kind": job.kind,
        "allow_non_restored": bool(job.settings.get("allow_non_restored_state")),
        "queue": queue_of(job, cluster.address, slots, engine.queue_wait_s),
        "recovery": recovery_of(job.settings),
    }
    if definition.execution.savepoint_dir:
        spec["savepoint_dir"] = definition.execution.savepoint_dir
    return spec


def _version(
    job: StoredJob,
    links: Sequence[JobTableLink],
    before: JobVersion | None,
    ran: JobVersion | None,
    digest: str,
    made: Prepared,
) -> JobVersion:
    """The version behind ``before``; its operators keep their numbers, first of all those of the one that ``ran``."""
    called = [asdict(function) for function in made.functions]
    plan = numbered(made.compiled, called, before, ran)
    return JobVersion(
        job_id=job.id,
        number=before.number + 1 if before is not None else 1,
        digest=digest,
        script=made.script,
        compiled=plan.compiled,
        options=dict(made.options),
        definition=versions.definition_of(job, links),
        functions=called,
        highest_operator=plan.highest,
    )


async def check_outside(
    engine: Engine, cluster: Cluster, definition: Job | JarJob, *, freed: int | None = None
) -> Room:
    """Asks everything that the job needs, at once: the cluster's slots, the brokers, the databases.

    Answers the slots that there are. ``freed`` is given for a job that must not wait for slots: so many will be free
    besides those that are now.

    Raises:
        InvalidInput: with every problem that was found.
        Unavailable: the cluster does not answer.
    """
    (room, slots), lacking, outside = await asyncio.gather(
        _check_slots(engine.clusters, cluster, definition, freed),
        _check_formats(engine.clusters, cluster, definition),
        engine.connections.check_all(definition.tables),
    )
    if slots or lacking or outside:
        raise InvalidInput(*slots, *lacking, *outside)
    return room


async def _check_slots(
    flink: Clusters, cluster: Cluster, definition: Job | JarJob, freed: int | None
) -> tuple[Room, list[Problem]]:
    """The cluster's slots, and what is wrong with them: a job that could never run is refused, another one waits.

    A cluster without a TaskManager may get some at any time.
    """
    needed = definition.execution.parallelism
    asked_at = time.monotonic()
    try:
        at = flink.at(cluster.address)
        overview, _ = await asyncio.gather(at.overview(), at.incarnation())  # the start will ask for the latter
        room = Room(overview.slots_available, overview.slots_total, asked_at)
        too_large = 0 < room.total < needed
        if not too_large and (freed is None or room.free + freed >= needed):
            return room, []
        holders = [job.name for job in await at.jobs() if job.tasks.running]
    except FlinkRestError as error:
        raise Unavailable(f"Cluster {cluster.name!r}: {error}") from error
    held = f", held by {', '.join(holders)}" if holders else ""
    remedy = "add a TaskManager, or lower the parallelism"
    return room, [
        Problem(
            f"the job needs {needed} slots, and cluster {cluster.name!r} has {room.free} free of {room.total}{held}",
            field="parallelism",
            remedy=remedy if too_large else f"stop another job, {remedy}",
        )
    ]


async def _check_formats(flink: Clusters, cluster: Cluster, definition: Job | JarJob) -> list[Problem]:
    """Whether the cluster has our formats, where a table is read with one; a job would leak a copy of its own."""
    readers = [table.name for table in definition.tables if needs_ours(table)]
    if not readers:
        return []
    try:
        present = await flink.at(cluster.address).libraries()
    except FlinkRestError as error:
        raise Unavailable(f"Cluster {cluster.name!r}: {error}") from error
    if formats.jar_name() in present:
        return []
    return [
        Problem(
            f"the table's messages are read with {formats.jar_name()}, which cluster {cluster.name!r} does not have",
            table=", ".join(readers),
            remedy="copy the file from the service's folder planner into the lib folder of JobManager and "
            "TaskManagers and restart them; for the embedded stack: hlink down, hlink up",
        )
    ]


async def kept(session: AsyncSession, job_id: int) -> StoredJob:
    """The job, unless it was removed. Raises :class:`~app.errors.NotFound`."""
    return _in_use(await session.get(StoredJob, job_id), job_id)


async def _locked(session: AsyncSession, job_id: int) -> StoredJob:
    """The job, held against other changes until the transaction ends. Raises :class:`~app.errors.NotFound`."""
    return _in_use(await session.get(StoredJob, job_id, with_for_update=True), job_id)


def _in_use(job: StoredJob | None, job_id: int) -> StoredJob:
    if job is None or job.del_flag != 1:
        raise NotFound(f"There is no job {job_id}: /jobs/list shows those there are")
    return job


def _links(job_ids: Sequence[int]) -> SelectOfScalar[JobTableLink]:
    return select(JobTableLink).where(col(JobTableLink.job_id).in_(job_ids)).order_by(col(JobTableLink.id))


async def complete(session: AsyncSession, jobs: Sequence[StoredJob]) -> list[Found]:
    """The jobs, each with what belongs to it."""
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


@asynccontextmanager
async def _taking_the_name(database: Database, job: StoredJob) -> AsyncIterator[None]:
    """Tells of a name that somebody else took while the job was planned."""
    try:
        yield
    except IntegrityError:
        async with database.read() as session:
            await _refuse_taken_name(session, job.name, job.id)
        raise


async def _refuse_taken_name(session: AsyncSession, name: str, except_id: int | None = None) -> None:
    taken = await session.exec(select(StoredJob.id).where(StoredJob.name == name, StoredJob.del_flag == 1))
    if (other := taken.first()) is not None and other != except_id:
        raise Conflict(f"There is a job called {name!r} already: choose another jobName")


CANCELED = 2


def status_of(run: Run | None) -> int:
    """The published code of a job's status, by its newest run: one that was stopped with a savepoint is canceled."""
    if run is None:
        return 0
    if run.state is State.FINISHED and run.desired is Desired.STOPPED and run.successor is None:
        return CANCELED
    return STATUS[run.state]


#: The published five codes of a job's status, by the state of its newest run; see :func:`status_of`.
STATUS: Mapping[State, int] = {
    State.CREATED: 9,
    State.SUBMITTING: 9,
    State.RUNNING: 1,
    State.RESTARTING: 1,
    State.STOPPING: 1,
    State.FINISHED: 0,
    State.FAILED: 3,
    State.LOST: 3,
    State.CANCELED: CANCELED,
}
STATUS_NAMES: Mapping[int, str] = {0: "未运行", 1: "运行中", 2: "取消", 3: "失败", 9: "提交中"}
KIND_NAMES: Mapping[int, str] = {0: "SQL", 1: "JAR"}
