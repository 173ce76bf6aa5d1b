"""Routes of 文件管理 (``/jars``)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.hlink.clusters.routes import CONNECTIONS
from app.hlink.jars import service as jars
from app.hlink.jars.models import NO_CLUSTER, StoredJar
from app.hlink.wire import Answer, JarEntity, JarPageQuery, JarQuery, JarUpload, JarUploaded, Page
from app.hlink.wire.jars import FILE
from app.service import ReadSession, TheService
from app.uploads import ANY_SIZE, Files

router = APIRouter(tags=["文件管理"])

_FORM = {
    "requestBody": {
        "required": True,
        # Read piece by piece from the request, so it is declared here and not by a parameter.
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FILE: {"type": "string", "format": "binary", "description": "a program's jar"}},
                    "required": [FILE],
                }
            }
        },
    }
}


@router.post("/jars/upload", openapi_extra=_FORM, max_body_size=ANY_SIZE)
async def upload(service: TheService, request: Request, query: Annotated[JarUpload, Query()]) -> Answer[JarUploaded]:
    """jar包上传: looked into, kept once by its contents, and brought to the cluster that is named."""
    flink, files = service.parts[CONNECTIONS], Files.of(service.settings)
    jar = await jars.upload(service.database, files, flink, request, query)
    return Answer(data=JarUploaded(file_name=jar.unique_name, status="success", id=jar.id))


@router.get("/jars/list")
async def all_of(session: ReadSession, query: Annotated[JarQuery, Query()]) -> Answer[list[JarEntity]]:
    """jar包列表获取(无分页)."""
    return Answer(data=[_entity(jar) for jar in await jars.all_of(session, query)])


@router.get("/jars/listPage")
async def page(session: ReadSession, query: Annotated[JarPageQuery, Query()]) -> Answer[Page[JarEntity]]:
    """jar包列表分页查询."""
    rows, total = await jars.page(session, query)
    return Answer(data=Page.of([_entity(row) for row in rows], total, query))


@router.delete("/jars/removeDO")
async def remove(
    service: TheService, jar_id: Annotated[int, Query(alias="jarid", json_schema_extra={"format": "int64"})]
) -> Answer[dict[str, Any]]:
    """jar包删除: refused while a job uses it."""
    await jars.remove(service.database, service.parts[CONNECTIONS], jar_id)
    return Answer(data={"id": jar_id})


def _entity(jar: StoredJar) -> JarEntity:
    return JarEntity(
        id=jar.id,
        cluster_id=None if jar.cluster_id == NO_CLUSTER else jar.cluster_id,
        entry_class=jar.entry_class,
        name=jar.name,
        unique_name=jar.unique_name,
        size=jar.size,
        size_text=_readable(jar.size),
        kind=jar.kind,
        status=int(jar.on_cluster),
        created_by=jar.create_by,
        created_at=jar.create_time,
        modified_by=jar.modify_by,
        modified_at=jar.modify_time,
    )


def _readable(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"
