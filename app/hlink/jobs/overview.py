"""What an operator sees of a job: the run with the age of what is known, and Flink's own figures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from app.hlink.jobs.service import Found, status_of
from app.supervisor import Desired, Event, Run
from stream_jobs.formats import FAILED, PARSED
from stream_jobs.rest import Cluster, Clusters, FlinkRestError, JobDetail, Vertex

_WATERMARK_UNSET = -(2**63)


async def overview(found: Found, clusters: Clusters, now_ms: int, events: Sequence[Event]) -> dict[str, Any]:
    """The overview of a job (published without a shape: ``/jobs/overview/{jobId}``).

    Times are epoch milliseconds, ages seconds. ``flink`` is null when there is no run, and ``flinkError`` says why
    when the cluster does not answer: what was seen last stands in ``run``.
    """
    run = found.run
    answer: dict[str, Any] = {
        "jobId": found.job.id,
        "jobName": found.job.name,
        "jobStatus": status_of(run),
        "version": found.version,
        "run": _run(run, now_ms) if run else None,
        "flink": None,
        "flinkError": None,
        "events": [
            {"at": e.at, "what": e.what, "state": e.state, "message": e.message, "by": e.by} for e in reversed(events)
        ],
    }
    if run is None or run.started_at is None:
        return answer
    try:
        answer["flink"] = await _flink(clusters.at(str(run.spec["flink_url"])), run)
    except FlinkRestError as error:
        answer["flinkError"] = str(error)
    return answer


def _run(run: Run, now_ms: int) -> dict[str, Any]:
    return {
        "id": run.id,
        "state": run.state,
        "desired": run.desired,
        "stopMode": run.stop_mode if run.desired is Desired.STOPPED else None,
        "stopAttempts": run.stop_attempts if run.desired is Desired.STOPPED else None,
        "reason": run.reason,
        "flinkJobId": run.external_id,
        "observed": run.observed,
        "observedAt": run.observed_at,
        "observedAgeSeconds": _age(run.observed_at, now_ms) if not run.state.ended else None,
        "observedFrom": run.observed_from,
        "tasksRunning": run.tasks_running,
        "tasksTotal": run.tasks_total,
        "restarts": run.restarts,
        "lastException": run.exception,
        "lastCheckpointPath": run.checkpoint,
        "savepoint": run.savepoint,
        "slots": run.slots,
        "priority": run.priority,
        "queuedAt": run.queued_at,
        "recoveryAttempt": run.recovery,
        "recoveredRunId": run.predecessor_id if run.recovery is not None else None,
        "notBefore": run.not_before,
        "restoredFrom": run.spec.get("restore"),
        "downtimeMs": run.down_ms,
        "createdAt": run.created_at,
        "submittedAt": run.submitted_at,
        "startedAt": run.started_at,
        "endedAt": run.ended_at,
    }


def _age(at: int | None, now_ms: int) -> float | None:
    return None if at is None else round(max(0, now_ms - at) / 1000, 3)


async def _flink(cluster: Cluster, run: Run) -> dict[str, Any]:
    job_id = run.external_id
    detail, checkpoints, exceptions = await asyncio.gather(
        cluster.job(job_id), cluster.checkpoints(job_id), cluster.exceptions(job_id, 5)
    )
    sources = {node.id for node in detail.plan.nodes if not node.inputs}
    vertices, counted = await asyncio.gather(
        asyncio.gather(*(_vertex(cluster, job_id, vertex, run) for vertex in detail.vertices)),
        asyncio.gather(*(_messages(cluster, job_id, one) for one in detail.vertices if one.id in sources)),
    )
    completed, failed = checkpoints.latest.completed, checkpoints.latest.failed
    return {
        "state": detail.state,
        "startTime": detail.start_time,
        "durationMs": detail.duration,
        "page": f"{run.spec['flink_url']}/#/job/running/{job_id}/overview",
        "graph": _graph(detail),
        "vertices": vertices,
        "messages": [counts for of_vertex in counted for counts in of_vertex],
        "checkpoints": checkpoints.counts.model_dump(),
        "lastCheckpoint": completed
        and {
            "id": completed.id,
            "at": completed.trigger_timestamp,
            "durationMs": completed.end_to_end_duration,
            "sizeBytes": completed.state_size,
            "path": completed.external_path,
        },
        "lastFailedCheckpoint": failed
        and {"id": failed.id, "at": failed.trigger_timestamp, "why": failed.failure_message},
        "exceptions": [
            {
                "at": one.timestamp,
                "rootCause": one.root_cause,
                "told": one.told,
                "task": one.task_name,
                "taskManager": one.task_manager,
            }
            for one in exceptions
        ],
    }


async def _messages(cluster: Cluster, job_id: str, vertex: Vertex) -> list[dict[str, Any]]:
    """What our formats counted in each source of a vertex since it last started: messages read, and not readable."""
    names = [name for name in await cluster.vertex_metric_names(job_id, vertex.id) if name.endswith((PARSED, FAILED))]
    if not names:
        return []
    values = await cluster.vertex_metrics(job_id, vertex.id, names)
    return [
        {
            "source": name.removesuffix(PARSED).split(".")[0],
            "parsed": int(value or 0),
            "failed": int(values.get(name.removesuffix(PARSED) + FAILED) or 0),
        }
        for name, value in values.items()
        if name.endswith(PARSED)
    ]


def _graph(detail: JobDetail) -> list[Mapping[str, Any]]:
    """The operators with their inputs, from sources to sinks."""
    return [
        {
            "id": node.id,
            "description": node.description,
            "parallelism": node.parallelism,
            "inputs": [{"id": one.id, "shipStrategy": one.ship_strategy} for one in node.inputs],
        }
        for node in detail.plan.nodes
    ]


async def _vertex(cluster: Cluster, job_id: str, vertex: Vertex, run: Run) -> dict[str, Any]:
    pressure: Any = None
    marks: list[int] = []
    if not run.state.ended:
        pressure, marks = await asyncio.gather(
            cluster.back_pressure(job_id, vertex.id), cluster.watermarks(job_id, vertex.id)
        )
    known = [mark for mark in marks if mark > _WATERMARK_UNSET]
    return {
        "id": vertex.id,
        "name": vertex.name,
        "parallelism": vertex.parallelism,
        "status": vertex.status,
        "recordsIn": vertex.metrics.read_records,
        "recordsOut": vertex.metrics.write_records,
        "bytesIn": vertex.metrics.read_bytes,
        "bytesOut": vertex.metrics.write_bytes,
        "backPressure": pressure.level if pressure else None,
        "backPressureRatio": max((s.ratio or 0.0 for s in pressure.subtasks), default=None) if pressure else None,
        "busyRatio": max((s.busy_ratio or 0.0 for s in pressure.subtasks), default=None) if pressure else None,
        # The slowest subtask's watermark is the one that windows wait for.
        "watermark": min(known) if known and len(known) == len(marks) else None,
    }
