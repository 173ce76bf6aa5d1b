"""The API of visual experiments as a family: its routes, and what lives while the service runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.service import Family, Service
from app.visual.answers import envelope
from app.visual.datasets import routes as datasets


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[None]:
    async with datasets.running(service):
        yield


family = Family(
    name="visualmodule",
    routers=(datasets.router,),
    prefixes=("/visualmodule",),
    envelope=envelope,
    lifespan=lifespan,
)
