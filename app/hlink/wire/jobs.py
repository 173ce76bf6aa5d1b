"""Wire models of 作业管理 (``/jobs``). Units and codes stand beside each field; the misspelt names are published so."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.hlink.wire.envelope import CustomParameters, Paging
from app.wire import OptionalDateTime, OptionalInt32, OptionalInt64, OptionalText, TextFilter, TimeFilter, Wire


class JobTable(Wire):
    """作业与数据源映射 (``jobDsVOS``): a table that the job uses; ``sql`` is the feature statement of a sink."""

    id: OptionalInt64 = None
    job_id: OptionalInt64 = Field(None, alias="jobId")
    table_id: OptionalInt64 = Field(None, alias="dsId")
    role: OptionalText = Field(None, alias="dsType", description="source, sink, side")
    sql: OptionalText = Field(None, alias="runSql", description="the feature statement; sinks only")


class _JobFields(Wire):
    """What the request, the view and the stored entity of a job have in common."""

    id: OptionalInt64 = None
    code: OptionalText = Field(None, alias="jobCode")
    name: OptionalText = Field(None, alias="jobName")
    description: OptionalText = Field(None, alias="jobDesc")
    kind: OptionalInt32 = Field(None, alias="jobType", description="0 SQL, 1 JAR")
    status: OptionalInt32 = Field(
        None, alias="jobStatus", description="0 not running, 1 running, 2 canceled, 3 failed, 9 submitting"
    )
    flink_job_id: OptionalText = Field(None, alias="flinkJobId")
    cluster_id: OptionalInt64 = Field(None, alias="clusterId")
    parallelism: OptionalInt32 = None
    computing_units: OptionalInt32 = Field(
        None, alias="computingUnit", description="one is a parallelism of 2; counts where parallelism is not given"
    )
    time_type: OptionalInt32 = Field(
        None,
        alias="timeType",
        description="1: each statement says by its columns which time it goes by; 2: the same, and a source must have "
        "an event time; 0 (ingestion time) is not there any more",
    )

    checkpoint_interval_ms: OptionalInt64 = Field(
        None, alias="checkpointInterval", description="milliseconds; 0 is no checkpoints"
    )
    checkpoint_mode: OptionalInt32 = Field(None, alias="checkpointMode", description="dictionary checkpoint_mode")
    checkpoint_timeout_ms: OptionalInt64 = Field(None, alias="checkpointTimeout", description="milliseconds")
    checkpoint_min_pause_ms: OptionalInt64 = Field(None, alias="minPauseBetweenCheckpoints", description="milliseconds")
    max_concurrent_checkpoints: OptionalInt32 = Field(None, alias="checkpointMaxCuncurrency")
    state_backend: OptionalInt32 = Field(
        None, alias="checkpointStatebackendType", description="dictionary statebackend_type"
    )
    checkpoint_storage: OptionalText = Field(None, alias="checkpointStatebackendPath")
    savepoint_dir: OptionalText = Field(None, alias="stateSavepointsDir")
    savepoint_path: OptionalText = Field(None, alias="savepointPath")
    allow_non_restored_state: OptionalInt32 = Field(None, alias="allowNrs", description="0 no, 1 yes")

    restart_strategy: OptionalInt32 = Field(None, alias="restartStrategy", description="dictionary restart_strategy")
    restart_attempts: OptionalInt32 = Field(None, alias="restartAttempts")
    restart_delay_s: OptionalInt32 = Field(None, alias="delayInterval", description="seconds")
    max_failures: OptionalInt32 = Field(None, alias="failureRate", description="failures within failureInterval")
    failure_interval_min: OptionalInt32 = Field(None, alias="failureInterval", description="minutes")

    mini_batch: OptionalInt32 = Field(None, alias="enableMinibatchOptimization", description="0 off, 1 on")
    mini_batch_latency_s: OptionalInt64 = Field(None, alias="tableExecMinibatchAllowlatency", description="seconds")
    mini_batch_size: OptionalInt64 = Field(None, alias="tableExecMinibatchSize", description="rows")
    two_phase_aggregation: OptionalInt32 = Field(
        None, alias="tableOptimizerAggPhaseStrategy", description="0 off, 1 on"
    )
    split_distinct_aggregation: OptionalInt32 = Field(
        None, alias="tableOptimizerDistinctAggSplitEnabled", description="0 off, 1 on"
    )

    jar: OptionalText = Field(
        None, alias="useJar", description="id, resUname or resName of a jar; the id is what is stored"
    )
    entry_class: OptionalText = Field(None, alias="entryClass")
    program_arguments: OptionalText = Field(None, alias="program")

    version: OptionalText = None
    enabled: OptionalInt32 = Field(None, alias="delFlag", description="0 discarded, 1 in use")
    created_by: OptionalText = Field(None, alias="createBy")
    created_at: OptionalDateTime = Field(None, alias="createTime")
    modified_by: OptionalText = Field(None, alias="modifyBy")
    modified_at: OptionalDateTime = Field(None, alias="modifyTime")


class JobView(_JobFields):
    """作业  视图实体 (``jobVO``): the body of ``/jobs/addDO``, the answer of ``/jobs/list`` and ``/jobs/{jobId}``."""

    checkpoint_cleanup: OptionalInt32 = Field(
        None, alias="checkpointCleanupMode", description="dictionary checkpoint_cleanup_mode"
    )
    kind_name: OptionalText = Field(None, alias="jobTypeName")
    status_name: OptionalText = Field(None, alias="jobStatusName")
    cluster_name: OptionalText = Field(None, alias="clusterName")
    cluster_type: OptionalInt32 = Field(None, alias="clusterType")
    cluster_type_name: OptionalText = Field(None, alias="clusterTypeName")
    tables: list[JobTable] | None = Field(None, alias="jobDsVOS")
    requested_page: OptionalInt32 = Field(None, alias="curPage")
    requested_size: OptionalInt32 = Field(None, alias="pageSize")
    priority: OptionalInt32 = Field(
        None, description="the higher is started first where jobs wait for slots; 0 without it"
    )
    queue_limit_s: OptionalInt32 = Field(
        None, alias="queueLimitS", description="seconds that it waits for slots at most; 0: for ever"
    )
    recover: OptionalText = Field(
        None, description="when it is started again by itself: none, lost (without it), failed (lost and failed)"
    )
    recover_without_state: OptionalInt32 = Field(
        None, alias="recoverWithoutState", description="0 only from a checkpoint or savepoint, 1 also without any"
    )
    parameters: dict[str, Any] | None = Field(
        None, alias="parms", description="Flink's own options for this job by their names, as table.exec.state.ttl"
    )


class JobPreview(JobView):
    """The body of ``/jobs/preview`` (ours): a job as for ``/jobs/addDO``, and how much of it to show."""

    limit: int | None = Field(None, ge=1, le=1000, description="rows of each sink; 100 without it")
    timeout_s: float | None = Field(
        None, alias="timeoutS", ge=1, le=10, description="seconds until it is cut off; 10 without it"
    )


class JobEntity(_JobFields):
    """作业  持久层实体: the answer of ``/jobs/addDO``, where ``checkpointCleanupMode`` is published as boolean.

    True stands for the dictionary's 1 (DELETE_ON_CANCELLATION), false for 0 (RETAIN_ON_CANCELLATION).
    """

    checkpoint_cleanup: bool | None = Field(None, alias="checkpointCleanupMode")


class JobQuery(Paging):
    """作业列表查询 (``GET /jobs/list``): every query field filters; text by substring, the rest by equality.

    ``table_*`` are the published ``jobDsVOS[0].*``: they let through the jobs that use such a table.
    """

    id: OptionalInt64 = None
    code: TextFilter = Field(None, alias="jobCode")
    name: TextFilter = Field(None, alias="jobName")
    description: TextFilter = Field(None, alias="jobDesc")
    kind: OptionalInt32 = Field(None, alias="jobType")
    kind_name: TextFilter = Field(None, alias="jobTypeName")
    status: OptionalInt32 = Field(None, alias="jobStatus")
    status_name: TextFilter = Field(None, alias="jobStatusName")
    flink_job_id: TextFilter = Field(None, alias="flinkJobId")
    cluster_id: OptionalInt64 = Field(None, alias="clusterId")
    cluster_name: TextFilter = Field(None, alias="clusterName")
    cluster_type: OptionalInt32 = Field(None, alias="clusterType")
    cluster_type_name: TextFilter = Field(None, alias="clusterTypeName")
    parallelism: OptionalInt32 = None
    computing_units: OptionalInt32 = Field(None, alias="computingUnit")
    time_type: OptionalInt32 = Field(None, alias="timeType")

    checkpoint_interval_ms: OptionalInt64 = Field(None, alias="checkpointInterval")
    checkpoint_mode: OptionalInt32 = Field(None, alias="checkpointMode")
    checkpoint_timeout_ms: OptionalInt64 = Field(None, alias="checkpointTimeout")
    checkpoint_min_pause_ms: OptionalInt64 = Field(None, alias="minPauseBetweenCheckpoints")
    max_concurrent_checkpoints: OptionalInt32 = Field(None, alias="checkpointMaxCuncurrency")
    checkpoint_cleanup: OptionalInt32 = Field(None, alias="checkpointCleanupMode")
    state_backend: OptionalInt32 = Field(None, alias="checkpointStatebackendType")
    checkpoint_storage: TextFilter = Field(None, alias="checkpointStatebackendPath")
    savepoint_dir: TextFilter = Field(None, alias="stateSavepointsDir")
    savepoint_path: TextFilter = Field(None, alias="savepointPath")
    allow_non_restored_state: OptionalInt32 = Field(None, alias="allowNrs")

    restart_strategy: OptionalInt32 = Field(None, alias="restartStrategy")
    restart_attempts: OptionalInt32 = Field(None, alias="restartAttempts")
    restart_delay_s: OptionalInt32 = Field(None, alias="delayInterval")
    max_failures: OptionalInt32 = Field(None, alias="failureRate")
    failure_interval_min: OptionalInt32 = Field(None, alias="failureInterval")

    mini_batch: OptionalInt32 = Field(None, alias="enableMinibatchOptimization")
    mini_batch_latency_s: OptionalInt64 = Field(None, alias="tableExecMinibatchAllowlatency")
    mini_batch_size: OptionalInt64 = Field(None, alias="tableExecMinibatchSize")
    two_phase_aggregation: OptionalInt32 = Field(None, alias="tableOptimizerAggPhaseStrategy")
    split_distinct_aggregation: OptionalInt32 = Field(None, alias="tableOptimizerDistinctAggSplitEnabled")

    jar: TextFilter = Field(None, alias="useJar")
    entry_class: TextFilter = Field(None, alias="entryClass")
    program_arguments: TextFilter = Field(None, alias="program")

    version: TextFilter = None
    enabled: OptionalInt32 = Field(None, alias="delFlag")
    created_by: TextFilter = Field(None, alias="createBy")
    created_at: TimeFilter = Field(None, alias="createTime")
    modified_by: TextFilter = Field(None, alias="modifyBy")
    modified_at: TimeFilter = Field(None, alias="modifyTime")
    parameters: CustomParameters = Field(None, alias="parms")

    table_id: OptionalInt64 = Field(None, alias="jobDsVOS[0].dsId")
    table_role: TextFilter = Field(None, alias="jobDsVOS[0].dsType")
    table_mapping_id: OptionalInt64 = Field(None, alias="jobDsVOS[0].id")
    table_job_id: OptionalInt64 = Field(None, alias="jobDsVOS[0].jobId")
    table_sql: TextFilter = Field(None, alias="jobDsVOS[0].runSql")
