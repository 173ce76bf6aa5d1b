"""Versions of a job: what each was defined as and planned to, what lies between two, and the way back to one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import unified_diff
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import Conflict, NotFound
from app.hlink.jobs.models import JobTableLink, JobVersion, StoredJob
from app.hlink.wire import JobTable, JobView

Definition = Mapping[str, Any]
"""A job as its user defined it, by the names of :class:`~app.hlink.jobs.models.StoredJob`. Holds no secret."""


def definition_of(job: StoredJob, links: Sequence[JobTableLink]) -> dict[str, Any]:
    """What a version keeps of the job that it was planned from; tables by their ids, since they are not the job's."""
    return {
        "name": job.name,
        "description": job.description,
        "kind": job.kind,
        "cluster_id": job.cluster_id,
        "settings": dict(job.settings),
        "tables": [{"table_id": link.table_id, "role": link.role, "sql": link.sql} for link in links],
    }


def view_of(definition: Definition, job_id: int) -> JobView:
    """The definition as ``/jobs/updateDO`` takes it."""
    plain = {name: value for name, value in definition.items() if name not in ("settings", "tables")}
    tables = [JobTable(job_id=job_id, **table) for table in definition["tables"]]
    return JobView(id=job_id, **plain, **definition["settings"], tables=tables)


async def newest(session: AsyncSession, job_id: int) -> JobVersion | None:
    """The job's newest version; None when it has none."""
    return next(iter(await history(session, job_id, 1)), None)


async def history(session: AsyncSession, job_id: int, limit: int = 100) -> Sequence[JobVersion]:
    """The job's versions, newest first."""
    query = select(JobVersion).where(JobVersion.job_id == job_id).order_by(col(JobVersion.number).desc()).limit(limit)
    return (await session.exec(query)).all()


async def find(session: AsyncSession, job_id: int, number: int) -> JobVersion:
    """The job's version of that number. Raises :class:`~app.errors.NotFound`."""
    query = select(JobVersion).where(JobVersion.job_id == job_id, JobVersion.number == number)
    found = (await session.exec(query)).first()
    if found is None:
        last = await newest(session, job_id)
        known = f"it has 1 to {last.number}" if last else "it has none yet"
        raise NotFound(f"Job {job_id} has no version {number}: {known}")
    return found


def view_of_version(version: JobVersion) -> JobView:
    """What was defined then, as ``/jobs/updateDO`` takes it.

    Raises:
        Conflict: the version is from before definitions were kept.
    """
    if version.definition is None:
        raise Conflict(
            f"Version {version.number} was made before definitions were kept: there is nothing to go back to. "
            "Choose a later version"
        )
    return view_of(version.definition, version.job_id)


def diff(old: JobVersion, new: JobVersion) -> dict[str, str]:
    """Unified diffs between two versions: of the definition in the published words, and of the generated SQL."""
    names = f"version {old.number}", f"version {new.number}"

    def between(before: str, after: str) -> str:
        return "\n".join(unified_diff(before.splitlines(), after.splitlines(), *names, lineterm=""))

    return {"definition": between(_text(old), _text(new)), "sql": between(old.script, new.script)}


def _text(version: JobVersion) -> str:
    """The definition with one setting a line and the statements as they were written."""
    if version.definition is None:
        return ""
    view = view_of_version(version).model_dump(by_alias=True, exclude_none=True, exclude={"id", "tables"})
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in view.items()]
    for table in version.definition["tables"]:
        lines += ["", f"table {table['table_id']} {table['role']}".rstrip(), *table["sql"].splitlines()]
    return "\n".join(lines)
