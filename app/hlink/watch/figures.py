"""A running job's figures, with as few requests to Flink as that takes.

Tried on Flink 2.3: ``/jobs/:id/metrics?get=...`` has restarts and all that is shown of the newest checkpoint, for one
request. Everything else is metrics of vertices, of which ``/jobs/:id/vertices/:vertex/subtasks/metrics`` with
``get=...&agg=sum,min,max`` gives all that are named, over all subtasks, for one request a vertex. So a look at a job of
V vertices is 1 + V requests. The graph and the names of metrics, which begin with the operators' names, are asked for
beside that in a run's first minute, and seldom afterwards; one name that is not there makes the whole answer empty. A
vertex's ``backpressure`` and ``watermarks``, which the overview shows to people, are two more requests and say nothing
that those metrics do not. Flink answers from what it last fetched of its TaskManagers, 10 s apart at most
(``metrics.fetcher.update-interval``): asking more often gives nothing.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stream_jobs.rest import Cluster, Spread

Turn = Callable[[], Awaitable[None]]
"""Waits until the next request may be sent."""

_OF_JOB = (
    "numRestarts",
    "lastCheckpointDuration",
    "lastCheckpointFullSize",
    "lastCheckpointCompletedTimestamp",
    "numberOfCompletedCheckpoints",
    "numberOfFailedCheckpoints",
)
_BACK_PRESSURE = "backPressuredTimeMsPerSecond"
_WATERMARK = "currentInputWatermark"
_PENDING = re.compile(
    r"Source__(?:KafkaSource-)?(?:default_catalog_default_database_)?(?P<table>.+?)(?:\[\d+\])?\.pendingRecords"
)
_READ = re.compile(r"Source__[^.]+\.numRecordsInPerSecond")
_WATERMARK_OF_SOURCE = re.compile(r"Source__[^.]+\.currentOutputWatermark")
# What reaches a sink's writer; a sink of the older kind is one operator.
_WRITTEN = re.compile(r"(?:[^.]+__Writer|Sink__[^.]+)\.numRecordsInPerSecond")
_WANTED = (_PENDING, _READ, _WATERMARK_OF_SOURCE, _WRITTEN)
_LONGEST_NAMES = 3000  # Flink's server takes 4096 characters in the first line of a request
_NO_WATERMARK = -9e18


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; None, or an empty mapping, where Flink has not measured it or the job has no such thing."""

    restarts: int | None = None
    lag: Mapping[str, int] = field(default_factory=dict)
    """Source -> records that are not read yet."""
    checkpoint_ms: int | None = None
    checkpoint_bytes: int | None = None
    checkpoint_at: int | None = None
    """When the newest complete checkpoint was complete, in milliseconds since 1970."""
    checkpoints_completed: int | None = None
    checkpoints_failed: int | None = None
    back_pressure: float | None = None
    """Of the most held up subtask: the share of time, 0 to 1, that it waits for the next one."""
    records_in: float | None = None
    """A second, over all sources."""
    records_out: float | None = None
    """A second, over all sinks."""
    watermark: int | None = None
    """The slowest one, in milliseconds since 1970."""


Names = Mapping[str, Sequence[str]]
"""Vertex -> the names of its metrics that are wanted."""


async def names_of(cluster: Cluster, job_id: str, turn: Turn) -> Names:
    """What is to be asked of a run from now on. Raises :class:`~stream_jobs.rest.FlinkRestError`."""
    found: dict[str, Sequence[str]] = {}
    await turn()
    for vertex in (await cluster.job(job_id)).vertices:
        await turn()
        known = await cluster.vertex_metric_names(job_id, vertex.id)
        found[vertex.id] = [
            name
            for name in known
            if name in (_BACK_PRESSURE, _WATERMARK) or any(pattern.fullmatch(name) for pattern in _WANTED)
        ]
    return found


async def figures_of(cluster: Cluster, job_id: str, names: Names, turn: Turn) -> tuple[Figures, bool]:
    """The run's figures, and whether every vertex had metrics of these names: one that is restarted has none.

    Raises :class:`~stream_jobs.rest.FlinkRestError`.
    """
    complete = True
    await turn()
    of_job = await cluster.job_metrics(job_id, _OF_JOB)
    spreads: list[tuple[str, Spread]] = []
    for vertex, wanted in names.items():
        for piece in _pieces(wanted):
            await turn()
            answer = await cluster.vertex_spreads(job_id, vertex, piece)
            complete = complete and bool(answer)
            spreads += answer.items()
    return figures(of_job, spreads), complete


def figures(of_job: Mapping[str, float | None], spreads: Iterable[tuple[str, Spread]]) -> Figures:
    """The figures out of what Flink measured of a job, and of its vertices by the metrics' names."""
    lag: dict[str, int] = {}
    pressures: list[float] = []
    watermarks: list[float] = []
    read: list[float] = []
    written: list[float] = []
    for name, spread in spreads:
        if spread.sum is None or spread.min is None or spread.max is None:
            continue
        if (source := _PENDING.fullmatch(name)) is not None:
            lag[source["table"]] = int(spread.sum)
        elif name == _BACK_PRESSURE:
            pressures.append(spread.max / 1000)
        elif name == _WATERMARK or _WATERMARK_OF_SOURCE.fullmatch(name):
            watermarks.append(spread.min)
        elif _READ.fullmatch(name):
            read.append(spread.sum)
        elif _WRITTEN.fullmatch(name):
            written.append(spread.sum)
    known = [mark for mark in watermarks if _NO_WATERMARK < mark < -_NO_WATERMARK]
    completed = _whole(of_job.get("numberOfCompletedCheckpoints"))
    return Figures(
        restarts=_whole(of_job.get("numRestarts")),
        lag=lag,
        checkpoint_ms=_whole(of_job.get("lastCheckpointDuration")) if completed else None,
        checkpoint_bytes=_whole(of_job.get("lastCheckpointFullSize")) if completed else None,
        checkpoint_at=_whole(of_job.get("lastCheckpointCompletedTimestamp")) if completed else None,
        checkpoints_completed=completed,
        checkpoints_failed=_whole(of_job.get("numberOfFailedCheckpoints")),
        back_pressure=min(1.0, max(pressures)) if pressures else None,
        records_in=sum(read) if read else None,
        records_out=sum(written) if written else None,
        watermark=int(min(known)) if known else None,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None or value < 0 else int(value)


def _pieces(names: Sequence[str]) -> Iterable[Sequence[str]]:
    piece: list[str] = []
    for name in names:
        if piece and len(",".join((*piece, name))) > _LONGEST_NAMES:
            yield piece
            piece = []
        piece.append(name)
    if piece:
        yield piece
