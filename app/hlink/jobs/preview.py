"""What a job's sinks would hold: its statements over a bounded sample of the real sources."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from app.errors import HlinkError, InvalidInput, Problem, Unavailable
from app.hlink.jobs.definition import JarJob
from app.hlink.jobs.service import Engine, defined, drafted, planned
from app.hlink.wire import JobPreview
from stream_jobs.definitions import Role
from stream_jobs.planner.client import PlannerError
from stream_jobs.planner.functions import prepare
from stream_jobs.planner.plan import fill_in, secrets_of_tables
from stream_jobs.planner.preview import Previewer, PreviewFailed
from stream_jobs.sql.preview import preview_of

LONGEST_S = 10.0
DEFAULT_ROWS = 100


class FailedPreview(HlinkError):
    """The statements are right, and a row was not; the message gives Flink's root cause."""


async def preview(engine: Engine, previewer: Previewer, view: JobPreview) -> dict[str, Any]:
    """Rows by sink. Nothing is stored or written, no cluster is asked; see :func:`stream_jobs.sql.preview.preview_of`.

    Raises:
        InvalidInput, NotFound: the definition, its SQL, or a broker or database that it reads; as for a run.
        FailedPreview: the job failed over a row.
        Unavailable: the planner or the preview's process could not answer.
    """
    began = time.monotonic()
    limit, timeout_s = view.limit or DEFAULT_ROWS, view.timeout_s or LONGEST_S
    async with engine.database.read() as session:
        draft = await drafted(session, view)
    job = await defined(engine, draft)
    if isinstance(job, JarJob):
        raise InvalidInput(Problem("a program in a jar has no preview", field="jobType", remedy="run it"))
    # The real sinks judge first: the preview's own take whatever comes.
    await planned(engine, job, draft.job.id, with_plan=False)
    sources = [table for table in job.tables if table.role is not Role.SINK]
    if problems := await engine.connections.check_all(sources):
        raise InvalidInput(*problems)
    shown = preview_of(job)
    plan = await planned(engine, shown, draft.job.id, with_plan=True)
    compiled = fill_in(plan.compiled, secrets_of_tables(shown.tables, str(draft.job.id)))
    sinks = [table.name for table in shown.tables if table.role is Role.SINK]
    try:
        functions = await asyncio.to_thread(prepare, plan.functions, engine.planner.config)
        found = await previewer.run(compiled, plan.options, functions, sinks, limit, timeout_s)
    except PreviewFailed as error:
        raise FailedPreview(f"The preview failed: {error}") from error
    except PlannerError as error:
        raise Unavailable(f"The preview came to nothing: {error}") from error
    return {
        "sinks": {name: {"rows": one.rows, "more": one.more} for name, one in found.sinks.items()},
        "complete": found.complete,
        "durationMs": int((time.monotonic() - began) * 1000),
    }
