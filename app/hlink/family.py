"""The Hlink API as a family: its routes, how it tells of errors, and what lives while the service runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.hlink import connections
from app.hlink.answers import envelope
from app.hlink.clusters import flink
from app.hlink.clusters import routes as clusters
from app.hlink.tables import routes as tables
from app.service import Family, Service


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[None]:
    async with flink.client() as to_clusters:
        service.parts[clusters.CONNECTIONS] = to_clusters
        try:
            yield
        finally:
            await connections.close()


family = Family(
    name="hlink",
    routers=(clusters.router, clusters.dashboard, tables.router),
    prefixes=("/jobs", "/dict", "/dashboard", "/ds", "/file", "/jars", "/doc", "/cluster"),
    envelope=envelope,
    lifespan=lifespan,
)
