"""The rules of clusters: which may be added, what is shown of one that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from sqlalchemy import func, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database, now_ms
from app.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from app.hlink.clusters import flink
from app.hlink.clusters.flink import Overview
from app.hlink.clusters.models import (
    DELETED,
    LONGEST_ADDRESS,
    LONGEST_NAME,
    LONGEST_REMARK,
    ON,
    Cluster,
)
from app.hlink.filters import containing, equal, within
from app.hlink.wire import ClusterChoiceQuery, ClusterQuery

STANDALONE = {"0": 0, "1": 1}
"""Dictionary ``cluster_type`` says 1, the API's job view says "0-standalone": both are accepted."""
_NOT_SERVED = {"2": " (YARN)", "3": " (YARN per job)"}


@dataclass(frozen=True, slots=True)
class Sight:
    """A cluster and what is known of it: just now (``reachable``), or ``age_ms`` ago; ``figures`` None: never seen."""

    cluster: Cluster
    figures: Overview | None
    reachable: bool
    observed_at: int | None
    age_ms: int | None


async def add(
    database: Database, connections: httpx.AsyncClient, *, name: str, address: str, type_: str, remark: str
) -> tuple[Cluster, Overview]:
    """Take a cluster in, after it has answered.

    Raises :class:`~app.errors.InvalidInput` for what cannot be a cluster, :class:`~app.errors.Conflict` for a name
    or address that is taken, :class:`~app.errors.Unavailable` when nothing answers at the address.
    """
    name, problems = name.strip(), []
    if not name:
        problems.append(Problem("the cluster has no name", field="name", remedy="give it one"))
    for field, text, longest in (("name", name, LONGEST_NAME), ("remark", remark, LONGEST_REMARK)):
        if len(text) > longest:
            problems.append(
                Problem(f"it has {len(text)} characters", field=field, remedy=f"use at most {longest} characters")
            )
    kind = type_.strip()
    if kind not in STANDALONE:
        what = f"'{kind}'{_NOT_SERVED.get(kind, '')} is not a type of cluster that jobs run on here"
        problems.append(
            Problem(what if kind else "the type is missing", field="type", remedy="use 1, a standalone cluster")
        )
    try:
        address = flink.normalised_address(address)
    except InvalidInput as error:
        problems += error.problems
    if len(address) > LONGEST_ADDRESS:
        problems.append(Problem("the address is too long", field="address", remedy=f"at most {LONGEST_ADDRESS}"))
    if problems:
        raise InvalidInput(*problems)

    async with database.read() as session:
        await _refuse_duplicate(session, name, address)
    # Asked outside of any transaction: a slow cluster must not keep other writers waiting.
    figures = await flink.overview(connections, address)
    cluster = Cluster(name=name, address=address, type=STANDALONE[kind], remark=remark, overview=figures.model_dump())
    try:
        async with database.write() as session:
            cluster.observed_at = (await session.exec(select(now_ms()))).one()
            session.add(cluster)
    except IntegrityError:  # somebody else added it while we asked
        async with database.read() as session:
            await _refuse_duplicate(session, name, address)
        raise
    return cluster, figures


async def find(session: AsyncSession, cluster_id: int) -> Cluster:
    """The cluster of that id. Raises :class:`~app.errors.NotFound`."""
    cluster = await session.get(Cluster, cluster_id)
    if cluster is None or cluster.del_flag == DELETED:
        raise NotFound(f"There is no cluster {cluster_id}: /cluster/list shows those there are")
    return cluster


async def page(session: AsyncSession, query: ClusterQuery) -> tuple[Sequence[Cluster], int]:
    """The clusters that a list's query lets through, newest first: one page of them, and how many there are."""
    wanted = [col(Cluster.del_flag) != DELETED, *_conditions(query)]
    total = (await session.exec(select(func.count()).select_from(Cluster).where(*wanted))).one()
    rows = await session.exec(
        select(Cluster).where(*wanted).order_by(col(Cluster.id).desc()).offset(query.offset).limit(query.size)
    )
    return rows.all(), total


async def choices(session: AsyncSession, query: ClusterChoiceQuery) -> Sequence[Cluster]:
    """The enabled clusters that the query lets through, all of them; figures are compared with the last known."""
    wanted = [col(Cluster.del_flag) == ON, *_conditions(query)]
    wanted += equal(Cluster.id, query.id) + equal(Cluster.del_flag, query.state)
    rows = await session.exec(select(Cluster).where(*wanted).order_by(col(Cluster.id).desc()))
    figures = {
        name: value
        for name in (
            "task_managers",
            "slots_total",
            "slots_available",
            "slots_running",
            "jobs_canceled",
            "jobs_finished",
            "jobs_failed",
        )
        if (value := getattr(query, name)) is not None
    }
    return [row for row in rows if not figures or _has(row, figures)]


async def look_at(database: Database, connections: httpx.AsyncClient, clusters: Sequence[Cluster]) -> list[Sight]:
    """Ask the clusters, all at once, and keep what they say. One that does not answer keeps its last figures."""
    answers = await asyncio.gather(*(_ask(connections, cluster) for cluster in clusters))
    async with database.write() as session:
        now = (await session.exec(select(now_ms()))).one()
        for cluster, answer in zip(clusters, answers, strict=True):
            if answer is not None:
                await session.exec(
                    update(Cluster)
                    .where(col(Cluster.id) == cluster.id)
                    # To be seen is not to be modified.
                    .values(overview=answer.model_dump(), observed_at=now, modify_time=Cluster.modify_time)
                    .execution_options(synchronize_session=False)
                )
    return [
        Sight(cluster, answer, True, now, 0)
        if answer is not None
        else Sight(
            cluster,
            Overview.model_validate(cluster.overview) if cluster.overview else None,
            False,
            cluster.observed_at,
            None if cluster.observed_at is None else max(now - cluster.observed_at, 0),
        )
        for cluster, answer in zip(clusters, answers, strict=True)
    ]


async def enabled(session: AsyncSession) -> Sequence[Cluster]:
    """The clusters that are on."""
    return (await session.exec(select(Cluster).where(col(Cluster.del_flag) == ON).order_by(col(Cluster.id)))).all()


def parse_id(text: str) -> int:
    """A cluster's id from the text that the document has it as. Raises :class:`~app.errors.InvalidInput`."""
    if not text.strip().isdecimal() or len(text.strip()) > 18:
        raise InvalidInput(
            Problem(f"'{text}' is not the id of a cluster", field="clusterId", remedy="take one from /cluster/list")
        )
    return int(text)


async def _ask(connections: httpx.AsyncClient, cluster: Cluster) -> Overview | None:
    try:
        return await flink.overview(connections, cluster.address)
    except (Unavailable, InvalidInput):
        return None


async def _refuse_duplicate(session: AsyncSession, name: str, address: str) -> None:
    kept = col(Cluster.del_flag) != DELETED
    same_name = (await session.exec(select(Cluster).where(kept, col(Cluster.name) == name))).first()
    if same_name is not None:
        raise Conflict(f"There is a cluster named '{name}' already, at {same_name.address}: choose another name")
    same_address = (await session.exec(select(Cluster).where(kept, col(Cluster.address) == address))).first()
    if same_address is not None:
        raise Conflict(f"The cluster at {address} is there already, as '{same_address.name}': use that one")


def _conditions(query: ClusterQuery) -> list:  # type: ignore[type-arg]
    return [
        *containing(Cluster.name, query.name),
        *containing(Cluster.address, query.address),
        *equal(Cluster.type, query.type),
        *containing(Cluster.remark, query.remark),
        *containing(Cluster.create_by, query.created_by),
        *within(Cluster.create_time, query.created_at),
        *containing(Cluster.modify_by, query.modified_by),
        *within(Cluster.modify_time, query.modified_at),
    ]


def _has(cluster: Cluster, figures: dict[str, int]) -> bool:
    if not cluster.overview:
        return False
    overview = Overview.model_validate(cluster.overview)
    return all(getattr(overview, name) == value for name, value in figures.items())
