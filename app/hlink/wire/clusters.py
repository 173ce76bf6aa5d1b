"""Wire models of 集群管理 (``/cluster``) and 总览 (``/dashboard/clusterInfo``)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.hlink.wire.envelope import CustomParameters, Paging
from app.wire import Int32, OptionalDateTime, OptionalInt32, OptionalInt64, OptionalText, TextFilter, TimeFilter, Wire


class ClusterAddition(Wire):
    """集群添加 (``POST /cluster/add``): published as query fields; a JSON or form body may carry them as well."""

    name: OptionalText = Field(None, description="cluster name")
    address: OptionalText = Field(None, description="http://host:port of Flink's REST API; host:port will do")
    type: OptionalText = Field(None, description="dictionary cluster_type: 0 and 1 are a standalone cluster")
    remark: OptionalText = None


class _Login(Wire):
    """What the proxy before a cluster asks for (ours, beside the published fields): a password or a token."""

    username: OptionalText = None
    password: OptionalText = Field(None, description="masked in answers; the mask sent back means: as it was")
    token: OptionalText = Field(None, description="sent as Authorization: Bearer; masked as the password is")


class ClusterAdditionBody(ClusterAddition, _Login):
    """The body of ``POST /cluster/add``. The login comes here only: addresses are logged on their way."""


class ClusterChange(Wire):
    """集群修改 (``PUT /cluster/update``): published as query fields; a body may carry them as well."""

    id: OptionalText = Field(None, description="which cluster")
    name: OptionalText = None
    address: OptionalText = None
    remark: OptionalText = Field(None, description="empty text takes it away")


class ClusterChangeBody(ClusterChange, _Login):
    """The body of ``PUT /cluster/update``."""


class ClusterEntity(_Login):
    """集群: a record of ``/cluster/list`` and ``/cluster/check/list``."""

    id: OptionalInt64 = None
    name: OptionalText = None
    address: OptionalText = None
    type: OptionalInt32 = Field(None, description="dictionary cluster_type")
    remark: OptionalText = None
    state: OptionalInt32 = Field(None, alias="delFlag", description="0 off, 1 on, -1 deleted")
    created_by: OptionalText = Field(None, alias="createBy")
    created_at: OptionalDateTime = Field(None, alias="createTime")
    modified_by: OptionalText = Field(None, alias="modifyBy")
    modified_at: OptionalDateTime = Field(None, alias="modifyTime")


class _Freshness(Wire):
    """How far the figures beside it can be trusted (ours, beside the published fields)."""

    reachable: bool | None = Field(
        None, description="whether the cluster answered just now; null if it was never asked"
    )
    observed_at: OptionalDateTime = Field(None, alias="observedTime", description="when it gave these figures")
    age_ms: OptionalInt64 = Field(None, alias="observedAgeMs", description="how long ago that was, in milliseconds")


class ClusterView(ClusterEntity, _Freshness):
    """公共 视图: the answer of ``/cluster/info``, with the cluster's figures, live or the last known."""

    task_managers: OptionalInt32 = Field(None, alias="taskManagerCount")
    slots_total: OptionalInt32 = Field(None, alias="slotTotal")
    slots_available: OptionalInt32 = Field(None, alias="slotAvailableCount")
    slots_running: OptionalInt32 = Field(None, alias="slotRunningCount")
    jobs_canceled: OptionalInt32 = Field(None, alias="jobCancelCount")
    jobs_finished: OptionalInt32 = Field(None, alias="jobCompleteCount")
    jobs_failed: OptionalInt32 = Field(None, alias="jobFailureCount")
    requested_page: OptionalInt32 = Field(None, alias="curPage")
    requested_size: OptionalInt32 = Field(None, alias="pageSize")
    parameters: dict[str, Any] | None = Field(None, alias="parms")


class ClusterOverview(_Freshness):
    """ClusterOverviewWithVersion: the answer of ``/dashboard/clusterInfo``, one cluster or the sum of all."""

    flink_version: OptionalText = Field(None, alias="flinkVersion")
    flink_commit: OptionalText = Field(None, alias="flinkCommit")
    task_managers: Int32 = Field(0, alias="taskmanagers")
    slots_total: Int32 = Field(0, alias="slotsTotal")
    slots_available: Int32 = Field(0, alias="slotsAvailable")
    jobs_running: Int32 = Field(0, alias="jobsRunning")
    jobs_finished: Int32 = Field(0, alias="jobsFinished")
    jobs_canceled: Int32 = Field(0, alias="jobsCancelled")
    jobs_failed: Int32 = Field(0, alias="jobsFailed")
    unreachable: list[str] = Field([], description="the clusters that did not answer, by name")


class ClusterQuery(Paging):
    """集群列表分页查询 (``GET /cluster/list``): every field filters; text by substring."""

    name: TextFilter = None
    address: TextFilter = None
    type: OptionalInt32 = None
    remark: TextFilter = None
    created_by: TextFilter = Field(None, alias="createBy")
    created_at: TimeFilter = Field(None, alias="createTime")
    modified_by: TextFilter = Field(None, alias="modifyBy")
    modified_at: TimeFilter = Field(None, alias="modifyTime")


class ClusterChoiceQuery(ClusterQuery):
    """集群下拉列表查询 (``GET /cluster/check/list``): as the list, and by the last known figures; not paged."""

    id: OptionalInt64 = None
    state: OptionalInt32 = Field(None, alias="delFlag")
    task_managers: OptionalInt32 = Field(None, alias="taskManagerCount")
    slots_total: OptionalInt32 = Field(None, alias="slotTotal")
    slots_available: OptionalInt32 = Field(None, alias="slotAvailableCount")
    slots_running: OptionalInt32 = Field(None, alias="slotRunningCount")
    jobs_canceled: OptionalInt32 = Field(None, alias="jobCancelCount")
    jobs_finished: OptionalInt32 = Field(None, alias="jobCompleteCount")
    jobs_failed: OptionalInt32 = Field(None, alias="jobFailureCount")
    parameters: CustomParameters = Field(None, alias="parms")
