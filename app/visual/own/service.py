"""The rules of components of somebody's own: taken in by version, offered beside the others, kept while in use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.errors import Conflict, Forbidden, NotFound
from app.filters import containing
from app.service import Service
from app.settings import Settings
from app.uploads import Files
from app.visual.catalogue import Catalogue, Component, Framework, catalogue
from app.visual.jobs.models import GraphNode, VisualJob
from app.visual.own.declaration import check_file
from app.visual.own.models import OwnComponent
from app.visual.own.wire import FILE, OwnQuery

FRAMEWORK = Framework.SKLEARN
"""What they are made with: tables are pandas' frames, models scikit-learn's estimators."""


@dataclass(frozen=True, slots=True)
class OwnCode:
    """The file of a node's component."""

    path: Path
    name: str
    """What its owner called it."""
    sha256: str


async def upload(service: Service, request: Request) -> OwnComponent:
    """Take in a component. One that is there gets a new version, which the next runs take, unless the file is the same.

    Raises:
        Forbidden: uploads are switched off.
        InvalidInput: the file declares no component.
        Conflict: somebody else has uploaded it in the same moment.
    """
    if not service.settings.visual_own_components:
        raise Forbidden("This service takes no components in: HLINK_VISUAL_OWN_COMPONENTS is off")
    sent = await Files.of(service.settings).receive(request, FILE, check_file)
    declared = sent.found
    try:
        async with service.database.write() as session:
            query = _kept().where(OwnComponent.uuid == declared.uuid)
            before = (await session.exec(query.with_for_update())).first()
            if before is not None and before.sha256 == sent.file.sha256:
                return before
            last = select(func.max(OwnComponent.number)).where(OwnComponent.uuid == declared.uuid)
            if before is not None:
                before.del_flag = 0
                session.add(before)
                await session.flush()
            made = OwnComponent(
                uuid=declared.uuid,
                number=((await session.exec(last)).one() or 0) + 1,
                file_name=sent.file.name,
                sha256=sent.file.sha256,
                size=sent.file.size,
                declared=declared.model_dump(mode="json", by_alias=True, exclude={"own"}),
            )
            session.add(made)
    except IntegrityError:
        raise Conflict(f"Somebody else has just uploaded {declared.uuid}: look at it, and upload yours again") from None
    return made


async def remove(session: AsyncSession, uuid: str) -> None:
    """Take a component out of use.

    Raises:
        NotFound, Conflict: there is none; jobs use it, which are named.
    """
    found = await find(session, uuid, held=True)
    users = await session.exec(
        select(VisualJob.id)
        .join(GraphNode, col(GraphNode.job_id) == VisualJob.id)
        .where(GraphNode.component == uuid, VisualJob.del_flag == 1)
        .distinct()
        .order_by(col(VisualJob.id))
        .limit(_MOST_NAMED)
    )
    if jobs := users.all():
        raise Conflict(
            f"{uuid} is used by the jobs {', '.join(map(str, jobs))}: take it out of them first", jobs=list(jobs)
        )
    found.del_flag = 0
    session.add(found)


_MOST_NAMED = 20


async def find(session: AsyncSession, uuid: str, *, held: bool = False) -> OwnComponent:
    """The version that is in use. Raises ``NotFound``."""
    query = _kept().where(OwnComponent.uuid == uuid)
    found = (await session.exec(query.with_for_update() if held else query)).first()
    if found is None:
        raise NotFound(f"There is no component '{uuid[:100]}' of anybody's own: /visualmodule/component/own lists them")
    return found


async def page(session: AsyncSession, query: OwnQuery) -> tuple[Sequence[OwnComponent], int]:
    """One page of the components, by name, and how many there are."""
    wanted: list[ColumnElement[bool]] = [col(OwnComponent.del_flag) == 1, *containing(OwnComponent.uuid, query.name)]
    total = (await session.exec(select(func.count()).select_from(OwnComponent).where(*wanted))).one()
    rows = select(OwnComponent).where(*wanted).order_by(col(OwnComponent.uuid))
    return (await session.exec(rows.offset(query.offset).limit(query.size))).all(), total


async def known(session: AsyncSession, framework: Framework) -> Catalogue:
    """All components that graphs of a framework may have: ours, and people's own."""
    ours = catalogue(framework)
    if framework is not FRAMEWORK:
        return ours
    rows = await session.exec(_kept().order_by(col(OwnComponent.uuid)))
    return Catalogue(ours.stages, [*ours.components, *(row.component for row in rows)])


async def component(session: AsyncSession, framework: Framework, uuid: str) -> Component | None:
    """One of :func:`known`."""
    if (ours := catalogue(framework).find(uuid)) is not None or framework is not FRAMEWORK:
        return ours
    row = (await session.exec(_kept().where(OwnComponent.uuid == uuid))).first()
    return row.component if row is not None else None


def code_of(settings: Settings, components: Mapping[int, Component]) -> dict[int, OwnCode]:
    """Node -> the file of its component, where that is somebody's own. Looks for files: call it in a thread.

    Raises ``NotFound`` where one is gone.
    """
    files = Files.of(settings)
    return {
        node: OwnCode(files.path(one.own.sha256, one.own.name), one.own.name, one.own.sha256)
        for node, one in components.items()
        if one.own is not None
    }


async def source(settings: Settings, row: OwnComponent) -> Path:
    """The file of a component. Raises ``NotFound`` where it is gone."""
    return await asyncio.to_thread(Files.of(settings).path, row.sha256, row.file_name)


def _kept() -> SelectOfScalar[OwnComponent]:
    return select(OwnComponent).where(OwnComponent.del_flag == 1)
