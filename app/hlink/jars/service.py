"""The rules of jars: taken in once, brought to a cluster when it lacks them, kept while a job uses them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from fastapi import Request
from sqlalchemy import ColumnElement, func, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database
from app.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from app.filters import containing, equal, within
from app.hlink.clusters import service as clusters
from app.hlink.clusters.models import Cluster as StoredCluster
from app.hlink.jars.archive import check_jar, declared_entry_class
from app.hlink.jars.models import JAR, NO_CLUSTER, StoredJar
from app.hlink.jobs.models import JAR as JAR_JOB
from app.hlink.jobs.models import StoredJob
from app.hlink.wire import JarPageQuery, JarQuery, JarUpload
from app.hlink.wire.jars import FILE
from app.uploads import Files, StoredFile
from stream_jobs.rest import Cluster, Clusters, FlinkRestError

BRING_S = 60.0
"""The longest that bringing a jar to a cluster may take."""


async def upload(database: Database, files: Files, flink: Clusters, request: Request, query: JarUpload) -> StoredJar:
    """Takes a jar in and brings it to its cluster. The same contents for the same cluster are the same jar.

    Raises:
        InvalidInput, NotFound: it is not a jar, or lacks the entry class; no such cluster.
        Unavailable: the cluster did not take it; it is kept here, and a run brings it there.
    """
    if query.kind not in (None, JAR):
        raise InvalidInput(Problem(f"{query.kind} is not possible", field="resType", remedy=f"use {JAR}, a jar"))
    cluster = None
    if query.cluster_id:
        async with database.read() as session:
            cluster = await clusters.find(session, query.cluster_id)
    given = (query.entry_class or "").strip()
    received = await files.receive(request, FILE, lambda path, name: check_jar(path, name, given))
    entry_class = given or await asyncio.to_thread(declared_entry_class, received.file.path)
    jar = await _keep(database, received.file, cluster.id if cluster else NO_CLUSTER, entry_class)
    if cluster is not None:
        try:
            await bring(flink.at(cluster.address), received.file.path, jar.unique_name)
        except FlinkRestError as error:
            raise Unavailable(f"{jar.name} is kept, but cluster {cluster.name!r} did not take it: {error}") from error
        async with database.write() as session:
            await session.exec(
                update(StoredJar)
                .where(col(StoredJar.id) == jar.id)
                .values(on_cluster=True)
                .execution_options(synchronize_session=False)
            )
    return jar


async def bring(cluster: Cluster, file: Path, unique_name: str) -> str:
    """See that the cluster has the file, and return its id there.

    The cluster is asked each time: it may have been restarted and have forgotten. Raises
    :class:`~stream_jobs.rest.FlinkRestError`.
    """
    for known in await cluster.jars():
        if known.name == unique_name:
            return known.id
    return await cluster.upload_jar(file, unique_name, BRING_S)


async def find(session: AsyncSession, named: str) -> StoredJar:
    """The jar that ``useJar`` of a job names: by its id, its unique name, or its own name where only one has it.

    Raises:
        NotFound, InvalidInput: there is none; there are several.
    """
    text = named.strip().rpartition("/")[2]
    kept = (await session.exec(select(StoredJar).where(StoredJar.del_flag == 1))).all()
    found = [jar for jar in kept if text in (str(jar.id), jar.unique_name)] or [j for j in kept if j.name == text]
    if not found:
        raise NotFound(f"There is no jar {named!r}: /jars/list shows those there are")
    if len({jar.sha256 for jar in found}) > 1:
        ids = ", ".join(str(jar.id) for jar in found)
        raise InvalidInput(Problem(f"several jars are called {named!r}", field="useJar", remedy=f"use an id: {ids}"))
    return found[-1]


async def all_of(session: AsyncSession, query: JarQuery) -> Sequence[StoredJar]:
    """The jars that the query lets through, newest first."""
    wanted = [*_conditions(query), *equal(StoredJar.id, query.id), *equal(StoredJar.size, query.file_size)]
    return (await session.exec(select(StoredJar).where(*wanted).order_by(col(StoredJar.id).desc()))).all()


async def page(session: AsyncSession, query: JarPageQuery) -> tuple[Sequence[StoredJar], int]:
    """One page of the jars that the query lets through, newest first, and how many there are."""
    wanted = _conditions(query)
    total = (await session.exec(select(func.count()).select_from(StoredJar).where(*wanted))).one()
    rows = await session.exec(
        select(StoredJar).where(*wanted).order_by(col(StoredJar.id).desc()).offset(query.offset).limit(query.size)
    )
    return rows.all(), total


async def remove(database: Database, flink: Clusters, jar_id: int) -> None:
    """Takes a jar out of use, and away from its cluster when that answers.

    Raises:
        NotFound, Conflict: there is none; a job uses it.
    """
    async with database.write() as session:
        jar = await session.get(StoredJar, jar_id, with_for_update=True)
        if jar is None or jar.del_flag != 1:
            raise NotFound(f"There is no jar {jar_id}: /jars/list shows those there are")
        users = await session.exec(
            select(StoredJob.name).where(
                StoredJob.del_flag == 1,
                StoredJob.kind == JAR_JOB,
                col(StoredJob.settings)["jar"].as_string() == str(jar_id),
            )
        )
        if names := users.all():
            raise Conflict(f"Jar {jar.name!r} is used by {', '.join(names)}: remove the job, or give it another jar")
        jar.del_flag = 0
        cluster = await session.get(StoredCluster, jar.cluster_id)
    if cluster is not None:
        # What is left there does no harm: it is found again when the same contents are uploaded.
        with contextlib.suppress(FlinkRestError):
            at = flink.at(cluster.address)
            for known in await at.jars():
                if known.name == jar.unique_name:
                    await at.delete_jar(known.id)


async def _keep(database: Database, file: StoredFile, cluster_id: int, entry_class: str) -> StoredJar:
    async with database.write() as session:
        same = select(StoredJar).where(
            StoredJar.cluster_id == cluster_id, StoredJar.sha256 == file.sha256, StoredJar.del_flag == 1
        )
        jar = (await session.exec(same)).first()
        if jar is None:
            jar = StoredJar(cluster_id=cluster_id, name=file.name, sha256=file.sha256, size=file.size)
            session.add(jar)
        jar.entry_class = entry_class
    return jar


def _conditions(query: JarPageQuery) -> list[ColumnElement[bool]]:
    return [
        col(StoredJar.del_flag) == 1,
        *equal(StoredJar.cluster_id, query.cluster_id),
        *containing(StoredJar.entry_class, query.entry_class),
        *containing(StoredJar.name, query.name),
        *containing(func.substr(StoredJar.sha256, 1, 16) + "-" + col(StoredJar.name), query.unique_name),
        *equal(StoredJar.kind, query.kind),
        *containing(StoredJar.create_by, query.created_by),
        *within(StoredJar.create_time, query.created_at),
        *containing(StoredJar.modify_by, query.modified_by),
        *within(StoredJar.modify_time, query.modified_at),
    ]
