"""Routes of 数据源管理 (``/ds``)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.errors import InvalidInput, Problem
from app.hlink.connections import PART as OUTSIDE
from app.hlink.connections import Connections, unchecked
from app.hlink.planner import PART as PLANNER
from app.hlink.requests import body_as
from app.hlink.tables import column_types, fields, service, views
from app.hlink.wire import (
    Answer,
    ConnectorFields,
    FieldTemplateQuery,
    Page,
    TableEdited,
    TableEntity,
    TableGetQuery,
    TableNameCheck,
    TableOutcome,
    TableQuery,
    TableUse,
    TableView,
    TypeList,
)
from app.service import ReadSession, TheService, WriteSession
from app.wire import OptionalInt64

router = APIRouter(tags=["数据源管理"])

_NAME_BODY = {
    "requestBody": {
        "description": "Published as a body, odd for a GET; the query field does the same.",
        "content": {
            "application/json": {"schema": TableNameCheck.model_json_schema()},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
}


@router.post("/ds/addDO")
async def add(running: TheService, view: TableView) -> Answer[dict[str, Any]]:
    """新增动作: the definition is checked as a whole; a refusal names every problem."""
    table = await service.add(running.database, running.parts[PLANNER], view)
    return Answer(data={"id": table.id, "tableName": table.alias})


@router.put("/ds/modifyDO")
async def modify(running: TheService, view: TableView) -> Answer[TableEdited]:
    """修改动作: the whole definition anew; where the mask comes back for a credential, it stays what it was.

    Answers the jobs that use the table, and in ``msg`` what the edit means to them.
    """
    edited = await service.modify(running.database, running.parts[PLANNER], view)
    return Answer(
        msg=views.consequences(edited),
        data=TableEdited(
            id=edited.table.id,
            alias=edited.table.alias,
            jobs=[TableUse(job_id=use.job_id, name=use.name, running=use.running) for use in edited.jobs],
            state=edited.state,
        ),
    )


@router.delete("/ds/removeDO")
async def remove(
    session: WriteSession, table_id: Annotated[OptionalInt64, Query(alias="id")] = None
) -> Answer[dict[str, Any]]:
    """删除动作: refused while a job uses the table, with the jobs' names."""
    if table_id is None:
        raise InvalidInput(Problem("no table is named", field="id", remedy="give the id that /ds/list shows"))
    table = await service.remove(session, table_id)
    return Answer(data={"id": table.id, "tableName": table.alias})


@router.post("/ds/test")
async def test(running: TheService, view: TableView) -> Answer[TableOutcome]:
    """Ours: looks at what a table connects to. The body is that of ``/ds/addDO``, or only the ``id`` of a stored table.

    Columns need not be there yet; those that are, are compared. Answers every check, and what was found.
    """
    async with running.database.read() as session:
        table = await service.to_look_at(session, view)
    connections: Connections = running.parts[OUTSIDE]
    return Answer(data=views.outcome(await connections.look(table), unchecked(table)))


@router.get("/ds/getFieldTemplete")
async def field_template(query: Annotated[FieldTemplateQuery, Query()]) -> Answer[ConnectorFields]:
    """获取自定义字段模版: the empty form of a table type, in the shape that ``/ds/addDO`` takes back filled in."""
    role, kind = query.role.strip().lower(), query.kind.strip().lower()
    if kind not in fields.kinds(role):
        named, known = ("tableType", fields.kinds(role)) if role in fields.roles() else ("dsType", fields.roles())
        raise InvalidInput(
            Problem(
                f"there is no form for '{kind if named == 'tableType' else role}'",
                field=named,
                remedy=f"choose one of: {', '.join(known)}",
            )
        )
    return Answer(data=ConnectorFields(values=views.form(role, kind, {})))


@router.get("/ds/getTypeList")
async def type_list() -> Answer[TypeList]:
    """获取支持的数据类型."""
    offered = column_types.known().offered
    return Answer(data=TypeList(flink_types=list(offered.flink), basic_types=list(offered.basic)))


@router.get("/ds/get")
async def get(session: ReadSession, query: Annotated[TableGetQuery, Query()]) -> Answer[TableView]:
    """数据源明细: the whole definition, credentials masked."""
    return Answer(data=views.view(await service.find(session, query.id)))


@router.get("/ds/list")
async def page(session: ReadSession, query: Annotated[TableQuery, Query()]) -> Answer[Page[TableEntity]]:
    """列表查询."""
    rows, total = await service.page(session, query)
    return Answer(data=Page.of([views.entity(row) for row in rows], total, query))


@router.get("/ds/checkTableName", openapi_extra=_NAME_BODY)
async def check_table_name(
    request: Request,
    session: ReadSession,
    alias: Annotated[str | None, Query(alias="tableName")] = None,
    except_id: Annotated[OptionalInt64, Query(alias="dsId")] = None,
) -> Answer[dict[str, Any]]:
    """校验表的别名: ``success`` when a table may be called so."""
    if alias is None:
        alias = (await body_as(request, TableNameCheck, single="tableName")).alias
    await service.check_alias(session, (alias or "").strip(), except_id)
    return Answer(data={"tableName": alias})
