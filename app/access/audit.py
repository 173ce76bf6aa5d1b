"""The audit log: one row for each request that changed something or was refused, without its content.

The row is written before the answer is sent, so that whoever has an answer is in the log. A caller without a valid
token is nobody: such requests are not kept, or anybody could fill the database.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import ColumnElement, func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.models import LONGEST_PATH, AuditEvent
from app.access.tokens import Caller
from app.database import Database, now_ms
from app.errors import DatabaseFailure

logger = logging.getLogger(__name__)

_IDS = ("id", "jobId", "jobIds", "dsId", "clusterId", "jarid")
_DAY_MS = 24 * 3600 * 1000
_CLEAN_EVERY_S = 3600.0
_LARGEST_ENVELOPE = 64 * 1024


def mark(request: Request, caller: Caller) -> None:
    """Have this request kept, as one of ``caller``'s."""
    request.state.audited_as = caller


class AuditTrail:
    """Middleware: writes the row of each marked request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start: Message | None = None

        async def keep_and_send(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:  # the head waits for the body's beginning, which has the envelope
                await _keep(scope, start["status"], message.get("body", b""))
                await send(start)
                start = None
            await send(message)

        try:
            await self.app(scope, receive, keep_and_send)
        except Exception:  # answered as a fault of ours further out
            await _keep(scope, 500, b"")
            raise
        return None


async def _keep(scope: Scope, status: int, body: bytes) -> None:
    caller: Caller | None = scope.get("state", {}).get("audited_as")
    if caller is None:
        return
    envelope = _envelope(body)
    event = AuditEvent(
        who=caller.name,
        role=caller.role,
        method=scope["method"],
        path=_storable(scope["path"]),
        subjects=_storable(_subjects(Request(scope), envelope.get("data"))),
        success=bool(envelope.get("success", status < 400)),
        code=envelope["code"] if isinstance(envelope.get("code"), int) else status,
    )
    database: Database = scope["app"].state.service.database
    try:
        async with database.write() as session:
            session.add(event)
    except (SQLAlchemyError, DatabaseFailure) as error:
        # What was done is done: its answer stands.
        logger.error(
            "not in the audit log (%s): %s by %s, code %s", type(error).__name__, scope["path"], event.who, event.code
        )


def _envelope(body: bytes) -> dict[str, Any]:
    if len(body) > _LARGEST_ENVELOPE:
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _subjects(request: Request, data: Any) -> str:
    """The ids in the path, the query and the answer; what a caller can choose freely comes last."""
    query = request.query_params
    found = {name: str(value) for name, value in request.path_params.items()}
    if isinstance(data, dict):
        found |= {name: str(data[name]) for name in _IDS if isinstance(data.get(name), int | str)}
    found |= {name: ",".join(query.getlist(name)) for name in _IDS if name in query and name not in found}
    return ", ".join(f"{name}={value}" for name, value in found.items())


def _storable(text: str) -> str:
    """What every database takes: a request with odd characters in its address must not escape the log."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)[:LONGEST_PATH]


async def page(
    session: AsyncSession, conditions: Sequence[ColumnElement[bool]], offset: int, size: int
) -> tuple[Sequence[AuditEvent], int]:
    """The events that fulfil the conditions, newest first: one page of them, and how many there are."""
    total = (await session.exec(select(func.count()).select_from(AuditEvent).where(*conditions))).one()
    rows = await session.exec(
        select(AuditEvent).where(*conditions).order_by(col(AuditEvent.id).desc()).offset(offset).limit(size)
    )
    return rows.all(), total


async def forget(database: Database, days: int) -> int:
    """Delete what is older; how many rows."""
    async with database.write() as session:
        old = delete(AuditEvent).where(col(AuditEvent.at) < now_ms() - days * _DAY_MS)
        return int((await session.exec(old)).rowcount)


@asynccontextmanager
async def kept_for(database: Database, days: int) -> AsyncIterator[None]:
    """Delete what is older than ``days``, at the beginning and every hour; 0 keeps everything."""
    if days == 0:
        yield
        return
    over = asyncio.Event()
    cleaning = asyncio.create_task(_clean(database, days, over), name="audit log")
    try:
        yield
    finally:
        # Asked to end, not cancelled: a transaction is finished.
        over.set()
        await cleaning


async def _clean(database: Database, days: int, over: asyncio.Event) -> None:
    while not over.is_set():
        try:
            await forget(database, days)
        except (SQLAlchemyError, DatabaseFailure) as error:
            logger.warning("old rows of the audit log were not deleted: %s; trying again", type(error).__name__)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLEAN_EVERY_S):
                await over.wait()
