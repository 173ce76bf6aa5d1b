"""The list of jobs, by every field that is published for it.

Every condition is one on the job alone, on its newest run (one step in an index), or "among the ids that ...": a list
of ten thousand jobs takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, case, cast, func, literal
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.filters import containing, equal, within
from app.hlink.clusters.models import Cluster
from app.hlink.jobs.models import SUBJECT, JobTableLink, StoredJob
from app.hlink.jobs.service import KIND_NAMES, STATUS, STATUS_NAMES, Found, complete
from app.hlink.wire import JobQuery
from app.supervisor import Desired, Run, State

_JSON_SETTINGS = (
    "parallelism", "computing_units", "time_type", "checkpoint_interval_ms", "checkpoint_mode",
    "checkpoint_timeout_ms", "checkpoint_min_pause_ms", "max_concurrent_checkpoints", "checkpoint_cleanup",
    "state_backend", "allow_non_restored_state", "restart_strategy", "restart_attempts", "restart_delay_s",
    "max_failures", "failure_interval_min", "mini_batch", "mini_batch_latency_s", "mini_batch_size",
    "two_phase_aggregation", "split_distinct_aggregation",
)  # fmt: skip
_TEXT_SETTINGS = ("checkpoint_storage", "savepoint_dir", "savepoint_path", "jar", "entry_class", "program_arguments")


async def page(session: AsyncSession, query: JobQuery) -> tuple[Sequence[Found], int]:
    """The jobs that a list's query lets through, newest first: one page of them, and how many there are."""
    wanted = _conditions(query)
    total = (await session.exec(select(func.count()).select_from(StoredJob).where(*wanted))).one()
    rows = await session.exec(
        select(StoredJob).where(*wanted).order_by(col(StoredJob.id).desc()).offset(query.offset).limit(query.size)
    )
    return await complete(session, rows.all()), total


def _conditions(query: JobQuery) -> list[ColumnElement[bool]]:
    wanted = [
        col(StoredJob.del_flag) == (1 if query.enabled is None else query.enabled),
        *equal(StoredJob.id, query.id),
        *containing(StoredJob.code, query.code),
        *containing(StoredJob.name, query.name),
        *containing(StoredJob.description, query.description),
        *equal(StoredJob.kind, query.kind),
        *equal(StoredJob.cluster_id, query.cluster_id),
        *containing(StoredJob.create_by, query.created_by),
        *containing(StoredJob.modify_by, query.modified_by),
        *within(StoredJob.create_time, query.created_at),
        *within(StoredJob.modify_time, query.modified_at),
        *_of_clusters(query),
        *containing(_of_newest_run(Run.external_id), query.flink_job_id),
        *_of_status(query),
        *_of_tables(query),
    ]
    if query.kind_name is not None:
        wanted.append(col(StoredJob.kind).in_(_named(KIND_NAMES, query.kind_name)))
    settings = col(StoredJob.settings)
    for name in _JSON_SETTINGS:
        if (value := getattr(query, name)) is not None:
            wanted.append(settings[name].as_integer() == value)
    for name in _TEXT_SETTINGS:
        wanted += containing(settings[name].as_string(), getattr(query, name))
    return wanted


def _of_clusters(query: JobQuery) -> list[ColumnElement[bool]]:
    wanted = containing(Cluster.name, query.cluster_name)
    if query.cluster_type is not None:
        # The job view's 0 and the dictionary's 1 both say standalone.
        types = (0, 1) if query.cluster_type in (0, 1) else (query.cluster_type,)
        wanted.append(col(Cluster.type).in_(types))
    if query.cluster_type_name is not None and query.cluster_type_name.strip().lower() not in "standalone":
        wanted.append(literal(False))
    return [col(StoredJob.cluster_id).in_(select(Cluster.id).where(*wanted))] if wanted else []


def _of_tables(query: JobQuery) -> list[ColumnElement[bool]]:
    wanted = [
        *equal(JobTableLink.table_id, query.table_id),
        *containing(JobTableLink.role, query.table_role),
        *equal(JobTableLink.id, query.table_mapping_id),
        *equal(JobTableLink.job_id, query.table_job_id),
        *containing(JobTableLink.sql, query.table_sql),
    ]
    return [col(StoredJob.id).in_(select(JobTableLink.job_id).where(*wanted))] if wanted else []


def _of_status(query: JobQuery) -> list[ColumnElement[bool]]:
    codes = set(STATUS_NAMES)
    if query.status is not None:
        codes &= {query.status}
    if query.status_name is not None:
        codes &= _named(STATUS_NAMES, query.status_name)
    if codes == set(STATUS_NAMES):
        return []
    states = [state for state, code in STATUS.items() if code in codes]
    # As status_of: a run that was stopped with a savepoint has FINISHED.
    stopped = (col(Run.desired) == Desired.STOPPED) & col(Run.successor).is_(None)
    finished = col(Run.state) == State.FINISHED
    own = case((finished & stopped, literal(State.CANCELED.name)), else_=cast(col(Run.state), String))
    among = _of_newest_run(own).in_([state.name for state in states])
    return [among | _of_newest_run(Run.id).is_(None)] if 0 in codes else [among]


def _of_newest_run(column: Any) -> ColumnElement[Any]:
    """A column of the job's newest run: one step in the index of runs by subject. NULL for a job that never ran."""
    subject = literal(SUBJECT) + cast(col(StoredJob.id), String)
    newest = select(column).where(Run.subject == subject).order_by(col(Run.id).desc()).limit(1)
    return newest.correlate(StoredJob).scalar_subquery()


def _named(names: Mapping[int, str], text: str) -> set[int]:
    return {code for code, name in names.items() if text.strip().lower() in name.lower()}
