"""The family's planner: where its programs are, and the statements that warm it up."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from app.errors import InvalidInput, Problem
from app.metrics import PLANNER_LATENCY, PLANNER_REQUESTS, PLANNER_RESTARTS
from app.service import Health, HealthCheck, Service
from app.settings import Settings
from app.uploads import Files
from stream_jobs import models, shipped
from stream_jobs.definitions import (
    Column,
    JdbcConnection,
    JdbcLookup,
    Job,
    KafkaSink,
    KafkaSource,
    Role,
    Secret,
    Statement,
    Table,
    Watermark,
)
from stream_jobs.local import artifacts
from stream_jobs.local.installation import find_installation
from stream_jobs.planner.client import Planner, PlannerConfig
from stream_jobs.planner.plan import plan
from stream_jobs.problems import InvalidJob
from stream_jobs.problems import Problem as PlannedProblem

logger = logging.getLogger(__name__)

PART = "hlink.planner"
"""The part of the service that holds the planner."""
_WARM_UP_ROUNDS = 25


def configuration(settings: Settings, artifacts_folder: Path | None = None) -> PlannerConfig:
    """Where the planner's programs are; ``artifacts_folder`` where the artifacts are kept elsewhere than usual.

    Raises:
        LocalStackError: a package or an artifact is missing; it says what to run.
    """
    folder = artifacts_folder or artifacts.artifacts_dir(settings.home)
    installation = find_installation()
    distribution = [
        jar
        for jar in sorted((installation.flink / "lib").glob("*.jar"))
        # The loader would hide the planner's classes from the bridge, which is written against them.
        if not jar.name.startswith("flink-table-planner-loader")
    ]
    shipped_jars = shipped.jars(folder, installation)
    model_jars = models.jars(folder, installation)
    (compiler,) = artifacts.paths("tools", folder)
    return PlannerConfig(
        work_dir=settings.home / "planner",
        jars_dir=folder,
        java=installation.java,
        classpath=(
            *distribution,
            *artifacts.paths("planner", folder),
            *artifacts.paths("flink-lib", folder),
            # Connectors of the user's own; the embedded Flink reads the same folder.
            *sorted((settings.home / "lib").glob("*.jar")),
            *shipped_jars,
            *model_jars,
            *sorted((installation.flink / "opt").glob("flink-python-*.jar")),
        ),
        compiler=compiler,
        shipped=shipped.functions(),
        shipped_jars=shipped_jars,
        model_jars=model_jars,
        files=Files.of(settings).folder,
        python_executable=settings.python_executable or Path(sys.executable),
        workers=settings.planner_workers,
        timeout_s=settings.planner_timeout_s,
    )


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[Planner]:
    """The planner while the service runs; it becomes ready in the background."""
    settings = service.settings
    planner = Planner(await asyncio.to_thread(configuration, settings), warm_up if settings.planner_warm_up else None)

    def observe(kind: str, outcome: str, seconds: float) -> None:
        PLANNER_REQUESTS.labels(kind, outcome).inc()
        PLANNER_LATENCY.labels(kind).observe(seconds)
        if outcome != "answered":
            PLANNER_RESTARTS.inc()

    planner.observer = observe
    service.parts[PART] = planner
    service.health["planner"] = _health(planner)
    async with planner:
        yield planner


def refusal(problems: Sequence[PlannedProblem]) -> InvalidInput:
    """What the planner found wrong, in the words of the API."""
    return InvalidInput(
        *(
            Problem(
                p.message,
                field=p.column or None,
                table=p.table or p.statement or None,
                line=p.place.line if p.place else None,
                column=p.place.column if p.place else None,
                remedy=p.remedy or None,
            )
            for p in problems
        )
    )


def _health(planner: Planner) -> HealthCheck:
    async def check() -> Health:
        if planner.ready:
            return Health(True, f"{planner.statistics.ready} ready, {planner.statistics.restarts} replaced")
        return Health(False, planner.last_error or "starting")

    return check


async def warm_up(planner: Planner) -> None:
    """Plans what jobs are made of, so that the first user does not wait for Flink's classes to be loaded."""
    for round_ in range(_WARM_UP_ROUNDS):
        for sink, sql in _WARM_UP.items():
            job = Job("warm-up", _WARM_UP_TABLES[sink], (Statement(sink, sql.format(round_)),))
            try:
                await plan(planner, job, "0", with_plan=round_ % 2 == 0)
            except InvalidJob as error:
                logger.error("the planner's warm-up is refused: %s", error)
                return


_EVENTS = Table(
    "events",
    Role.SOURCE,
    KafkaSource("localhost:9092", "events", "warm-up"),
    (Column("k", "STRING"), Column("v", "DOUBLE"), Column("ts", "TIMESTAMP(3)")),
    watermark=Watermark("ts"),
)
_NAMES = Table(
    "names",
    Role.SIDE,
    JdbcLookup(JdbcConnection("jdbc:postgresql://localhost/x", "names", "x", Secret("x"))),
    (Column("k", "STRING"), Column("name", "STRING")),
    join_key=("k",),
)
_KAFKA = KafkaSink("localhost:9092", "features")
_WARM_UP_TABLES = {
    "filtered": (
        _EVENTS,
        Table("filtered", Role.SINK, _KAFKA, (Column("k", "STRING"), Column("v", "DOUBLE"))),
    ),
    "windowed": (
        _EVENTS,
        Table(
            "windowed",
            Role.SINK,
            _KAFKA,
            (Column("k", "STRING"), Column("start", "TIMESTAMP(3)"), Column("n", "BIGINT"), Column("mean", "DOUBLE")),
        ),
    ),
    "enriched": (
        _EVENTS,
        _NAMES,
        Table("enriched", Role.SINK, _KAFKA, (Column("name", "STRING"), Column("n", "BIGINT")), ("name",)),
    ),
}
_WARM_UP = {
    "filtered": "SELECT k, v FROM events WHERE v > {}",
    "windowed": (
        "SELECT k, window_start, COUNT(*), AVG(v) FROM TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR) "
        "WHERE v > {} GROUP BY k, window_start, window_end"
    ),
    "enriched": (
        "SELECT COALESCE(n.name, 'none'), COUNT(*) FROM events e LEFT JOIN names n ON e.k = n.k "
        "WHERE e.v > {} GROUP BY COALESCE(n.name, 'none')"
    ),
}
