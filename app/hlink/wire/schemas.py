"""Wire models of 上传schema文件 (``/ds/schemaAnalysisDO``), and of ``/ds/schemaInferDO`` beside it, which is ours."""

from __future__ import annotations

from pydantic import Field

from app.hlink.wire.tables import SchemaColumn
from app.wire import OptionalInt32, OptionalText, Wire


class SchemaAnalysis(Wire):
    """What a schema says, as the fields of a table: sent to ``/ds/addDO`` with a name and a connector it is one."""

    schema_file: OptionalText = Field(None, alias="schemaFile", description="the text as it was sent")
    schema_type: OptionalInt32 = Field(None, alias="schemaType", description="0 JSON, 1 Avro")
    structure: OptionalInt32 = Field(None, alias="structureType", description="0 flat, 1 nested")
    columns: list[SchemaColumn] = Field(alias="dsSchemaColumnVOS")


class InferredColumn(SchemaColumn):
    """A column as messages had it. The counts are of its parent's occurrences: present, null, absent."""

    present: int = Field(0, alias="presentCount")
    nulls: int = Field(0, alias="nullCount")
    missing: int = Field(0, alias="missingCount")
    times: dict[str, int] = Field(default_factory=dict, alias="timeFormats", description="how often each was seen")
    conflicts: list[str] = Field(default_factory=list, description="where messages differ, and what was made of it")


class SchemaInference(Wire):
    """What sample messages say, as the fields of a table."""

    schema_type: OptionalInt32 = Field(0, alias="schemaType")
    structure: OptionalInt32 = Field(None, alias="structureType", description="0 flat, 1 nested")
    columns: list[InferredColumn] = Field(alias="dsSchemaColumnVOS")
    messages: int = Field(alias="messageCount", description="messages that were read")
    unreadable: list[str] = Field(default_factory=list, description="messages that are no JSON objects, and why")
    unreadable_count: int = Field(0, alias="unreadableCount")


class TopicSample(Wire):
    """Where ``/ds/schemaInferDO`` reads messages from when none are uploaded; names as in a source's form."""

    servers: OptionalText = Field(None, alias="bootstrap_servers")
    topic: OptionalText = None
    properties: OptionalText = Field(None, description="client properties, one key=value a line")
    messages: OptionalInt32 = Field(None, description="how many of the newest to read; 200 when not given")
