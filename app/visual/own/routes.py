"""Routes of components of somebody's own, beside those of 组件管理."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse

from app.service import ReadSession, TheService, WriteSession
from app.uploads import ANY_SIZE
from app.visual.answers import Answer, Page, measured
from app.visual.components import as_published
from app.visual.own import service as own
from app.visual.own.models import OwnComponent
from app.visual.own.wire import FILE, OwnEntry, OwnQuery, OwnView
from app.wire import Text

router = APIRouter(prefix="/visualmodule/component/own", tags=["组件管理"], dependencies=[measured])

_FORM = {
    "requestBody": {
        "required": True,
        # Read piece by piece from the request, so it is declared here and not by a parameter.
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        FILE: {"type": "string", "format": "binary", "description": "a .py file with COMPONENT and run"}
                    },
                    "required": [FILE],
                }
            }
        },
    }
}
_SOURCE: dict[int | str, dict[str, Any]] = {200: {"description": "The file.", "content": {"text/x-python": {}}}}

Uuid = Annotated[Text, Path()]


@router.post("", openapi_extra=_FORM, max_body_size=ANY_SIZE)
async def upload(service: TheService, request: Request) -> Answer[OwnView]:
    """A component of somebody's own, or a new version of it: its declaration is read, and nothing of it is executed."""
    return Answer(obj=_view(await own.upload(service, request)))


@router.get("")
async def page(session: ReadSession, query: Annotated[OwnQuery, Query()]) -> Answer[Page[OwnEntry]]:
    """The components of people's own, by name."""
    rows, total = await own.page(session, query)
    return Answer(
        obj=Page(data=[OwnEntry(**_entry(row)) for row in rows], page=query.number, limit=query.size, total=total)
    )


@router.get("/{uuid}")
async def get(session: ReadSession, uuid: Uuid) -> Answer[OwnView]:
    """A component with its ports and parameters."""
    return Answer(obj=_view(await own.find(session, uuid)))


@router.get("/{uuid}/file", response_class=FileResponse, responses=_SOURCE)
async def file(service: TheService, session: ReadSession, uuid: Uuid) -> FileResponse:
    """The file of the version that is in use."""
    row = await own.find(session, uuid)
    return FileResponse(await own.source(service.settings, row), media_type="text/x-python", filename=row.file_name)


@router.delete("/{uuid}")
async def remove(session: WriteSession, uuid: Uuid) -> Answer[dict[str, Any]]:
    """Take a component out of use: refused while a job uses it."""
    await own.remove(session, uuid)
    return Answer(obj={"uuid": uuid})


def _view(row: OwnComponent) -> OwnView:
    return OwnView(**_entry(row), operator=as_published(row.component))


def _entry(row: OwnComponent) -> dict[str, Any]:
    return {
        "uuid": row.uuid,
        "name": row.component.name,
        "version": row.number,
        "file_name": row.file_name,
        "size": row.size,
        "sha256": row.sha256,
        "created_by": row.create_by,
        "created_at": row.create_time,
    }
