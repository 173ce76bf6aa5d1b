"""Prometheus metrics of this process. The numbers of runs are read from the database when they are asked for."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
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
