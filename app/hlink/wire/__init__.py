"""The published models of the Hlink API. Wire names appear here and nowhere else.

Attributes are our words, aliases the published names; each docstring gives the name of the model, or the section,
in the published document.
"""

from app.hlink.wire.clusters import (
    ClusterAddition,
    ClusterChoiceQuery,
    ClusterEntity,
    ClusterOverview,
    ClusterQuery,
    ClusterView,
)
from app.hlink.wire.envelope import Answer, Page, Paging, time_span
from app.hlink.wire.functions import (
    FunctionEntity,
    FunctionQuery,
    FunctionUpdate,
    FunctionUpload,
    FunctionVersionView,
    FunctionView,
    Uploaded,
)
from app.hlink.wire.jobs import JobEntity, JobQuery, JobTable, JobView
from app.hlink.wire.tables import (
    ConnectorFields,
    JsonField,
    Option,
    SchemaColumn,
    TableEntity,
    TableGetQuery,
    TableNameCheck,
    TableQuery,
    TableView,
    UnionField,
)

__all__ = [
    "Answer",
    "ClusterAddition",
    "ClusterChoiceQuery",
    "ClusterEntity",
    "ClusterOverview",
    "ClusterQuery",
    "ClusterView",
    "ConnectorFields",
    "FunctionEntity",
    "FunctionQuery",
    "FunctionUpdate",
    "FunctionUpload",
    "FunctionVersionView",
    "FunctionView",
    "JobEntity",
    "JobQuery",
    "JobTable",
    "JobView",
    "JsonField",
    "Option",
    "Page",
    "Paging",
    "SchemaColumn",
    "TableEntity",
    "TableGetQuery",
    "TableNameCheck",
    "TableQuery",
    "TableView",
    "UnionField",
    "Uploaded",
    "time_span",
]
