"""The service: families mounted on one application, with the supervisor beneath them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from app import errors, metrics
from app.access import audit
from app.access.tokens import Tokens
from app.database import Database
from app.encryption import unlock
from app.errors import HlinkError
from app.ids import NodeLease
from app.migrations import migrate
from app.security import require_access
from app.service import Family, Health, Service, TheService, load_families
from app.settings import Settings
from app.settings import settings as process_settings
from app.supervisor import Pace, Retained, State, Supervisor
from app.supervisor.recovery import Budget
from app.supervisor.store import census

LARGEST_BODY = 16 * 1024 * 1024
"""Bytes of a request. Uploads, which go to disk piece by piece, have a limit of their own."""
HEALTH_TIMEOUT_S = 3.0


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Building it touches neither disk nor network; its lifespan migrates and starts everything."""
    settings = settings or process_settings()
    families = load_families()

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        configure_logging(settings)
        async with running_service(settings, families) as service:
            api.state.service = service
            yield

    api = FastAPI(
        title="hlink",
        summary="Real-time feature processing on Flink",
        lifespan=lifespan,
        max_body_size=LARGEST_BODY,
        # The published operations are told apart by their paths, not by the names of our functions.
        generate_unique_id_function=lambda route: f"{'_'.join(sorted(route.methods or ()))} {route.path_format}",
    )
    api.state.settings = settings
    api.state.needs = {route: need for family in families for route, need in family.needs.items()}
    api.add_middleware(audit.AuditTrail)
    api.add_middleware(metrics.HttpLatency)
    for family in families:
        for router in family.routers:
            api.include_router(router, dependencies=[Depends(require_access)])
    errors.install(api, {prefix: family.envelope for family in families for prefix in family.prefixes})
    api.add_api_route("/health", health, methods=["GET"], tags=["operation"])
    api.add_api_route(
        "/metrics",
        prometheus,
        methods=["GET"],
        tags=["operation"],
        dependencies=[Depends(require_access)],
        response_class=PlainTextResponse,
    )
    return api


@asynccontextmanager
async def running_service(settings: Settings, families: list[Family]) -> AsyncIterator[Service]:
    """Everything that lives while the service runs; left in the opposite order: ticks first, the database last."""
    async with AsyncExitStack() as stack:
        settings.home.mkdir(parents=True, exist_ok=True)
        unlock(settings)
        database = Database(settings.database())
        stack.push_async_callback(database.close)
        await migrate(database)

        await stack.enter_async_context(NodeLease(database).held())

        await stack.enter_async_context(audit.kept_for(database, settings.audit_days))

        retained = Retained(settings.savepoints_kept, settings.savepoint_days)
        supervisor = Supervisor(database, replica_name(), pace_of(settings), retained, settings.machine)
        service = Service(settings, database, supervisor, Tokens(database, settings.api_token))
        service.health["database"] = _database_health(database)
        service.health["supervisor"] = _supervisor_health(supervisor)
        for family in families:
            if family.lifespan is not None:
                await stack.enter_async_context(family.lifespan(service))
        await supervisor.start()
        stack.push_async_callback(supervisor.stop)
        yield service


def replica_name() -> str:
    """Names this process in leases and events; never the same twice."""
    return f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"


def pace_of(settings: Settings) -> Pace:
    return Pace(
        tick_s=settings.tick_s,
        lease_s=settings.lease_s,
        lost_after_s=settings.lost_after_s,
        grace_s=settings.planner_timeout_s,
        look_s=2 * settings.flink_timeout_s,
        stop_s=settings.stop_s,
        retention_s=settings.retention_s,
        submissions=settings.submissions,
        recovery=Budget(
            settings.recoveries, settings.recovery_window_s, settings.recovery_pause_s, settings.planner_timeout_s
        ),
    )


async def health(service: TheService) -> Response:
    """How each part is. 200 while the service itself works (database and supervisor), else 503.

    A cluster that is down does not make the service unhealthy: it is shown, and the runs' last observation stands.
    """
    parts = dict(zip(service.health, await asyncio.gather(*map(_checked, service.health.values())), strict=True))
    alive = all(parts[name].ok for name in ("database", "supervisor"))
    body = {
        "status": "ok" if all(part.ok for part in parts.values()) else "degraded" if alive else "failing",
        "parts": {
            name: {"ok": part.ok, "message": part.message, "ageSeconds": part.age_s} for name, part in parts.items()
        },
        "unreachable": service.supervisor.unreachable,
    }
    return JSONResponse(body, status_code=200 if alive else 503)


async def prometheus(service: TheService) -> Response:
    """Prometheus' text format."""
    async with service.database.read() as session:
        runs = await census(session)
    for state in State:
        metrics.RUNS.labels(state).set(runs.by_state.get(state, 0))
    metrics.OBSERVATION_AGE.set(runs.oldest_observation_s)
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _checked(check: Any) -> Health:
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            answer: Health = await check()
    except (TimeoutError, SQLAlchemyError, HlinkError, OSError) as error:
        return Health(False, f"{type(error).__name__}: no answer")
    return answer


def _database_health(database: Database) -> Any:
    async def check() -> Health:
        await database.ping()
        return Health(True, database.url.get_backend_name())

    return check


def _supervisor_health(supervisor: Supervisor) -> Any:
    async def check() -> Health:
        age = supervisor.tick_age_s
        if age is None:
            return Health(False, "it has not ticked yet")
        late = age > max(5 * supervisor.pace.tick_s, supervisor.pace.lease_s)
        return Health(not late, "its ticks do not end" if late else "", round(age, 3))

    return check


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: Mapping[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **({"trace": self.formatException(record.exc_info)} if record.exc_info else {}),
        }
        return json.dumps(line, ensure_ascii=False)


def configure_logging(settings: Settings) -> None:
    """Logs go to standard error, readable or as JSON lines; uvicorn's go the same way."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonLines()
        if settings.log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # httpx, urllib3 and apprise log addresses, which may hold passwords; the others are chatty.
    for name in ("httpx", "httpcore", "urllib3", "apprise", "alembic", "aiosqlite", "kafka"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", *(("uvicorn.access",) if settings.log_level == "DEBUG" else ())):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
