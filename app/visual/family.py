"""The API of visual experiments as a family: its routes, how it tells of errors, and what lives while it is served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from app.background import repeated
from app.service import Family, Service
from app.supervisor.runners.process import ProcessRunner
from app.visual.answers import envelope
from app.visual.comparison import routes as comparison
from app.visual.datasets import routes as datasets
from app.visual.experiments import routes as experiments
from app.visual.jobs import routes as jobs
from app.visual.jobs import running
from app.visual.jobs.folders import RUNS
from app.visual.jobs.launch import GraphLauncher
from app.visual.jobs.service import needs_data_set
from app.visual.keeping import EVERY_S, clean
from app.visual.own import routes as own
from app.visual.runs import KIND


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[None]:
    settings = service.settings
    runner = ProcessRunner(
        settings.home / RUNS,
        running.place_of(settings),
        GraphLauncher(settings),
        settings.visual_at_once,
        service.supervisor.look,
    )
    service.supervisor.register(KIND, runner)
    with closing(runner):
        async with datasets.running(service), repeated("outputs of experiments", EVERY_S, lambda _: clean(service)):
            service.parts[datasets.PART].guard(needs_data_set)
            yield


family = Family(
    name="visualmodule",
    routers=(experiments.router, comparison.router, own.router, jobs.router, datasets.router),
    prefixes=("/visualmodule",),
    envelope=envelope,
    lifespan=lifespan,
)
