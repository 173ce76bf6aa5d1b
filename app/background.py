"""Steps that are repeated in the background while the service runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError

from app.errors import DatabaseFailure

logger = logging.getLogger(__name__)

Step = Callable[[asyncio.Event], Awaitable[None]]
"""One step. The event is set when the service ends: a long step looks at it now and then."""


@asynccontextmanager
async def repeated(name: str, every_s: float, step: Step) -> AsyncIterator[None]:
    """Take the step at once and then ``every_s`` after its end, for as long as the block lasts.

    A step that raises is logged and taken again: a fault here must not end what looks after others.
    """
    over = asyncio.Event()

    async def go() -> None:
        while not over.is_set():
            try:
                await step(over)
            except (SQLAlchemyError, DatabaseFailure) as error:
                logger.warning("%s: the database failed: %s; trying again", name, type(error).__name__)
            except Exception:
                logger.exception("%s failed; trying again", name)
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await over.wait()

    task = asyncio.create_task(go(), name=name)
    try:
        yield
    finally:
        # Asked to end, not cancelled: a transaction is finished.
        over.set()
        await task
