"""Routes of 自定义函数 (``/ds/udf``)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.hlink.functions import service as functions
from app.hlink.functions.models import StoredFunction
from app.hlink.functions.service import Workshop
from app.hlink.planner import PART as PLANNER
from app.hlink.wire import (
    Answer,
    FunctionEntity,
    FunctionQuery,
    FunctionUpdate,
    FunctionUpload,
    FunctionVersionView,
    FunctionView,
    Page,
    Uploaded,
)
from app.hlink.wire.functions import FILE
from app.service import ReadSession, TheService
from app.uploads import ANY_SIZE, Files

router = APIRouter(tags=["自定义函数"])


def _form(required: bool) -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "a jar; a .py or .zip with Python functions"}
    schema = {"type": "object", "properties": {FILE: file}, "required": [FILE] if required else []}
    # Read piece by piece from the request, so it is declared here and not by a parameter.
    return {"requestBody": {"required": required, "content": {"multipart/form-data": {"schema": schema}}}}


def workshop(service: TheService) -> Workshop:
    return Workshop(service.database, service.parts[PLANNER], Files.of(service.settings))


TheWorkshop = Annotated[Workshop, Depends(workshop)]


@router.post("/ds/udf/upload", openapi_extra=_form(True), max_body_size=ANY_SIZE)
async def upload(
    workshop: TheWorkshop, request: Request, query: Annotated[FunctionUpload, Query()]
) -> Answer[Uploaded]:
    """自定义函数jar包上传: the file is looked into, and what cannot be called is refused and not kept."""
    return Answer(data=_uploaded(await functions.upload(workshop, request, query)))


@router.get("/ds/udf/list")
async def page(session: ReadSession, query: Annotated[FunctionQuery, Query()]) -> Answer[Page[FunctionEntity]]:
    """自定义函数分页列表."""
    rows, total = await functions.page(session, query)
    return Answer(data=Page.of([_entity(row) for row in rows], total, query))


@router.get("/ds/udf/get")
async def get(
    session: ReadSession, function_id: Annotated[int, Query(alias="id", json_schema_extra={"format": "int64"})]
) -> Answer[FunctionView]:
    """A function with its versions and the jobs that call it (ours, as ``/ds/get`` is for tables)."""
    function = await functions.find(session, function_id)
    return Answer(
        data=FunctionView(
            **_entity(function).model_dump(),
            versions=[
                FunctionVersionView(
                    version=one.number,
                    implementation=one.implementation,
                    file_name=one.file_name,
                    sha256=one.sha256,
                    created_at=one.created_at,
                )
                for one in await functions.versions(session, function)
            ],
            jobs=await functions.users(session, function),
        )
    )


@router.put("/ds/udf/update", openapi_extra=_form(False), max_body_size=ANY_SIZE)
async def update(
    workshop: TheWorkshop, request: Request, query: Annotated[FunctionUpdate, Query()]
) -> Answer[dict[str, Any]]:
    """自定义函数更新: its description; a form with a file makes a new version, which the jobs' next runs take."""
    function = await functions.update(workshop, request, query)
    return Answer(data={"id": function.id, "version": function.version})


@router.delete("/ds/udf/delete")
async def delete(
    workshop: TheWorkshop, function_id: Annotated[int, Query(alias="id", json_schema_extra={"format": "int64"})]
) -> Answer[dict[str, Any]]:
    """自定义函数删除: refused while a job uses it."""
    await functions.remove(workshop.database, function_id)
    return Answer(data={"id": function_id})


def _uploaded(function: StoredFunction) -> Uploaded:
    return Uploaded(file_name=function.file_name, status="success", id=function.id, version=function.version)


def _entity(row: StoredFunction) -> FunctionEntity:
    return FunctionEntity(
        id=row.id,
        name=row.name,
        kind=row.kind,
        implementation=row.implementation,
        description=row.description,
        path=f"files/{row.sha256}",
        file_name=row.file_name,
        state=0,
        version=row.version,
        sha256=row.sha256,
        created_by=row.create_by,
        created_at=row.create_time,
        modified_by=row.modify_by,
        modified_at=row.modify_time,
    )
