"""The rules of clusters: which may be added, what is shown of one that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database, now_ms
from app.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from app.filters import containing, equal, within
from app.hlink.clusters import login as login_of
from app.hlink.clusters.address import normalised
from app.hlink.clusters.models import (
    DELETED,
    LONGEST_ADDRESS,
    LONGEST_NAME,
    LONGEST_REMARK,
    ON,
    Cluster,
)
from app.hlink.jobs.models import StoredJob
from app.hlink.wire import ClusterAdditionBody, ClusterChangeBody, ClusterChoiceQuery, ClusterQuery
from app.supervisor import Run
from stream_jobs.rest import (
    ClusterError,
    ClusterOverview,
    Clusters,
    ClusterUnreachable,
    FlinkRestError,
    LoginRefused,
)

STANDALONE = {"0": 0, "1": 1}
"""Dictionary ``cluster_type`` says 1, the API's job view says "0-standalone": both are accepted."""
_CHANGEABLE = ("name", "address", "remark", "login")
_SHOWN = 20
_NOT_SERVED = {"2": " (YARN)", "3": " (YARN per job)"}


@dataclass(frozen=True, slots=True)
class Sight:
    """A cluster and what is known of it: just now (``reachable``), or ``age_ms`` ago; ``figures`` None: never seen."""

    cluster: Cluster
    figures: ClusterOverview | None
    reachable: bool
    observed_at: int | None
    age_ms: int | None


async def add(database: Database, flink: Clusters, wanted: ClusterAdditionBody) -> tuple[Cluster, ClusterOverview]:
    """Take a cluster in, after it has answered.

    Raises :class:`~app.errors.InvalidInput` for what cannot be a cluster, :class:`~app.errors.Conflict` for a name
    or address that is taken, :class:`~app.errors.Unavailable` when nothing answers at the address.
    """
    kind = (wanted.type or "").strip()
    cluster = Cluster(name=(wanted.name or "").strip(), address="", type=0, remark=wanted.remark or "")
    problems = [
        *_text_problems(cluster),
        *_apply_login(cluster, wanted),
        *_apply_address(cluster, wanted.address or ""),
    ]
    if kind not in STANDALONE:
        what = f"'{kind}'{_NOT_SERVED.get(kind, '')} is not a type of cluster that jobs run on here"
        problems.append(
            Problem(what if kind else "the type is missing", field="type", remedy="use 1, a standalone cluster")
        )
    if problems:
        raise InvalidInput(*problems)
    cluster.type = STANDALONE[kind]
    async with database.read() as session:
        await _refuse_duplicate(session, cluster)
    # Asked outside of any transaction: a slow cluster must not keep other writers waiting.
    figures = await _tried(flink, cluster)
    cluster.overview = figures.model_dump()
    try:
        async with database.write() as session:
            cluster.observed_at = (await session.exec(select(now_ms()))).one()
            session.add(cluster)
    except IntegrityError:  # somebody else added it while we asked
        async with database.read() as session:
            await _refuse_duplicate(session, cluster)
        raise
    return cluster, figures


async def change(database: Database, flink: Clusters, cluster_id: int, wanted: ClusterChangeBody) -> Cluster:
    """Modify a cluster: what is not given stays. Another address or login is tried before it is kept.

    Raises :class:`~app.errors.InvalidInput`, :class:`~app.errors.Unavailable` as :func:`add` does, and
    :class:`~app.errors.Conflict` also for another address while jobs run: they are watched at the one they run at.
    """
    async with database.read() as session:
        cluster = await find(session, cluster_id)
        session.expunge(cluster)
        before = {name: getattr(cluster, name) for name in _CHANGEABLE}
        _apply(cluster, wanted)
        changes = {name: value for name in _CHANGEABLE if (value := getattr(cluster, name)) != before[name]}
        await _refuse_duplicate(session, cluster)
        if "address" in changes:
            await _refuse_to_move(session, cluster, before["address"])
    if "address" in changes or "login" in changes:
        changes["overview"] = (await _tried(flink, cluster)).model_dump()
    try:
        async with database.write() as session:
            kept = await find(session, cluster_id)
            if "address" in changes:
                await _refuse_to_move(session, cluster, before["address"])
            if "overview" in changes:
                changes["observed_at"] = (await session.exec(select(now_ms()))).one()
            kept.sqlmodel_update(changes)
            session.add(kept)
    except IntegrityError:  # somebody else took the name or the address while we asked
        async with database.read() as session:
            await _refuse_duplicate(session, cluster)
        raise
    return kept


async def remove(session: AsyncSession, cluster_id: int) -> Cluster:
    """Delete a cluster that no job uses; its login is forgotten.

    Raises :class:`~app.errors.NotFound`, and :class:`~app.errors.Conflict` naming the jobs that use it or run on it.
    """
    cluster = await find(session, cluster_id)
    uses = (StoredJob.cluster_id == cluster_id, StoredJob.del_flag == 1)
    names = (await session.exec(select(StoredJob.name).where(*uses).order_by(col(StoredJob.name)))).all()
    using = sorted({*names, *await _running_jobs(session, cluster.address)})
    if using:
        shown = ", ".join(using[:_SHOWN]) + (f" and {len(using) - _SHOWN} more" if len(using) > _SHOWN else "")
        raise Conflict(f"Cluster '{cluster.name}' is used by {shown}: stop and delete them, or move them, first")
    cluster.del_flag, cluster.login = DELETED, None
    session.add(cluster)
    return cluster


async def authorization(session: AsyncSession, address: str) -> str | None:
    """The header ``Authorization`` that the cluster at this address is sent."""
    wanted = select(Cluster.login).where(Cluster.address == address, col(Cluster.del_flag) != DELETED)
    return login_of.header((await session.exec(wanted)).first())


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


async def look_at(database: Database, flink: Clusters, clusters: Sequence[Cluster]) -> list[Sight]:
    """Ask the clusters, all at once, and keep what they say. One that does not answer keeps its last figures."""
    answers = await asyncio.gather(*(_ask(flink, cluster) for cluster in clusters))
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
            ClusterOverview.model_validate(cluster.overview) if cluster.overview else None,
            False,
            cluster.observed_at,
            None if cluster.observed_at is None else max(now - cluster.observed_at, 0),
        )
        for cluster, answer in zip(clusters, answers, strict=True)
    ]


async def enabled(session: AsyncSession) -> Sequence[Cluster]:
    """The clusters that are on."""
    return (await session.exec(select(Cluster).where(col(Cluster.del_flag) == ON).order_by(col(Cluster.id)))).all()


def parse_id(text: str, field: str = "clusterId") -> int:
    """A cluster's id from the text that the document has it as. Raises :class:`~app.errors.InvalidInput`."""
    if not text.strip().isdecimal() or len(text.strip()) > 18:
        raise InvalidInput(
            Problem(f"'{text}' is not the id of a cluster", field=field, remedy="take one from /cluster/list")
        )
    return int(text)


def _text_problems(cluster: Cluster) -> Iterator[Problem]:
    if not cluster.name:
        yield Problem("the cluster has no name", field="name", remedy="give it one")
    for field, text, longest in (("name", cluster.name, LONGEST_NAME), ("remark", cluster.remark, LONGEST_REMARK)):
        if len(text) > longest:
            yield Problem(f"it has {len(text)} characters", field=field, remedy=f"use at most {longest} characters")


def _apply_address(cluster: Cluster, text: str) -> Sequence[Problem]:
    try:
        cluster.address = normalised(text)
    except InvalidInput as error:
        return error.problems
    if len(cluster.address) > LONGEST_ADDRESS:
        return [Problem("the address is too long", field="address", remedy=f"at most {LONGEST_ADDRESS}")]
    return []


def _apply_login(cluster: Cluster, wanted: ClusterAdditionBody | ClusterChangeBody) -> Sequence[Problem]:
    login, problems = login_of.read(wanted.model_dump(), cluster.login or {})
    cluster.login = login or None
    return problems


def _apply(cluster: Cluster, wanted: ClusterChangeBody) -> None:
    """What is given put into the cluster. Raises :class:`~app.errors.InvalidInput`."""
    before = cluster.address
    cluster.name = (wanted.name or "").strip() or cluster.name
    cluster.remark = cluster.remark if wanted.remark is None else wanted.remark
    problems = [*_text_problems(cluster), *_apply_login(cluster, wanted)]
    if wanted.address:
        problems += _apply_address(cluster, wanted.address)
    if cluster.address != before and cluster.login and not login_of.gives_secret(wanted.model_dump()):
        problems.append(
            Problem(
                "another address is not sent the login of the old one",
                field="token" if "token" in cluster.login else "password",
                remedy="give the login anew, or empty to have none",
            )
        )
    if problems:
        raise InvalidInput(*problems)


async def _refuse_to_move(session: AsyncSession, cluster: Cluster, address: str) -> None:
    if running := await _running_jobs(session, address):
        raise Conflict(f"Cluster '{cluster.name}' cannot move while jobs run on it: stop {', '.join(running)} first")


async def _tried(flink: Clusters, cluster: Cluster) -> ClusterOverview:
    """What a cluster that is to be kept says of itself.

    Raises :class:`~app.errors.Unavailable` when nothing answers in time, and :class:`~app.errors.InvalidInput` when
    it does not let us in, or is not Flink.
    """
    address = cluster.address
    try:
        async with flink.trial(address, login_of.header(cluster.login)) as tried:
            return await tried.overview()
    except ClusterUnreachable as error:
        raise Unavailable(
            f"No Flink cluster answers at {address} ({error.cause}): "
            "start the cluster, or correct host and port of its REST API (usually 8081)"
        ) from error
    except LoginRefused as error:
        what = "refuses the login" if cluster.login else "asks for a login"
        raise InvalidInput(
            Problem(
                f"what answers at {address} {what} (HTTP {error.status})",
                field="token" if "token" in (cluster.login or {}) else "password",
                remedy="give username and password, or token, of the proxy before the cluster",
            )
        ) from error
    except ClusterError as error:
        raise InvalidInput(
            Problem(
                f"what answers at {address} is not Flink's REST API (GET /overview: HTTP {error.status})",
                field="address",
                remedy="give the address of Flink's REST API, usually on port 8081",
            )
        ) from error


async def _ask(flink: Clusters, cluster: Cluster) -> ClusterOverview | None:
    try:
        return await flink.at(cluster.address).overview()
    except FlinkRestError:
        return None


async def _running_jobs(session: AsyncSession, address: str) -> Sequence[str]:
    """The names of the jobs, deleted ones too, with a run on the cluster at this address that has not ended."""
    here = col(Run.spec)["flink_url"].as_string() == address
    subjects = (await session.exec(select(Run.subject).where(col(Run.ended_at).is_(None), here))).all()
    jobs = select(StoredJob.name).where(col(StoredJob.id).in_([int(one.rpartition(":")[2]) for one in subjects]))
    return sorted((await session.exec(jobs)).all())


async def _refuse_duplicate(session: AsyncSession, wanted: Cluster) -> None:
    others = select(Cluster).where(col(Cluster.del_flag) != DELETED, col(Cluster.id) != wanted.id)
    same_name = (await session.exec(others.where(col(Cluster.name) == wanted.name))).first()
    if same_name is not None:
        raise Conflict(f"There is a cluster named '{wanted.name}' already, at {same_name.address}: choose another name")
    same_address = (await session.exec(others.where(col(Cluster.address) == wanted.address))).first()
    if same_address is not None:
        raise Conflict(f"The cluster at {wanted.address} is there already, as '{same_address.name}': use that one")


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
    overview = ClusterOverview.model_validate(cluster.overview)
    return all(getattr(overview, name) == value for name, value in figures.items())
