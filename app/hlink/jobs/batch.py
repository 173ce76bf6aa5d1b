"""One action on many jobs: each for itself, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from sqlalchemy.exc import SQLAlchemyError

from app.errors import HlinkError, InvalidInput, Problem, in_domain_words

_AT_ONCE = 4


async def each(job_ids: Iterable[int], action: Callable[[int], Awaitable[object]]) -> dict[int, str]:
    """Do it to each job, and answer why for those where it failed; the others went through.

    Raises:
        InvalidInput: there is no job id.
    """
    wanted = list(dict.fromkeys(job_ids))
    if not wanted:
        raise InvalidInput(Problem("no job is named", field="jobIds", remedy="give the ids that /jobs/list shows"))
    turns = asyncio.Semaphore(_AT_ONCE)
    failed: dict[int, str] = {}

    async def one(job_id: int) -> None:
        async with turns:
            try:
                await action(job_id)
            except (HlinkError, SQLAlchemyError) as error:
                failed[job_id] = in_domain_words(error).message

    await asyncio.gather(*map(one, wanted))
    return {job_id: failed[job_id] for job_id in wanted if job_id in failed}
