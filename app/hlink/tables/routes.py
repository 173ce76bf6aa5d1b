"""Routes of 数据源管理 (``/ds``)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.errors import InvalidInput
from app.hlink.requests import body_as
from app.hlink.tables import fields, service
from app.hlink.tables.definition import to_definition
from app.hlink.tables.fields import FieldTemplate
from app.hlink.tables.models import StoredTable
from app.hlink.wire import (
    Answer,
    ConnectorFields,
    JsonField,
    Option,
    Page,
    SchemaColumn,
    TableEntity,
    TableGetQuery,
    TableNameCheck,
    TableQuery,
    TableView,
    UnionField,
)
from app.hlink.wire.envelope import OptionalInt64
from app.service import ReadSession, WriteSession
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
async def add(session: WriteSession, view: TableView) -> Answer[dict[str, Any]]:
    """新增动作: the definition is checked as a whole; a refusal names every problem."""
    table = await service.add(session, view)
    return Answer(data={"id": table.id, "tableName": table.alias})


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
    """What Flink is told of the table; empty for a side table, as published. Credentials are placeholders in it."""
    if row.role == Role.SIDE:
        return ""
    try:
        return declare(to_definition(row), "job").text
    except (InvalidInput, DefinitionError):
        # Rules may have become stricter since it was stored: the table must still be there to be corrected.
        return ""


def _view(row: StoredTable) -> TableView:
    return TableView(
        **_common(row),
        columns=[SchemaColumn(**(_COLUMN_DEFAULTS | column), table_id=row.id) for column in row.columns],
        connector=ConnectorFields(id=row.id, table_id=row.id, values=_filled_in(row)),
    )


def _filled_in(row: StoredTable) -> list[JsonField]:
    """The table's form with its values, as clients of the original get it."""
    return [
        JsonField(
            **_field(one, row.fields, sequence),
            multiple=False,
            options=[
                Option(
                    name=choice.value,
                    display_name=choice.label,
                    has_union=bool(choice.fields),
                    union_fields=[
                        UnionField(**_field(union, row.fields, at), hidden=False)
                        for at, union in enumerate(choice.fields, start=1)
                    ],
                )
                for choice in one.choices
            ],
        )
        for sequence, one in enumerate(fields.template(row.role, row.kind), start=1)
    ]


def _field(one: FieldTemplate, values: dict[str, str], sequence: int) -> dict[str, Any]:
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
