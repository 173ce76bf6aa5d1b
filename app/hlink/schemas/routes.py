"""Routes of 数据源管理 (``/ds``) that make columns of schemas and samples."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Query, Request, UploadFile
from starlette.datastructures import UploadFile as Upload

from app.errors import InvalidInput, Problem
from app.hlink.requests import body_as
from app.hlink.schemas import service
from app.hlink.schemas.described import LARGEST_BYTES
from app.hlink.wire import Answer, SchemaAnalysis, SchemaInference, TopicSample

router = APIRouter(tags=["数据源管理"])

_INFER_BODY = {
    "requestBody": {
        "description": "Sample messages as a file (a JSON array, or one a line), or the topic to read them from.",
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
            "application/json": {"schema": TopicSample.model_json_schema()},
        },
    }
}


@router.post("/ds/schemaAnalysisDO")
async def analyse(
    file: Annotated[UploadFile, File()],
    schema_type: Annotated[str, Query(alias="schemaType", description="0 JSON Schema, 1 Avro")],
    structure: Annotated[str, Query(alias="structureType", description="0 flat, 1 nested")],
) -> Answer[SchemaAnalysis]:
    """上传schema文件: the columns that it describes, as ``/ds/addDO`` takes them."""
    return Answer(data=await service.analyse(await _content(file), schema_type, structure))


@router.post("/ds/schemaInferDO", openapi_extra=_INFER_BODY)
async def infer(request: Request) -> Answer[SchemaInference]:
    """The columns of sample messages, uploaded or read from a topic, and where the messages differ."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return Answer(data=await service.infer_from_topic(await body_as(request, TopicSample)))
    async with request.form(max_files=1) as form:
        file = form.get("file")
        if not isinstance(file, Upload):
            raise InvalidInput(Problem("there is no file", field="file", remedy="send the messages as the field file"))
        return Answer(data=await service.infer(await _content(file)))


async def _content(file: Upload) -> bytes:
    """The file, up to one byte more than is taken: enough to tell that it is too large."""
    return await file.read(LARGEST_BYTES + 1)
