"""Routes of 数据集管理 (``/visualmodule/dataset``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from app.hlink.extracts.rows import Progress
from app.service import ReadSession, Service, TheService
from app.uploads import ANY_SIZE
from app.visual.answers import Answer, Listed, Page, measured
from app.visual.choices import DATA_SOURCES, DATA_STATUSES, DATA_TYPES, DataSource, DataStatus, DataType
from app.visual.datasets import presets
from app.visual.datasets import service as data_sets
from app.visual.datasets.contents import Contents
from app.visual.datasets.copying import Wanted
from app.visual.datasets.models import DataSet
from app.visual.datasets.presets import BY_ID, Preset
from app.visual.datasets.uploads import Uploads, own
from app.visual.datasets.wire import (
    FILE,
    Clearing,
    ColumnEntry,
    CopyEntry,
    CopyingEntry,
    CsvPage,
    CsvQuery,
    DataSetDetail,
    DataSetEntry,
    DataSetId,
    DataSetQuery,
    FragmentForm,
    FragmentQuery,
    NewCopy,
    NewDataSet,
    NextIndex,
    SourceChoice,
    StatusChoice,
    Taken,
    TypeChoice,
    UploadEntry,
)
from app.wire import Int64

PART = "visual.datasets"
"""Under this name the service has its :class:`~app.visual.datasets.uploads.Uploads`."""

router = APIRouter(prefix="/visualmodule/dataset", tags=["数据集管理"], dependencies=[measured])

_DataId = Annotated[Int64, Path(alias="dataId")]
_Nothing = Answer[dict[str, Any]]


def _form() -> dict[str, Any]:
    """Read piece by piece from the request, so it is declared here and not by a parameter."""
    schema = FragmentForm.model_json_schema(by_alias=True)
    schema["properties"][FILE] = {"type": "string", "format": "binary", "description": "the fragment"}
    schema["required"] = [*schema["required"], FILE]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """What data sets need while the service runs; other parts guard what they use with ``parts[PART].guard``."""
    uploads = service.parts[PART] = Uploads(service.database, service.settings)
    async with uploads.running():
        yield


@router.post("")
async def create(service: TheService, wanted: NewDataSet) -> Answer[DataSetId]:
    """添加数据集: a preset is there already, and is answered with its id."""
    return Answer(obj=DataSetId(id=await data_sets.create(service.database, wanted)))


@router.post("/fromStream")
async def copy(service: TheService, wanted: NewCopy) -> Answer[DataSetId]:
    """A data set of rows of a stream job's table (ours): its dataStatus is 4 while they are copied."""
    uploads: Uploads = service.parts[PART]
    return Answer(obj=DataSetId(id=await data_sets.copy(uploads, wanted)))


@router.get("/list")
async def page(session: ReadSession, query: Annotated[DataSetQuery, Query()]) -> Answer[Page[DataSetEntry]]:
    """The presets and people's own data sets (ours)."""
    rows, total = await data_sets.page(session, query)
    shown = [_preset_entry(row) if isinstance(row, Preset) else _entry(row) for row in rows]
    return Answer(obj=Page(data=shown, page=query.number, limit=query.size, total=total))


@router.get("/status/list")
async def statuses() -> Answer[Listed[StatusChoice]]:
    """获取数据状态列表."""
    return Answer(obj=Listed(data=[StatusChoice(code=code, name=name) for code, name in DATA_STATUSES.items()]))


@router.get("/type/list")
async def types() -> Answer[Listed[TypeChoice]]:
    """获取数据类型列表."""
    return Answer(obj=Listed(data=[TypeChoice(code=code, name=name) for code, name in DATA_TYPES.items()]))


@router.get("/source/list")
async def sources() -> Answer[Listed[SourceChoice]]:
    """获取数据来源列表."""
    return Answer(obj=Listed(data=[SourceChoice(code=code, name=name) for code, name in DATA_SOURCES.items()]))


@router.get("/csv")
async def rows(service: TheService, session: ReadSession, query: Annotated[CsvQuery, Query()]) -> Answer[CsvPage]:
    """查看CSV文件内容: rows without the header, which ``columns`` has."""
    found = await data_sets.csv_page(session, service.settings, query.data_id, query.offset, query.size)
    reading = _reading(found.contents)
    return Answer(obj=CsvPage(data=found.rows, page=query.number, limit=query.size, total=found.total, **reading))


@router.post("/file", openapi_extra=_form(), max_body_size=ANY_SIZE)
async def upload(service: TheService, request: Request) -> Answer[Taken]:
    """上传数据集文件: one fragment, in any order, as often as need be; with the last one the file is made."""
    uploads: Uploads = service.parts[PART]
    data_set = await uploads.receive(request)
    return Answer(obj=Taken(id=data_set.id, status=data_set.status))


@router.get("/file/nextIndex")
async def next_index(service: TheService, query: Annotated[FragmentQuery, Query()]) -> Answer[NextIndex]:
    """获取数据集文件下一个分片下标: where to go on with an upload."""
    uploads: Uploads = service.parts[PART]
    return Answer(obj=NextIndex(next_index=await uploads.next_index(query.data_id, query.file_md5)))


@router.post("/clear")
async def clear(service: TheService, wanted: Clearing) -> _Nothing:
    """清空数据集: refused while a job uses it."""
    await data_sets.clear(service.database, service.parts[PART], wanted.id, wanted.upload_only)
    return Answer(obj={})


@router.get("/{dataId}")
async def detail(service: TheService, session: ReadSession, data_id: _DataId) -> Answer[DataSetDetail]:
    """获取数据集详情."""
    if preset := BY_ID.get(data_id):
        found = await asyncio.to_thread(presets.prepared, service.settings, preset)
        shown = DataSetDetail(**_preset_entry(preset).model_dump(), **_reading(found.contents))
        return Answer(obj=shown)
    data_set = await own(session, data_id)
    contents = data_set.contents
    shown = DataSetDetail(**_entry(data_set).model_dump(), **_reading(contents), md5=data_set.md5 or None)
    if data_set.kind is DataType.IMAGES and data_set.kept_id is not None:
        shown.classes = dict(contents.classes)
    if data_set.refusal:
        shown.problems = [data_set.refusal, *shown.problems]
        shown.problem_count += 1
    if wanted := Wanted.of(data_set):
        done = Progress(**(data_set.progress or {}))
        shown.copying = CopyingEntry(
            **_copy_entry(wanted), rows=done.rows, size_text=size_text(done.size), share=done.share
        )
    elif data_set.upload_id is not None:
        shown.upload = UploadEntry(
            file_name=data_set.upload_name,
            md5=data_set.upload_md5,
            received=await data_sets.fragments_of(session, data_set),
            count=data_set.upload_count,
        )
    if data_set.origin is not None:
        shown.origin = CopyEntry(**_copy_entry(Wanted.model_validate(data_set.origin)))
    return Answer(obj=shown)


@router.delete("/{dataId}")
async def remove(service: TheService, data_id: _DataId) -> _Nothing:
    """删除数据集: refused while a job uses it."""
    await data_sets.remove(service.database, service.parts[PART], data_id)
    return Answer(obj={})


def _preset_entry(preset: Preset) -> DataSetEntry:
    return DataSetEntry(
        id=preset.id,
        size_text=size_text(preset.size),
        name=preset.name,
        status=DataStatus.UPLOADED,
        type=DataType.CSV,
        source=DataSource.PRESET,
        preset=preset.name,
        target=preset.target,
        file_name=f"{preset.name}.csv",
        rows=preset.rows,
    )


def _entry(data_set: DataSet) -> DataSetEntry:
    return DataSetEntry(
        id=data_set.id,
        size_text=size_text(data_set.size),
        name=data_set.name or data_set.file_name or data_set.upload_name,
        status=data_set.status,
        type=data_set.kind,
        source=DataSource.OWN,
        file_name=data_set.file_name or None,
        rows=data_set.contents.rows,
        created_at=data_set.create_time,
    )


def _copy_entry(wanted: Wanted) -> dict[str, Any]:
    """The fields of :class:`~app.visual.datasets.wire.CopyEntry`."""
    return {
        "table_id": wanted.table_id,
        "table": wanted.table,
        "from_time": wanted.from_ms,
        "to_time": wanted.to_ms,
        "time_column": wanted.time_column or None,
        "limit": wanted.most_rows,
        "columns": list(wanted.columns),
    }


def _reading(contents: Contents) -> dict[str, Any]:
    """The fields of :class:`~app.visual.datasets.wire.Reading`."""
    is_table = contents.rows is not None
    return {
        "columns": [
            ColumnEntry(name=column.name, type=column.type, exception=column.exception or None)
            for column in contents.columns
        ],
        "encoding": contents.encoding,
        "delimiter": contents.delimiter if is_table else None,
        "header": contents.header if is_table else None,
        "problems": list(contents.problems),
        "problem_count": contents.all_problems,
    }


def size_text(size: float) -> str:
    """Bytes for people: ``12.3 MB``."""
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"
