"""Prometheus metrics of this process. The numbers of runs are read from the database when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

RUNS = Gauge("hlink_runs", "Runs by state, all replicas together", ["state"], registry=REGISTRY)
OBSERVATION_AGE = Gauge(
    "hlink_observation_age_seconds", "Age of the oldest observation of a run that has not ended", registry=REGISTRY
)
TICKS = Histogram("hlink_supervisor_tick_seconds", "Duration of the supervisor's ticks", registry=REGISTRY)
FAULTS = Counter("hlink_supervisor_faults_total", "Exceptions that the supervisor's loop recorded", registry=REGISTRY)
TRANSITIONS = Counter("hlink_run_transitions_total", "Transitions of runs to a state", ["state"], registry=REGISTRY)

PLANNER_REQUESTS = Counter(
    "hlink_planner_requests_total", "Requests to the planner", ["kind", "outcome"], registry=REGISTRY
)
PLANNER_LATENCY = Histogram("hlink_planner_seconds", "Duration of requests to the planner", ["kind"], registry=REGISTRY)
PLANNER_RESTARTS = Counter("hlink_planner_restarts_total", "Planners that had to be replaced", registry=REGISTRY)

HTTP = Histogram("hlink_http_request_seconds", "Duration of requests", ["method", "route", "status"], registry=REGISTRY)

NOTIFICATIONS = Counter(
    "hlink_notifications_total", "Attempts to send a notification, by outcome", ["outcome"], registry=REGISTRY
)
FIGURE_REQUESTS = Counter(
    "hlink_figure_requests_total", "Requests to Flink for the figures of jobs", ["outcome"], registry=REGISTRY
)

_JOB = ("job_id", "job", "cluster")

JOB_GAUGES: Mapping[str, tuple[str, Sequence[str]]] = {
    "hlink_job_state": ("1 for the state that the job's newest run is in", (*_JOB, "state")),
    "hlink_job_restarts": ("How often Flink has restarted the job's run", _JOB),
    "hlink_job_lag_records": ("Records of a source that the job has not read yet", (*_JOB, "source")),
    "hlink_job_checkpoint_seconds": ("Duration of the newest complete checkpoint", _JOB),
    "hlink_job_checkpoint_bytes": ("State in the newest complete checkpoint", _JOB),
    "hlink_job_checkpoint_age_seconds": ("How long ago the newest complete checkpoint was complete", _JOB),
    "hlink_job_checkpoints_completed": ("Complete checkpoints of the job's run", _JOB),
    "hlink_job_checkpoints_failed": ("Failed checkpoints of the job's run", _JOB),
    "hlink_job_back_pressure_ratio": ("Share of time, 0 to 1, that the most held up task waits for the next one", _JOB),
    "hlink_job_records_in_per_second": ("Records that the job's sources read", _JOB),
    "hlink_job_records_out_per_second": ("Records that reach the job's sinks", _JOB),
    "hlink_job_watermark_lag_seconds": ("How far the slowest watermark is behind the clock", _JOB),
    "hlink_job_observation_age_seconds": ("How long ago the job's run was last seen, when this was collected", _JOB),
    "hlink_job_slots": ("Slots that the job's run was started for", _JOB),
    "hlink_job_figures_timestamp_seconds": ("When the job's figures were collected, in seconds since 1970", _JOB),
}
"""Gauge -> what it says, and its labels."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of one of :data:`JOB_GAUGES`, with its labels in their order."""

    gauge: str
    labels: tuple[str, ...]
    value: float


class JobFigures(Collector):
    """The figures of jobs as they were collected last; a scrape asks nobody, and a job that is gone leaves nothing."""

    def __init__(self) -> None:
        self._samples: tuple[Sample, ...] = ()

    def replace(self, samples: Iterable[Sample]) -> None:
        """From now on these, and no others."""
        self._samples = tuple(samples)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Called by a scrape."""
        families = {name: GaugeMetricFamily(name, told, labels=labels) for name, (told, labels) in JOB_GAUGES.items()}
        for sample in self._samples:
            families[sample.gauge].add_metric(sample.labels, sample.value)
        return families.values()


JOBS = JobFigures()
REGISTRY.register(JOBS)
JOBS_LEFT_OUT = Gauge(
    "hlink_jobs_without_figures", "Jobs of this replica beyond the limit of jobs with figures", registry=REGISTRY
)


class HttpLatency:
    """Middleware: times each request under its route's template, so that ids in paths do not become labels."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status = 500
        began = time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            route = getattr(scope.get("route"), "path", None) or "(none)"
            HTTP.labels(scope["method"], route, str(status)).observe(time.perf_counter() - began)
        return None
