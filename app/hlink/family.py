"""The Hlink API as a family: its routes, how it tells of errors, and what lives while the service runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.hlink import planner
from app.hlink.answers import envelope
from app.hlink.clusters import flink
from app.hlink.clusters import routes as clusters
from app.hlink.connections import Connections
from app.hlink.functions import routes as functions
from app.hlink.jobs import routes as jobs
from app.hlink.jobs.service import KIND
from app.hlink.jobs.submission import PlanSubmitter
from app.hlink.tables import routes as tables
from app.service import Family, Service
from app.supervisor.runners.flink import FlinkRunner
from stream_jobs.rest import Clusters


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        service.parts[clusters.CONNECTIONS] = await stack.enter_async_context(flink.client())
        outside = service.parts[jobs.OUTSIDE] = Connections()
        stack.push_async_callback(outside.close)
        known = service.parts[jobs.CLUSTERS] = Clusters(service.settings.flink_timeout_s)
        stack.push_async_callback(known.close)
        resident = await stack.enter_async_context(planner.running(service))
        service.supervisor.register(KIND, FlinkRunner(PlanSubmitter(service.database, resident, known), known))
        yield


family = Family(
    name="hlink",
    routers=(clusters.router, clusters.dashboard, tables.router, functions.router, jobs.router),
    prefixes=("/jobs", "/dict", "/dashboard", "/ds", "/file", "/jars", "/doc", "/cluster"),
    envelope=envelope,
    lifespan=lifespan,
)
