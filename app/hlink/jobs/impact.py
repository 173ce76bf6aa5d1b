"""What a change of a job would mean to the state that it has, before the change is made."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import InvalidInput, Problem
from app.hlink.jobs import versions
from app.hlink.jobs.definition import JarJob
from app.hlink.jobs.judgement import functions_of, judged, numbered, saved_at
from app.hlink.jobs.models import JobVersion, subject_of
from app.hlink.jobs.service import Engine, defined, drafted, kept, planned
from app.hlink.wire import JobImpact, JobView, OperatorImpact
from app.supervisor import Run, latest_runs
from stream_jobs.plans.numbering import Planned
from stream_jobs.plans.verdict import Judgement, SavedOperator, Setting


@dataclass(frozen=True, slots=True)
class State:
    """What a job has gathered: the version that did it, and where it is kept."""

    run: Run
    version: JobVersion

    @property
    def path(self) -> str | None:
        """The newest place that is noted of a run that has ended; None while it runs: there is a newer one then."""
        return (self.run.savepoint or self.run.checkpoint) if self.run.state.ended else None


async def impact(engine: Engine, view: JobView) -> JobImpact:
    """What becomes of the job's state if it is changed to this and restarted. Nothing is stored or touched.

    Raises:
        InvalidInput, NotFound, Conflict, Unavailable: as :func:`~app.hlink.jobs.service.update`.
    """
    if not view.id:
        raise InvalidInput(Problem("the job has no id", field="id", remedy="give the id that /jobs/list shows"))
    async with engine.database.read() as session:
        await kept(session, view.id)
        draft = await drafted(session, view)
        newest = await versions.newest(session, view.id)
        state = await state_of(session, view.id)
    definition = await defined(engine, draft)
    if isinstance(definition, JarJob):
        return untold("the operators of a program in a jar are the program's own: Flink tells when it restores them")
    made = await planned(engine, definition, view.id, with_plan=True)
    called = [{"name": f.name, "implementation": f.implementation, "sha256": f.sha256} for f in made.functions]
    plan = numbered(made.compiled, called, newest, state.version if state is not None else None)
    after = Setting(Planned(plan.compiled, functions_of(called)), made.options)
    return await told(engine, state, after)


async def impact_of_version(engine: Engine, job_id: int, number: int) -> JobImpact | None:
    """What becomes of the job's state when it is restarted with a stored version; None for programs in jars."""
    async with engine.database.read() as session:
        state = await state_of(session, job_id)
        version = await versions.find(session, job_id, number)
    if state is None or state.version.id == version.id:
        return None
    after = Setting(Planned(version.compiled, functions_of(version.functions)), version.options)
    found = judged(state.version, after)
    return None if found is None else described(state, found)


async def state_of(session: AsyncSession, job_id: int) -> State | None:
    """What the job's newest run has gathered; None without a run."""
    subject = subject_of(job_id)
    run = (await latest_runs(session, [subject])).get(subject)
    version = await session.get(JobVersion, run.spec["version"]) if run is not None else None
    return State(run, version) if run is not None and version is not None else None


async def told(engine: Engine, state: State | None, after: Setting) -> JobImpact:
    """The judgement on the state when it goes on so; a savepoint that can be read counts with what is in it."""
    if state is None:
        return untold("the job has not run yet: there is no state")
    saved: tuple[SavedOperator, ...] | None = None
    if state.path is not None:
        saved = await saved_at(engine, state.path)
    found = judged(state.version, after, saved)
    if found is None:
        return untold("the state was made by a program in a jar: it cannot be compared with a plan")
    return described(state, found)


def described(state: State, found: Judgement) -> JobImpact:
    """A judgement in the words of the API."""
    return JobImpact(
        restores=found.restores,
        summary=summary(found),
        state_of_version=state.version.number,
        state_path=state.path,
        operators=[
            OperatorImpact(
                operator=one.operator,
                sources=list(one.sources),
                sinks=list(one.sinks),
                verdict=one.verdict.value,
                reason=one.reason,
                remedy=one.remedy or None,
            )
            for one in found.operators
        ],
    )


def untold(why: str) -> JobImpact:
    """An answer for a job without a state that could be lost."""
    return JobImpact(restores=True, summary=why, operators=[])


def summary(found: Judgement) -> str:
    """A sentence for people."""
    if found.restores:
        return "A restart goes on with all of its state."
    return f"A restart is refused unless allowNrs is 1. {found.words}"
