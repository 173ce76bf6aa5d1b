"""Wire models of ``/visualmodule/experiment/{expId}/comparison``, all of them ours."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.visual.answers import Page, Paging
from app.visual.choices import Purpose, Status
from app.visual.comparison.table import Better
from app.wire import DateTime, IdList, Int64, OptionalInt64, Text, Wire


class ComparisonQuery(Paging):
    """Which runs are compared: those of all jobs, or of one."""

    job_id: OptionalInt64 = Field(None, alias="jobId")


class CurvesQuery(Wire):
    """Whose curves are drawn over each other."""

    node: Text = Field(description="as columns name it: a component's uuid, with #2, #3, ... for further nodes of it")
    port: Text = Field("metrics", alias="portName")
    run_ids: IdList = Field(default_factory=list, alias="runIds", description="without any, the newest that have it")


class DataSetName(Wire):
    """A data set that a run has read."""

    id: Int64 = Field(alias="dataId")
    name: str = Field(alias="dataName")


class ParameterEntry(Wire):
    """A parameter that differs between the runs."""

    id: str = Field(description="under which runs have its value")
    node: str
    node_name: str = Field(alias="nodeName")
    key: str


class MetricEntry(Wire):
    """A metric that runs have."""

    id: str = Field(description="under which runs have its value")
    node: str
    node_name: str = Field(alias="nodeName")
    port: str = Field(alias="portName")
    metric: str
    better: Better | None = Field(description="which value is better; null where that is not known")
    best: list[Int64] = Field(description="the runs that have the best value")


class RunEntry(Wire):
    """A run of one of the experiment's jobs."""

    job_id: Int64 = Field(alias="jobId")
    run_id: Int64 = Field(alias="runId")
    purpose: Purpose = Field(alias="jobPattern")
    status: Status = Field(alias="jobStatus")
    reason: str | None
    seed: int
    created_at: DateTime = Field(alias="createTime")
    took_ms: OptionalInt64 = Field(alias="tookMs", description="from its start to its end")
    data_sets: list[DataSetName] = Field(alias="datasets")
    node_ids: dict[str, Int64] = Field(alias="nodeIds", description="its nodes by their names here, as they were drawn")
    parameters: dict[str, Any] = Field(description="of those that differ, by their ids")
    metrics: dict[str, float]


class Comparison(Page[RunEntry]):
    """Runs, newest first. What differs and which is best is said of all ``total`` runs, whatever page is asked for."""

    all_runs: int = Field(alias="allRuns", description="how many there are; of more than are compared, the newest are")
    parameters: list[ParameterEntry]
    metrics: list[MetricEntry]
