"""Routes of 数据源管理 (``/ds``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.errors import InvalidInput, Problem
from app.hlink.connections import PART as OUTSIDE
from app.hlink.connections import Connections, Outcome, unchecked
from app.hlink.planner import PART as PLANNER
from app.hlink.requests import body_as
from app.hlink.tables import column_types, fields, service
from app.hlink.tables.definition import to_definition
from app.hlink.tables.fields import FieldTemplate
from app.hlink.tables.models import StoredTable
from app.hlink.tables.service import Edited
from app.hlink.tables.usage import StateEffect
from app.hlink.wire import (
    Answer,
    ConnectorFields,
    FieldTemplateQuery,
    FoundColumn,
    JsonField,
    Option,
    Page,
    SchemaColumn,
    TableCheck,
    TableEdited,
    TableEntity,
    TableGetQuery,
    TableNameCheck,
    TableOutcome,
    TableQuery,
    TableUse,
    TableView,
    TypeList,
    UnionField,
)
from app.hlink.wire.envelope import OptionalInt64
from app.service import ReadSession, TheService, WriteSession
from stream_jobs.definitions import DefinitionError, Role
from stream_jobs.sql.declaration import declare

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

_COLUMN_DEFAULTS: dict[str, Any] = {"event_time": 0, "join_key": 0, "virtual_parent_id": "0"}


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
        msg=_consequences(edited),
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
    return Answer(data=_outcome(await connections.look(table), unchecked(table)))


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
    return Answer(data=ConnectorFields(values=_form(role, kind, {})))


@router.get("/ds/getTypeList")
async def type_list() -> Answer[TypeList]:
    """获取支持的数据类型."""
    offered = column_types.known().offered
    return Answer(data=TypeList(flink_types=list(offered.flink), basic_types=list(offered.basic)))


@router.get("/ds/get")
async def get(session: ReadSession, query: Annotated[TableGetQuery, Query()]) -> Answer[TableView]:
    """数据源明细: the whole definition, credentials masked."""
    return Answer(data=_view(await service.find(session, query.id)))


@router.get("/ds/list")
async def page(session: ReadSession, query: Annotated[TableQuery, Query()]) -> Answer[Page[TableEntity]]:
    """列表查询."""
    rows, total = await service.page(session, query)
    return Answer(data=Page.of([TableEntity(**_common(row)) for row in rows], total, query))


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


def _common(row: StoredTable) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "alias": row.alias,
        "role": row.role,
        "kind": row.kind,
        "schema_type": row.schema_type,
        "schema_file": row.schema_file,
        "structure": row.structure,
        "version": row.version,
        "ddl": _ddl(row),
        "ddl_disabled": row.ddl_disabled,
        "created_by": row.create_by,
        "created_at": row.create_time,
        "modified_by": row.modify_by,
        "modified_at": row.modify_time,
    }


def _ddl(row: StoredTable) -> str:
    """What Flink is told of the table, credentials masked; empty for a side table, as published."""
    if row.role == Role.SIDE:
        return ""
    try:
        made = declare(to_definition(row), "job")
    except (InvalidInput, DefinitionError):
        # Rules may have become stricter since it was stored: the table must still be there to be corrected.
        return ""
    text = made.text
    for placeholder in made.secrets:
        text = text.replace(placeholder, fields.mask())
    return text


def _view(row: StoredTable) -> TableView:
    return TableView(
        **_common(row),
        columns=[SchemaColumn(**(_COLUMN_DEFAULTS | column), table_id=row.id) for column in row.columns],
        connector=ConnectorFields(id=row.id, table_id=row.id, values=_form(row.role, row.kind, row.fields)),
    )


def _outcome(found: Outcome, unchecked: str | None) -> TableOutcome:
    checks = [
        TableCheck(name=check.name, ok=True, message=check.found)
        if check.problem is None
        else TableCheck(
            name=check.name,
            ok=False,
            message=check.problem.message,
            field=check.problem.field,
            remedy=check.problem.remedy,
        )
        for check in found.checks
    ]
    return TableOutcome(
        ok=not found.problems,
        checks=checks,
        unchecked=unchecked,
        partitions=found.partitions,
        columns=[
            FoundColumn(
                name=column.name,
                flink_type=column.flink_type,
                join_key=int(column.in_key),
                database_type=column.database_type,
            )
            for column in found.columns
        ],
        key=list(found.key),
    )


_STATE_IN_WORDS = {
    StateEffect.UNTOUCHED: "nothing that a job sees has changed",
    StateEffect.SURVIVES: "state survives: only what the table connects to has changed",
    StateEffect.UNCERTAIN: "a job is planned anew then, and its state may not survive",
}


def _consequences(edited: Edited) -> str:
    """What an edit means to the jobs of a table, in a sentence; nothing when no job uses it."""
    if not edited.jobs:
        return ""
    names = ", ".join(repr(use.name) for use in edited.jobs)
    words = f"used by {names}: the edit takes effect with the next run; {_STATE_IN_WORDS[edited.state]}"
    if running := [repr(use.name) for use in edited.jobs if use.running]:
        words += f"; running with the version before: {', '.join(running)}"
    if edited.table.alias != edited.old_alias:
        words += f"; statements still say '{edited.old_alias}': correct them"
    return words


def _form(role: str, kind: str, values: Mapping[str, str]) -> list[JsonField]:
    """A table type's form with values in it, as clients of the original get it."""
    return [
        JsonField(
            **_field(one, values, sequence),
            multiple=False,
            options=[
                Option(
                    name=choice.value,
                    display_name=choice.label,
                    has_union=bool(choice.fields),
                    union_fields=[
                        UnionField(**_field(union, values, at), hidden=False)
                        for at, union in enumerate(choice.fields, start=1)
                    ],
                )
                for choice in one.choices
            ],
        )
        for sequence, one in enumerate(fields.template(role, kind), start=1)
    ]


def _field(one: FieldTemplate, values: Mapping[str, str], sequence: int) -> dict[str, Any]:
    return {
        "name": one.name,
        "value": values.get(one.name, ""),
        "default": one.default,
        "label": one.label,
        "description": one.tips,
        "control": one.control,
        "required": one.required,
        "read_only": False,
        "sequence": sequence,
        "tips": one.tips,
    }
