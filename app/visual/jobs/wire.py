"""The published models of 任务管理."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from app.visual.answers import NumberAsText, Page, Paging
from app.visual.choices import Purpose, Status
from app.wire import DateTime, Int32, Int64, OptionalInt32, OptionalInt64, OptionalText, Text, Wire, blank_is_absent

MOST_NODES = 500


def _any_id(value: Any) -> Any:
    value = blank_is_absent(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


NodeName = Annotated[Text | None, BeforeValidator(_any_id), Field(json_schema_extra={"description": "id, or a name"})]
"""A node's id; a new node has none, or any name that edges call it by."""


def _storable_json(value: Any) -> Any:
    """Text that cannot be stored is refused wherever it stands."""
    match value:
        case str() if "\x00" in value or any("\ud800" <= one <= "\udfff" for one in value):
            raise PydanticCustomError("text", "contains a character that cannot be stored (NUL or half a character)")
        case list():
            for one in value:
                _storable_json(one)
        case dict():
            for name, one in value.items():
                _storable_json(name)
                _storable_json(one)
    return value


Storable = Annotated[JsonValue, AfterValidator(_storable_json)]


class Port(Wire):
    """A port of ``cpntInfo``."""

    name: Text = ""
    dtype: Text = ""


class Ports(Wire):
    """``cpntInfo.ports``."""

    inputs: list[Port] = Field(default_factory=list, alias="in")
    outputs: list[Port] = Field(default_factory=list, alias="out")


class ParameterInfo(Wire):
    """A parameter as a component describes it."""

    name: Text = ""
    hint: Storable = None
    desc: Storable = None
    ptype: Storable = None
    default: Storable = None
    is_required: Storable = None
    front: Storable = None
    is_edit: Storable = None
    choice: Storable = None
    item_type: Storable = None
    min_val: Storable = None
    max_val: Storable = None


class ComponentInfo(Wire):
    """``cpntInfo``: ``uuid`` says what the node is; the rest is kept as it is sent."""

    period: Storable = None
    name: Storable = Field(None, alias="clazzname")
    uuid: Text = ""
    desc: Storable = None
    ports: Ports = Field(default_factory=Ports)
    params: list[ParameterInfo] = Field(default_factory=list)


class EdgeView(Wire):
    """``nodeEdge``: both ends by the ids, or names, of their nodes."""

    from_id: Annotated[Text, BeforeValidator(_any_id)]
    from_port: Text
    to_id: Annotated[Text, BeforeValidator(_any_id)]
    to_port: Text


class AttributeView(Wire):
    """``nodeAttr``: a parameter's value."""

    key: Text
    value: Storable = None


class DrawnNode(Wire):
    """What all forms of a node have."""

    top: Int32 = Field(0, alias="topPx")
    left: Int32 = Field(0, alias="leftPx")
    edges: list[EdgeView] = Field(default_factory=list, alias="nodeEdge")
    attributes: list[AttributeView] = Field(default_factory=list, alias="nodeAttr")
    component: ComponentInfo = Field(default_factory=ComponentInfo, alias="cpntInfo")


class NodeBody(DrawnNode):
    """A node of 添加任务. ``nodeId`` is for edges to name it by: any name, which the answer tells the id of."""

    name: NodeName = Field(None, alias="nodeId")


class NodeChange(NodeBody):
    """A node of 编辑任务: new without ``nodeId`` (or with a name), changed, or deleted."""

    is_deleted: bool = Field(False, alias="isDelete")


class ModelReference(Wire):
    """Names a model that a job has trained (ours): the only one, or a node's; of the newest run, or of another."""

    job_id: Int64 = Field(alias="jobId")
    node_id: OptionalInt64 = Field(None, alias="nodeId")
    port: Annotated[Text | None, BeforeValidator(blank_is_absent)] = Field(None, alias="portName")
    run_id: OptionalInt64 = Field(None, alias="runId")


class AutomaticSearch(Wire):
    """What a fully automatic experiment is made of: a table, what is to be predicted, and how long may be searched.

    All but the first two are parameters of the component ``sklearn.auto_ml``, which has their bounds and defaults.
    """

    data_id: OptionalInt64 = Field(None, alias="dataId", description="the data set; or name a preset")
    preset: OptionalText = None
    target: OptionalText = Field(None, description="the column to predict; presets have one of their own")
    task: OptionalText = Field(None, description="auto, classification, regression")
    metric: OptionalText = None
    time_budget: float | None = Field(None, alias="timeBudget", description="seconds; 60 without one")
    estimators: list[Text] | None = None
    test_size: float | None = Field(None, alias="testSize")
    validation: float | None = None
    folds: OptionalInt32 = None
    max_trials: OptionalInt32 = Field(None, alias="maxTrials")
    seed: OptionalInt64 = Field(None, description="of everything that is left to chance; the run's own without one")


class JobAddition(Wire):
    """添加任务. Ours make the graph in the place of ``graph``.

    ``model`` and ``dataId`` that of a prediction, ``automatic`` that of an experiment of expPattern 9.
    """

    experiment_id: Int64 = Field(alias="expId")
    purpose: Purpose | None = Field(None, alias="jobPattern", description="1 without one, 0 with model")
    graph: list[NodeBody] = Field(default_factory=list, max_length=MOST_NODES)
    model: ModelReference | None = None
    data_id: OptionalInt64 = Field(None, alias="dataId", description="the data set whose rows are to be predicted")
    automatic: AutomaticSearch | None = None


class JobChange(Wire):
    """编辑任务: nodes that are not named stay as they are."""

    id: Int64 = Field(alias="jobId")
    purpose: Purpose | None = Field(None, alias="jobPattern")
    graph: list[NodeChange] = Field(default_factory=list, max_length=MOST_NODES)


class JobAdded(Wire):
    """The answer to 添加任务 and 编辑任务. ``nodeIds`` (ours): the ids of new nodes by their names."""

    id: Int64 = Field(alias="jobId")
    node_ids: dict[str, Int64] = Field(default_factory=dict, alias="nodeIds")


class JobDeletion(Wire):
    """The body of 删除任务."""

    experiment_id: OptionalInt64 = Field(None, alias="expId")


class JobRun(Wire):
    """运行任务. Ours: ``nodeId`` with ``scope`` runs a part of the graph, ``seed`` repeats what is left to chance."""

    id: Int64 = Field(alias="jobId")
    node: OptionalInt64 = Field(None, alias="nodeId", description="the node that scope is about")
    scope: Literal["all", "to", "from", "only"] = Field(
        "all",
        description="to: the node and what it needs; from: it and all that need it, anew; only: it alone, anew",
    )
    seed: Int32 | None = Field(None, ge=0, description="of everything that is left to chance; 0 without one")


class Adoption(Wire):
    """What a search has found, to be drawn as a graph of its own. ``nodeId`` is needed where several nodes search."""

    id: Int64 = Field(alias="jobId")
    node: OptionalInt64 = Field(None, alias="nodeId")
    experiment_id: OptionalInt64 = Field(
        None,
        alias="expId",
        description="where it goes; without one the experiment itself if that is drawn, else a new one that is",
    )


class Adopted(Wire):
    """The new job. ``isNew`` is false where the same was adopted there before: then it is that one."""

    experiment_id: Int64 = Field(alias="expId")
    id: Int64 = Field(alias="jobId")
    node_ids: dict[str, Int64] = Field(alias="nodeIds", description="by name; none where the graph was changed since")
    is_new: bool = Field(alias="isNew")
    seed: int = Field(description="run with it, the graph comes to the figures of the search")


class JobReference(Wire):
    """停止任务."""

    id: Int64 = Field(alias="jobId")


class JobsQuery(Paging):
    """获取任务列表."""

    experiment_id: Int64 = Field(alias="expId")


class PortQuery(Wire):
    """Names an output of a node: 获取任务指标, 获取任务统计数据, 下载任务模型, 下载任务工作流."""

    job_id: Int64 = Field(alias="jobId")
    node_id: Int64 = Field(alias="nodeId")
    port: Text = Field(alias="portName")


class RowsQuery(PortQuery, Paging):
    """Rows of a table that a node brought out (ours)."""


class TableQuery(PortQuery):
    """下载: a table that a node brought out (ours)."""

    form: Literal["csv", "parquet"] = Field("csv", alias="format")


class ColumnView(Wire):
    """A column of :class:`RowsPage`."""

    name: str
    type: str = Field(description="as Arrow calls it: int64, double, string, bool, timestamp[ns], ...")


class RowsPage(Page[list[Any]]):
    """Rows of a table without the header, which ``columns`` has; null is a value that is missing or no number."""

    columns: list[ColumnView]


class ModelFormat(StrEnum):
    """What a model can be taken away as."""

    SKOPS = "skops"
    ONNX = "onnx"
    ARCHIVE = "zip"


class ModelQuery(PortQuery):
    """下载任务模型, 下载任务工作流. ``format`` is ours."""

    format: ModelFormat | None = Field(
        None,
        description="skops: an object of scikit-learn's; onnx: for onnxruntime, in any language; zip: a network with "
        "all that belongs to it. Left out, zip of networks and skops of others",
    )


class ScriptFormat(StrEnum):
    """What a graph can be taken away as."""

    SCRIPT = "py"
    NOTEBOOK = "ipynb"


class ScriptQuery(Wire):
    """Of our own download beside the published ones: the graph as a program."""

    job_id: Int64 = Field(alias="jobId")
    format: ScriptFormat = Field(ScriptFormat.SCRIPT, description="py: a script; ipynb: a notebook, a cell a node")
    seed: Int32 | None = Field(None, ge=0, description="of everything left to chance; without one the newest run's")


class Deployment(PortQuery):
    """The body of 部署任务模型 (ours): the output to deploy, and the name behind ``predict_``."""

    name: Text


class LogQuery(Wire):
    """查看任务日志."""

    job_id: Int64 = Field(alias="jobId")
    offset: Annotated[Int64, Field(ge=0, description="in bytes: 0, or what the answer before said")]


class JobEntry(Wire):
    """A row of 获取任务列表."""

    id: Int64 = Field(alias="jobId")
    status: Status = Field(alias="jobStatus")
    created_at: DateTime = Field(alias="createTime")


class JobPage(Wire):
    """获取任务列表, whose numbers are published as strings."""

    data: list[JobEntry]
    page: NumberAsText
    limit: NumberAsText
    total: NumberAsText


class NodeView(DrawnNode):
    """A node of 获取任务详情. ``reason``, ``reused`` and the times are ours."""

    id: Int64 = Field(alias="nodeId")
    status: Status = Field(alias="nodeStatus")
    reason: str | None = None
    reused: bool = Field(False, description="an earlier run had done the same")
    took_ms: OptionalInt64 = Field(None, alias="tookMs")


class UsedModel(Wire):
    """A model that a run brought in: which output it was when the run began."""

    brought_by: Int64 = Field(alias="nodeId")
    job_id: Int64 = Field(alias="fromJobId")
    run_id: Int64 = Field(alias="fromRunId")
    node_id: Int64 = Field(alias="fromNodeId")
    port: str = Field(alias="fromPortName")
    key: str = Field(description="names the model: the same key is the same model")


class JobView(JobEntry):
    """获取任务详情. ``reason`` is ours: why it is not well, or what it waits for; so are ``seed`` and ``models``."""

    purpose: Purpose = Field(alias="jobPattern")
    experiment_id: Int64 = Field(alias="expId")
    modified_at: DateTime = Field(alias="updateTime")
    reason: str | None = None
    seed: int | None = None
    models: list[UsedModel] = Field(default_factory=list)
    graph: list[NodeView]


class NodeStatusView(Wire):
    """A node of 获取任务状态."""

    id: Int64 = Field(alias="nodeId")
    status: Status = Field(alias="nodeStatus")
    reason: str | None = None


class JobStatusView(Wire):
    """获取任务状态."""

    id: Int64 = Field(alias="jobId")
    status: Status = Field(alias="jobStatus")
    reason: str | None = None
    graph: list[NodeStatusView]


class LogView(Wire):
    """查看任务日志: from ``offset`` on; ``isEnd`` only when nothing can follow."""

    id: Int64 = Field(alias="jobId")
    content: str
    offset: Int64
    is_end: bool = Field(alias="isEnd")


class FigureView(Wire):
    """获取任务指标: ``front`` says how ``data`` is drawn."""

    data: dict[str, Any]
    front: str


class ArgumentView(Wire):
    """An argument of a deployed model's functions, which all have the same ones, in the same order."""

    column: str = Field(description="the column that the model was fitted on")
    name: str = Field(description="what SQL calls it, where arguments are given by their names")
    type: str = Field(description="in SQL; numbers of a narrower type will do")


class FunctionView(Wire):
    """A function that a model was made into. A version that was there already is told again."""

    id: Int64
    name: str
    version: Int32
    returns: str = Field(description="the SQL type of what it gives")
    gives: str = Field(description="what that is, in words")
    example: str


class DeploymentView(Wire):
    """The answer to 部署任务模型."""

    functions: list[FunctionView]
    arguments: list[ArgumentView]
    classes: list[str] = Field(description="in the order of the model; of two, the second is the positive one")
    takes_missing: bool = Field(alias="takesMissing", description="else a NULL among the arguments gives NULL")
