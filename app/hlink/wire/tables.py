"""Wire models of 数据源管理 (``/ds``): the published word for a table is "ds"."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.hlink.wire.envelope import CustomParameters, Paging
from app.wire import Int32, Int64, OptionalDateTime, OptionalInt32, OptionalInt64, OptionalText, Text, TextFilter, Wire


def _as_text(value: Any) -> Any:
    """Forms send switches as JSON booleans where the document says string."""
    return str(value).lower() if isinstance(value, bool) else value


def _without_nulls(value: Any) -> Any:
    """The document's own example of ``/ds/addDO`` sends ``[null]`` for "no columns"."""
    return [item for item in value if item is not None] if isinstance(value, list) else value


FieldValue = Annotated[OptionalText, BeforeValidator(_as_text)]


class _FormField(Wire):
    """What JsonField and UnionField have in common: a field of the form that a table type asks for, and its value."""

    name: OptionalText = Field(None, alias="fieldName")
    value: FieldValue = Field(None, alias="fieldValue")
    default: FieldValue = Field(None, alias="defaultValue")
    label: OptionalText = None
    description: OptionalText = Field(None, alias="describe")
    control: OptionalText = Field(None, alias="type", description="inputfield, numberfield, combobox, textarea")
    required: bool | None = None
    read_only: bool | None = Field(None, alias="readOnly")
    min_length: OptionalInt32 = Field(None, alias="minLength")
    max_length: OptionalInt32 = Field(None, alias="maxLength")
    sequence: OptionalInt32 = None
    tips: OptionalText = None


class UnionField(_FormField):
    """UnionField: a field that belongs to one choice of another field."""

    hidden: bool | None = None


class Option(Wire):
    """Option: a choice of a combobox; ``name`` is the value, ``dName`` what is shown."""

    name: OptionalText = None
    display_name: OptionalText = Field(None, alias="dName")
    has_union: bool | None = Field(None, alias="hasUnion")
    union_fields: list[UnionField] | None = Field(None, alias="unionFields")


class JsonField(_FormField):
    """JsonField: one connector field of a table and its value."""

    multiple: bool | None = None
    options: list[Option] | None = Field(None, alias="option")


class ConnectorFields(Wire):
    """数据源特定表类型对应的属性模版定义  视图实体 (``jsonFieldVO``): the connector's fields with their values."""

    id: OptionalInt64 = None
    table_id: OptionalInt64 = Field(None, alias="dsId")
    values: Annotated[list[JsonField] | None, BeforeValidator(_without_nulls)] = Field(None, alias="jsonValue")


class SchemaColumn(Wire):
    """数据源列投影  视图实体 (``dsSchemaColumnVOS``): a column, a nested field, or the root row, in a flat list.

    The tree is in ``virtualId``, ``virtualPid`` ("0" at the top) and ``level``. ``expression`` and ``timeFormat`` are
    ours: the one makes the column a computed one, the other says how messages spell its times.
    """

    id: OptionalInt64 = None
    table_id: OptionalInt64 = Field(None, alias="dsId")
    name: OptionalText = None
    flink_type: OptionalText = Field(None, alias="flinkType")
    basic_type: OptionalText = Field(None, alias="basicType")
    comment: OptionalText = None
    virtual_id: OptionalText = Field(None, alias="virtualId")
    virtual_parent_id: OptionalText = Field(None, alias="virtualPid")
    level: OptionalInt32 = None
    event_time: OptionalInt32 = Field(None, alias="eventTime", description="1: the source's event time")
    join_key: OptionalInt32 = Field(None, alias="joinKey", description="1: the key of a side table")
    expression: OptionalText = Field(None, description="SQL of a computed column, such as PROCTIME()")
    time_format: OptionalText = Field(
        None,
        alias="timeFormat",
        description="how JSON messages spell the times in it: rfc3339, iso-local, sql, epoch-millis, epoch-seconds, "
        "auto; empty: as the source's timestamp_format says",
    )
    res1: OptionalText = None
    res2: OptionalText = None
    res3: OptionalText = None
    res4: OptionalText = None
    res5: OptionalText = None


class _TableFields(Wire):
    """What the view and the stored entity of a table have in common."""

    id: OptionalInt64 = None
    name: OptionalText = Field(None, alias="dsName")
    alias: OptionalText = Field(None, alias="tableName", description="what SQL calls the table")
    role: OptionalText = Field(None, alias="dsType", description="source, sink, side")
    kind: OptionalText = Field(
        None, alias="tableType", description="kafka, mysql, oracle, postgresql, http, redis, hbase"
    )
    schema_type: OptionalInt32 = Field(None, alias="schemaType", description="0 JSON, 1 Avro")
    schema_file: OptionalText = Field(None, alias="schemaFile")
    structure: OptionalInt32 = Field(None, alias="structureType", description="0 flat, 1 nested")
    version: OptionalInt32 = Field(None, alias="dsVersion")
    ddl: OptionalText = Field(None, alias="dsDdl", description="generated by the service; never read")
    ddl_disabled: OptionalInt32 = Field(None, alias="ddlEnable", description="0 in use, 1 not; kept, not used")
    created_by: OptionalText = Field(None, alias="createBy")
    created_at: OptionalDateTime = Field(None, alias="createTime")
    modified_by: OptionalText = Field(None, alias="modifyBy")
    modified_at: OptionalDateTime = Field(None, alias="modifyTime")


class TableView(_TableFields):
    """数据源  视图实体 (``dsVO``): the body of ``/ds/addDO`` and the answer of ``/ds/get``."""

    columns: Annotated[list[SchemaColumn] | None, BeforeValidator(_without_nulls)] = Field(
        None, alias="dsSchemaColumnVOS"
    )
    connector: ConnectorFields | None = Field(None, alias="jsonFieldVO")
    requested_page: OptionalInt32 = Field(None, alias="curPage")
    requested_size: OptionalInt32 = Field(None, alias="pageSize")
    parameters: dict[str, Any] | None = Field(None, alias="parms")


class TableEntity(_TableFields):
    """数据源  持久层实体: a record of ``/ds/list``."""


class TableUse(Wire):
    """Ours: a job that uses a table; ``running``: it keeps the version it was started with until it is run again."""

    job_id: Int64 = Field(alias="jobId")
    name: Text = Field(alias="jobName")
    running: bool


class TableEdited(Wire):
    """Ours, in the answer of ``/ds/modifyDO``: what the edit means to the jobs that use the table."""

    id: Int64
    alias: Text = Field(alias="tableName")
    jobs: list[TableUse]
    state: Text = Field(description="of a job that is run again: untouched, survives, uncertain")


class TableCheck(Wire):
    """Ours: one thing that ``/ds/test`` looked at. ``message`` is what was found, or what is wrong with it."""

    name: Text = Field(description="broker, topic, offsets, database, table, columns, address, connection")
    ok: bool
    message: Text
    field: OptionalText = None
    remedy: OptionalText = None


class FoundColumn(Wire):
    """Ours: a database's column as ``/ds/addDO`` takes it, beside the database's own type."""

    name: Text
    flink_type: OptionalText = Field(alias="flinkType", description="null: Flink cannot read it")
    join_key: Int32 = Field(alias="joinKey", description="1: of the database's key")
    database_type: Text = Field(alias="databaseType")


class TableOutcome(Wire):
    """Ours, the answer of ``/ds/test``: every check, and what a form can fill itself with."""

    ok: bool
    checks: list[TableCheck]
    unchecked: OptionalText = Field(None, description="what could not be looked at, and why")
    partitions: OptionalInt32 = Field(None, description="of the topic")
    columns: list[FoundColumn] = Field(alias="dsSchemaColumnVOS", description="of the database's table")
    key: list[str] = Field(description="the columns of the database's primary key, or of its only unique index")


class TypeList(Wire):
    """``/ds/getTypeList``: what a column's ``flinkType`` and ``basicType`` may be chosen from."""

    flink_types: list[str] = Field(alias="flinkSQLTypes")
    basic_types: list[str] = Field(alias="basicTypes")


class _TableFilters(Paging):
    """Query fields that ``/ds/list`` and ``/ds/get`` share."""

    name: TextFilter = Field(None, alias="dsName")
    alias: TextFilter = Field(None, alias="tableName")
    kind: TextFilter = Field(None, alias="tableType")
    schema_type: OptionalInt32 = Field(None, alias="schemaType")
    structure: OptionalInt32 = Field(None, alias="structureType")
    version: OptionalInt32 = Field(None, alias="dsVersion")
    parameters: CustomParameters = Field(None, alias="parms")


class TableQuery(_TableFilters):
    """列表查询 (``GET /ds/list``): every field filters; names by substring, the rest by equality."""

    role: Text = Field(alias="dsType", description="dictionary ds_type: source, sink, side")


class TableGetQuery(_TableFilters):
    """数据源明细 (``GET /ds/get``): ``id`` finds the table; the other published fields change nothing."""

    id: Int64
    role: TextFilter = Field(None, alias="dsType")
    schema_file: TextFilter = Field(None, alias="schemaFile")


class FieldTemplateQuery(Paging):
    """获取自定义字段模版 (``GET /ds/getFieldTemplete``): the role and the kind choose."""

    role: Text = Field(alias="dsType", description="source, sink, side")
    kind: Text = Field(alias="tableType", description="dictionaries dc_type_source, dc_type_side, dc_type_sink")
    id: OptionalInt64 = None
    name: TextFilter = Field(None, alias="dsName")
    alias: TextFilter = Field(None, alias="tableName")
    schema_type: OptionalInt32 = Field(None, alias="schemaType")
    structure: OptionalInt32 = Field(None, alias="structureType")
    version: OptionalInt32 = Field(None, alias="dsVersion")
    parameters: CustomParameters = Field(None, alias="parms")


class TableNameCheck(Wire):
    """The JSON body that ``/ds/checkTableName`` is published with, odd for a GET; the query does as well."""

    alias: OptionalText = Field(None, alias="tableName")
