"""The Hlink API as a family: its routes, how it tells of errors, and what lives while the service runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from app.access.roles import Need, Role
from app.hlink import planner
from app.hlink.answers import envelope
from app.hlink.audit import routes as audit
from app.hlink.clusters import routes as clusters
from app.hlink.clusters.service import authorization
from app.hlink.connections import PART as OUTSIDE
from app.hlink.connections import Connections
from app.hlink.dictionaries import routes as dictionaries
from app.hlink.docs import routes as docs
from app.hlink.files import routes as files
from app.hlink.functions import deployed
from app.hlink.functions import routes as functions
from app.hlink.jars import routes as jars
from app.hlink.jobs import routes as jobs
from app.hlink.jobs import state_routes
from app.hlink.jobs.origin import named_by_a_job
from app.hlink.jobs.recovery import LeftStates
from app.hlink.jobs.service import KIND
from app.hlink.jobs.submission import JarSubmitter, JobSubmitter, PlanSubmitter
from app.hlink.notifications import routes as notifications
from app.hlink.notifications import service as notifying
from app.hlink.notifications.judge import Judge
from app.hlink.schemas import routes as schemas
from app.hlink.tables import routes as tables
from app.hlink.watch.collector import Collector
from app.service import MODEL_FUNCTIONS, Family, Service
from app.supervisor.runners.flink import FlinkRunner
from app.uploads import Files
from stream_jobs.planner.preview import Previewer
from stream_jobs.rest import Clusters


def connected(service: Service) -> Clusters:
    """The connections to all clusters, which log in as the clusters' records say."""

    async def login(address: str) -> str | None:
        async with service.database.read() as session:
            return await authorization(session, address)

    return Clusters(service.settings.flink_timeout_s, login)


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        outside = service.parts[OUTSIDE] = Connections()
        stack.push_async_callback(outside.close)
        known = service.parts[clusters.CONNECTIONS] = connected(service)
        stack.push_async_callback(known.close)
        resident = await stack.enter_async_context(planner.running(service))
        previewer = service.parts[jobs.PREVIEWER] = Previewer(resident.config)
        stack.push_async_callback(previewer.close)
        service.parts[MODEL_FUNCTIONS] = partial(deployed.deploy, functions.workshop(service))
        settings = service.settings
        submitter = JobSubmitter(
            PlanSubmitter(service.database, resident, known),
            JarSubmitter(service.database, resident, known, Files.of(settings), settings.planner_timeout_s),
            LeftStates(service.database, resident, known),
        )
        service.supervisor.register(KIND, FlinkRunner(submitter, known))
        service.supervisor.retention.guard(named_by_a_job)
        await stack.enter_async_context(notifying.running(service))
        collector = Collector(service, known, Judge(service.database, settings))
        await stack.enter_async_context(collector.running())
        yield


family = Family(
    name="hlink",
    routers=(
        clusters.router,
        clusters.dashboard,
        tables.router,
        schemas.router,
        functions.router,
        jobs.router,
        state_routes.router,
        jars.router,
        files.router,
        dictionaries.router,
        docs.router,
        audit.router,
        notifications.router,
    ),
    prefixes=("/jobs", "/dict", "/dashboard", "/ds", "/file", "/jars", "/doc", "/cluster", "/audit", "/notifications"),
    envelope=envelope,
    lifespan=lifespan,
    needs={
        "POST /cluster/add": Need(Role.ADMIN),
        "PUT /cluster/update": Need(Role.ADMIN),
        "DELETE /cluster/delete": Need(Role.ADMIN),
        "POST /notifications": Need(Role.ADMIN),
        "PUT /notifications/{id}": Need(Role.ADMIN),
        "DELETE /notifications/{id}": Need(Role.ADMIN),
        "POST /notifications/{id}/test": Need(Role.ADMIN),
        "GET /audit": Need(Role.ADMIN, audited=False),
        # A GET that changes something, and POSTs that do not, as they are published.
        "GET /jobs/savepoint/{jobId}": Need(Role.EDITOR),
        "POST /jobs/validate": Need(Role.EDITOR, audited=False),
        "POST /ds/schemaAnalysisDO": Need(Role.EDITOR, audited=False),
        "POST /ds/schemaInferDO": Need(Role.EDITOR, audited=False),
        "POST /ds/test": Need(Role.EDITOR, audited=False),
        "POST /jobs/impact": Need(Role.EDITOR, audited=False),
        "POST /jobs/preview": Need(Role.EDITOR, audited=False),
    },
)
