"""Routes of 集群管理 (``/cluster``) and 总览 (``/dashboard/clusterInfo``)."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request

from app.errors import InvalidInput, Problem
from app.hlink.clusters import login
from app.hlink.clusters import service as clusters
from app.hlink.clusters.models import Cluster
from app.hlink.clusters.service import Sight
from app.hlink.requests import body_as
from app.hlink.wire import (
    Answer,
    ClusterAddition,
    ClusterAdditionBody,
    ClusterChange,
    ClusterChangeBody,
    ClusterChoiceQuery,
    ClusterEntity,
    ClusterOverview,
    ClusterQuery,
    ClusterView,
    Page,
)
from app.service import ReadSession, TheService, WriteSession
from app.wire import Wire
from stream_jobs import rest
from stream_jobs.rest import Clusters

CONNECTIONS = "hlink.flink"
"""The part of the service that holds the connections to Flink's REST API (:class:`~stream_jobs.rest.Clusters`)."""

Body = TypeVar("Body", bound=Wire)

router = APIRouter(tags=["集群管理"])
dashboard = APIRouter(tags=["总览"])


def _with_body(model: type[Wire]) -> dict[str, Any]:
    return {
        "requestBody": {
            "description": "The same fields as the query's, which goes first; a login in the body only.",
            "content": {
                kind: {"schema": model.model_json_schema()}
                for kind in ("application/json", "application/x-www-form-urlencoded")
            },
        }
    }


def connections(service: TheService) -> Clusters:
    known: Clusters = service.parts[CONNECTIONS]
    return known


Connections = Annotated[Clusters, Depends(connections)]


@router.post("/cluster/add", openapi_extra=_with_body(ClusterAdditionBody))
async def add(
    request: Request,
    service: TheService,
    flink: Connections,
    query: Annotated[ClusterAddition, Query()],
) -> Answer[dict[str, Any]]:
    """集群添加: the cluster is asked first, and refused when it is not a Flink that answers."""
    wanted = _merged(await body_as(request, ClusterAdditionBody), query)
    cluster, figures = await clusters.add(service.database, flink, wanted)
    return Answer(data={"id": cluster.id, "address": cluster.address, "flinkVersion": figures.flink_version})


@router.put("/cluster/update", openapi_extra=_with_body(ClusterChangeBody))
async def change(
    request: Request,
    service: TheService,
    flink: Connections,
    query: Annotated[ClusterChange, Query()],
) -> Answer[dict[str, Any]]:
    """集群修改: what is not given stays; another address or login is tried first."""
    wanted = _merged(await body_as(request, ClusterChangeBody), query)
    if not wanted.id:
        raise InvalidInput(Problem("it is not said which cluster", field="id", remedy="take one from /cluster/list"))
    cluster = await clusters.change(service.database, flink, clusters.parse_id(wanted.id, "id"), wanted)
    return Answer(data={"id": cluster.id, "name": cluster.name, "address": cluster.address})


@router.delete("/cluster/delete")
async def remove(session: WriteSession, cluster_id: Annotated[str, Query(alias="id")]) -> Answer[dict[str, Any]]:
    """集群删除: refused while jobs use it or run on it; the refusal names them."""
    cluster = await clusters.remove(session, clusters.parse_id(cluster_id, "id"))
    return Answer(data={"id": cluster.id, "name": cluster.name})


def _merged(body: Body, query: Wire) -> Body:
    """The body with what the query gives put over it; empty text in a query is "not given"."""
    return body.model_copy(update={name: value for name, value in query if value})


@router.get("/cluster/list")
async def page(session: ReadSession, query: Annotated[ClusterQuery, Query()]) -> Answer[Page[ClusterEntity]]:
    """集群列表分页查询."""
    rows, total = await clusters.page(session, query)
    return Answer(data=Page.of([_entity(row) for row in rows], total, query))


@router.get("/cluster/check/list")
async def choices(session: ReadSession, query: Annotated[ClusterChoiceQuery, Query()]) -> Answer[list[ClusterEntity]]:
    """集群下拉列表查询: the enabled clusters, without paging."""
    return Answer(data=[_entity(row) for row in await clusters.choices(session, query)])


@router.get("/cluster/info")
async def info(
    service: TheService, flink: Connections, cluster_id: Annotated[str, Query(alias="clusterId")]
) -> Answer[ClusterView]:
    """单个集群详细信息查询: live figures, or the last known ones with their age."""
    async with service.database.read() as session:
        cluster = await clusters.find(session, clusters.parse_id(cluster_id))
    (sight,) = await clusters.look_at(service.database, flink, [cluster])
    return Answer(data=_view(sight), msg=_staleness([sight]))


@dashboard.get("/dashboard/clusterInfo")
async def overview(
    service: TheService, flink: Connections, cluster_id: Annotated[str | None, Query(alias="clusterId")] = None
) -> Answer[ClusterOverview]:
    """集群总览接口: one cluster, or the sum of all enabled ones."""
    async with service.database.read() as session:
        if cluster_id and cluster_id.strip():
            wanted = [await clusters.find(session, clusters.parse_id(cluster_id))]
        else:
            wanted = list(await clusters.enabled(session))
    sights = await clusters.look_at(service.database, flink, wanted)
    return Answer(data=_sum(sights), msg=_staleness(sights))


def _entity(row: Cluster) -> ClusterEntity:
    return ClusterEntity(
        id=row.id,
        name=row.name,
        address=row.address,
        type=row.type,
        remark=row.remark,
        state=row.del_flag,
        created_by=row.create_by,
        created_at=row.create_time,
        modified_by=row.modify_by,
        modified_at=row.modify_time,
        **login.shown(row.login),
    )


def _view(sight: Sight) -> ClusterView:
    figures = sight.figures
    return ClusterView(
        **_entity(sight.cluster).model_dump(),
        reachable=sight.reachable,
        observed_at=sight.observed_at,
        age_ms=sight.age_ms,
        **(
            figures.model_dump(include=set(ClusterView.model_fields)) | {"slots_running": figures.slots_running}
            if figures
            else {}
        ),
    )


_SUMMED = (
    "task_managers",
    "slots_total",
    "slots_available",
    "jobs_running",
    "jobs_finished",
    "jobs_canceled",
    "jobs_failed",
)


def _sum(sights: list[Sight]) -> ClusterOverview:
    seen: list[rest.ClusterOverview] = [sight.figures for sight in sights if sight.figures]
    oldest = min(sights, key=lambda sight: sight.observed_at or 0, default=None)
    return ClusterOverview(
        flink_version=", ".join(sorted({figures.flink_version for figures in seen})),
        flink_commit=", ".join(sorted({figures.flink_commit for figures in seen})),
        reachable=all(sight.reachable for sight in sights) if sights else None,
        observed_at=oldest.observed_at if oldest else None,
        age_ms=oldest.age_ms if oldest else None,
        unreachable=[sight.cluster.name for sight in sights if not sight.reachable],
        **{name: sum(getattr(figures, name) for figures in seen) for name in _SUMMED},
    )


def _staleness(sights: list[Sight]) -> str:
    """What a reader should know of clusters that did not answer; empty when all did."""
    notes = []
    for sight in sights:
        if not sight.reachable:
            known = (
                "and never gave any figures"
                if sight.age_ms is None
                else f"and its figures are {sight.age_ms / 1000:.0f} s old"
            )
            notes.append(f"{sight.cluster.name} at {sight.cluster.address} does not answer, {known}")
    return "; ".join(notes)
