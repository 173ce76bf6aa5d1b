"""Whether a run may go on from a state: judged first, and refused where it would be lost or misread."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import InvalidInput, Problem, Unavailable
from app.hlink.jobs.models import JAR, JobMessage, JobVersion, subject_of
from app.hlink.jobs.recovery import state_at
from app.hlink.jobs.submission import LEAVES
from app.supervisor import Run, Savepoint, latest_runs
from stream_jobs.planner.client import PlannerError
from stream_jobs.plans.graph import UnreadablePlan
from stream_jobs.plans.numbering import Numbered, Planned, first_numbers, renumbered
from stream_jobs.plans.verdict import Judgement, SavedOperator, Setting, judge, saved_operators

if TYPE_CHECKING:
    from app.hlink.jobs.service import Engine, Ready

_FLINK_ID = re.compile(r"[0-9a-f]{32}")
_SAVEPOINT = re.compile(r"savepoint-([0-9a-f]{6})-[0-9a-f]{12}")


def functions_of(functions: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The version of each function, by its name; fields as in :class:`~stream_jobs.definitions.Function`."""
    return {one["name"]: f"{one['implementation']} {one.get('sha256', '')}" for one in functions}


def setting_of(version: JobVersion) -> Setting:
    """What a version runs."""
    return Setting(Planned(version.compiled, functions_of(version.functions)), version.options)


def numbered(
    compiled: str, functions: Sequence[Mapping[str, str]], newest: JobVersion | None, ran: JobVersion | None
) -> Numbered:
    """The compiled plan of a job's next version, its operators with their numbers.

    They are those of the version that ``ran`` last, whose state there is, else those of the ``newest`` version: a
    change that is taken back is none. A program in a jar numbers its operators itself.
    """
    before = {one.id: setting_of(one).plan for one in (ran, newest) if one is not None}
    highest = newest.highest_operator if newest is not None else 0
    try:
        if not before:
            return first_numbers(compiled)
        return renumbered(Planned(compiled, functions_of(functions)), list(before.values()), highest)
    except UnreadablePlan:
        return Numbered(compiled, highest)


async def last_ran(session: AsyncSession, job_id: int) -> JobVersion | None:
    """The version that the job's newest run is of; None without a run."""
    subject = subject_of(job_id)
    run = (await latest_runs(session, [subject])).get(subject)
    return await session.get(JobVersion, run.spec["version"]) if run is not None else None


def judged(before: JobVersion | None, after: Setting, saved: Sequence[SavedOperator] | None = None) -> Judgement | None:
    """What becomes of the state that a version has gathered. None where there is no plan to be compared: in jars."""
    try:
        return judge(setting_of(before) if before is not None else None, after, saved)
    except UnreadablePlan:
        return None


async def goes_on_from(engine: Engine, job: Ready, path: str | None = None, running: Run | None = None) -> Ready:
    """The job that is about to be run, with how it takes its state over.

    The state is that at ``path``, else that of ``running``, which is stopped for it. A state that the very version
    made that is to run is not looked at.

    Raises:
        InvalidInput: state would be lost or misread, and ``allowNrs`` does not allow it. Nothing was touched.
        Unavailable: the planner, which reads the files, does not answer.
    """
    if job.job.kind == JAR or (running is None and path is None):
        return job
    async with engine.database.read() as session:
        made_by = (
            await session.get(JobVersion, running.spec["version"])
            if running is not None
            else await maker_of(session, job.job.id, str(path))
        )
    if made_by is not None and made_by.id == job.version.id:
        return job
    found = judged(made_by, setting_of(job.version), None if path is None else await saved_at(engine, str(path)))
    if found is None:
        return job
    told = dict(job.spec)
    allowed = bool(told.get("allow_non_restored"))
    if not found.restores and not allowed:
        refusal = refused(job.job.name, found)
        async with engine.database.write() as session:
            session.add(JobMessage(job_id=job.job.id, message=f"not started: {refusal.message}"))
        raise refusal
    told["allow_non_restored"] = allowed or found.unclaimed
    if found.obstacle and running is not None:
        told[LEAVES] = running.id
    elif found.obstacle:
        told["restore"] = None
    return replace(job, spec=told, notice=noticed(found))


def refused(name: str, found: Judgement) -> InvalidInput:
    """The refusal to start from a state, with every reason and what to do."""
    if found.obstacle:
        problems = [
            Problem(
                found.obstacle.rstrip("."), field="allowNrs",
                remedy="undo that, or give allowNrs 1 to start without any state",
            )
        ]  # fmt: skip
    else:
        problems = []
    problems += [
        Problem(
            f"job {name!r} would not go on with its state: {one}",
            table=", ".join(one.sinks or one.sources) or None,
            field="allowNrs",
            remedy=one.remedy.rstrip("."),
        )
        for one in found.refused
    ]
    return InvalidInput(*problems)


def noticed(found: Judgement) -> str:
    """What is said in the log of a job that starts from a state that does not fit it; empty where it fits."""
    if found.obstacle:
        return f"it starts without any state, as allowNrs asks: {found.obstacle}"
    if not found.refused:
        return ""
    return f"it goes on from a state that does not fit it, as allowNrs asks: {found.words}"


async def saved_at(engine: Engine, path: str) -> tuple[SavedOperator, ...] | None:
    """The operators of a savepoint or checkpoint; None when its files cannot be seen from here."""
    try:
        found = await state_at(engine.planner, path)
    except PlannerError as error:
        raise Unavailable(str(error)) from error
    return saved_operators(found["operators"]) if found.get("operators") is not None else None


async def maker_of(session: AsyncSession, job_id: int, path: str) -> JobVersion | None:
    """The version whose run made the savepoint or checkpoint; None when that is not known.

    It is known by the savepoint's record, else by Flink's id of the job, which is in the names of its folders.
    """
    by_record = select(Run).join(Savepoint, col(Savepoint.run_id) == Run.id).where(Savepoint.path == path)
    made = (await session.exec(by_record.limit(1))).first()
    parts = path.rstrip("/").split("/")
    if made is None and (ids := [part for part in parts if _FLINK_ID.fullmatch(part)]):
        made = (await session.exec(select(Run).where(Run.external_id == ids[-1]))).first()
    if made is None and (named := _SAVEPOINT.fullmatch(parts[-1])):
        like = select(Run).where(col(Run.external_id).startswith(named[1])).limit(2)
        found = (await session.exec(like)).all()
        own = [run for run in found if run.subject == subject_of(job_id)]
        made = own[0] if len(own) == 1 else found[0] if len(found) == 1 else None
    if made is None:
        return None
    return await session.get(JobVersion, made.spec["version"]) if "version" in made.spec else None
