"""``/notifications``: who is told when something is wrong with a job, and what was sent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from app.errors import InvalidInput, Problem
from app.hlink.notifications import service as targets
from app.hlink.notifications.models import Notification, Progress, Target
from app.hlink.wire import Answer, NotificationQuery, NotificationView, Page, TargetChange, TargetView
from app.service import ReadSession, TheService, WriteSession

router = APIRouter(tags=["notifications"])

TargetId = Annotated[int, Path(alias="id", ge=0, lt=2**63, json_schema_extra={"format": "int64"})]


@router.get("/notifications")
async def every(session: ReadSession) -> Answer[list[TargetView]]:
    """The targets, their addresses without secrets."""
    return Answer(data=[_view(one) for one in await targets.every(session)])


@router.post("/notifications")
async def add(service: TheService, wanted: TargetChange) -> Answer[TargetView]:
    """Adds a target. It is told of what happens from now on; ``/notifications/{id}/test`` tries it."""
    return Answer(data=_view(await targets.add(service.database, wanted)))


@router.put("/notifications/{id}")
async def change(service: TheService, target_id: TargetId, wanted: TargetChange) -> Answer[TargetView]:
    """Changes a target; what is not given stays."""
    return Answer(data=_view(await targets.change(service.database, target_id, wanted)))


@router.delete("/notifications/{id}")
async def remove(session: WriteSession, target_id: TargetId) -> Answer[dict[str, Any]]:
    """Removes a target; what was not sent to it yet is given up."""
    target = await targets.remove(session, target_id)
    return Answer(data={"id": target.id, "name": target.name})


@router.post("/notifications/{id}/test")
async def test(service: TheService, target_id: TargetId) -> Answer[dict[str, Any]]:
    """Sends a test to a target, and answers when it was taken; a refusal says why it was not."""
    target = await targets.test(service.database, service.parts[targets.DELIVERY], target_id)
    return Answer(data={"id": target.id, "name": target.name})


@router.get("/notifications/sent")
async def sent(session: ReadSession, query: Annotated[NotificationQuery, Query()]) -> Answer[Page[NotificationView]]:
    """What was sent, is to be sent, or was given up with its reason; newest first, kept for 30 days."""
    if query.state is not None and query.state not in list(Progress):
        raise InvalidInput(
            Problem(f"'{query.state[:100]}' is not a state", field="state", remedy=f"use {', '.join(Progress)}")
        )
    rows, total = await targets.page(session, query)
    return Answer(data=Page.of([_notification(one, name) for one, name in rows], total, query))


def _view(target: Target) -> TargetView:
    return TargetView(
        id=target.id,
        name=target.name,
        url=target.shown,
        events=target.kinds,
        jobs=target.jobs,
        enabled=target.del_flag == targets.ON,
        created_by=target.create_by,
        created_at=target.create_time,
        modified_by=target.modify_by,
        modified_at=target.modify_time,
    )


def _notification(one: Notification, target: str) -> NotificationView:
    return NotificationView(
        id=one.id,
        target_id=one.target_id,
        target=target,
        event=one.kind,
        jobs=one.job_ids,
        title=one.title,
        text=one.body,
        state=one.state,
        attempts=one.attempts,
        reason=one.reason,
        created_at=one.created_at,
        next_at=one.next_at if one.state is Progress.PENDING else None,
        ended_at=one.ended_at,
    )
