"""The published models of the Hlink API. Wire names appear here and nowhere else.

Attributes are our words, aliases the published names; each docstring gives the name of the model, or the section,
in the published document.
"""

from app.hlink.wire.audit import AuditQuery, AuditRecord
from app.hlink.wire.clusters import (
    ClusterAddition,
    ClusterAdditionBody,
    ClusterChange,
    ClusterChangeBody,
    ClusterChoiceQuery,
    ClusterEntity,
    ClusterOverview,
    ClusterQuery,
    ClusterView,
)
from app.hlink.wire.dictionaries import DictionaryItem
from app.hlink.wire.envelope import Answer, IdList, Page, Paging, TextId, time_span
from app.hlink.wire.functions import FunctionEntity, FunctionQuery, FunctionUpdate, FunctionUpload, Uploaded
from app.hlink.wire.jars import JarEntity, JarPageQuery, JarQuery, JarUpload, JarUploaded
from app.hlink.wire.jobs import JobEntity, JobPreview, JobQuery, JobTable, JobView
from app.hlink.wire.savepoints import SavepointView
from app.hlink.wire.schemas import InferredColumn, SchemaAnalysis, SchemaInference, TopicSample
from app.hlink.wire.tables import (
    ConnectorFields,
    FieldTemplateQuery,
    FoundColumn,
    JsonField,
    Option,
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

__all__ = [
    "Answer",
    "AuditQuery",
    "AuditRecord",
    "ClusterAddition",
    "ClusterAdditionBody",
    "ClusterChange",
    "ClusterChangeBody",
    "ClusterChoiceQuery",
    "ClusterEntity",
    "ClusterOverview",
    "ClusterQuery",
    "ClusterView",
    "ConnectorFields",
    "DictionaryItem",
    "FieldTemplateQuery",
    "FoundColumn",
    "FunctionEntity",
    "FunctionQuery",
    "FunctionUpdate",
    "FunctionUpload",
    "IdList",
    "InferredColumn",
    "JarEntity",
    "JarPageQuery",
    "JarQuery",
    "JarUpload",
    "JarUploaded",
    "JobEntity",
    "JobPreview",
    "JobQuery",
    "JobTable",
    "JobView",
    "JsonField",
    "Option",
    "Page",
    "Paging",
    "SavepointView",
    "SchemaAnalysis",
    "SchemaColumn",
    "SchemaInference",
    "TableCheck",
    "TableEdited",
    "TableEntity",
    "TableGetQuery",
    "TableNameCheck",
    "TableOutcome",
    "TableQuery",
    "TableUse",
    "TableView",
    "TextId",
    "TopicSample",
    "TypeList",
    "UnionField",
    "Uploaded",
    "time_span",
]
