"""The API of visual experiments as a family: its routes, how it tells of errors, and what runs its graphs."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.service import Family, Service
from app.supervisor.runners.process import ProcessRunner
from app.visual.answers import envelope
from app.visual.experiments import routes as experiments
from app.visual.jobs import routes as jobs
from app.visual.jobs.launch import RUNS, GraphLauncher
from app.visual.runs import KIND


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[None]:
    settings = service.settings
    place = service.parts[jobs.PLACE] = f"machine {socket.gethostname()}"
    runner = ProcessRunner(settings.home / RUNS, place, GraphLauncher(settings), settings.visual_at_once)
    service.supervisor.register(KIND, runner)
    yield


family = Family(
    name="visualmodule",
    routers=(experiments.router, jobs.router),
    prefixes=("/visualmodule",),
    envelope=envelope,
    lifespan=lifespan,
)
