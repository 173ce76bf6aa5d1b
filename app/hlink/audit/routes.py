"""``GET /audit``: who changed what, and when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.access import audit
from app.access.models import AuditEvent
from app.filters import containing, since_until
from app.hlink.wire import Answer, AuditQuery, AuditRecord, Page
from app.service import ReadSession

router = APIRouter(tags=["audit"])


@router.get("/audit")
async def page(session: ReadSession, query: Annotated[AuditQuery, Query()]) -> Answer[Page[AuditRecord]]:
    """The changes, newest first."""
    wanted = [
        *containing(AuditEvent.who, query.who),
        *containing(AuditEvent.path, query.path),
        *since_until(AuditEvent.at, query.since, query.until),
    ]
    rows, total = await audit.page(session, wanted, query.offset, query.size)
    return Answer(data=Page.of([_record(row) for row in rows], total, query))


def _record(row: AuditEvent) -> AuditRecord:
    return AuditRecord(
        id=row.id,
        at=row.at,
        who=row.who,
        role=row.role,
        method=row.method,
        path=row.path,
        subjects=row.subjects,
        success=row.success,
        code=row.code,
    )
