"""The rules of data sets: made, listed, looked into, emptied and removed; and what an engine reads of one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import ColumnElement, func, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database
from app.errors import InvalidInput, NotFound, Problem
from app.filters import equal
from app.settings import Settings
from app.visual.choices import DataSource, DataType
from app.visual.datasets import csv_rows, presets
from app.visual.datasets.column_types import Column
from app.visual.datasets.contents import READABLE, Contents
from app.visual.datasets.copying import Wanted
from app.visual.datasets.folders import Folders
from app.visual.datasets.models import DataSet, Fragment
from app.visual.datasets.presets import BY_ID, BY_NAME, PRESETS, Preset
from app.visual.datasets.uploads import Uploads, forget_fragments, own
from app.visual.datasets.wire import DataSetQuery, NewCopy, NewDataSet


@dataclass(frozen=True, slots=True)
class Readable:
    """What it takes to read a data set that is whole. The path stays valid while a guard of the uploads needs it."""

    id: int
    name: str
    kind: DataType
    path: Path
    """A CSV file, or a zip archive of images (:func:`app.visual.engine.archives.classes_of`)."""
    encoding: str
    """As Python names it, for a table: what the file at ``path`` is read with."""
    delimiter: str
    header: bool
    """Whether the file's first row has the columns' names."""
    columns: Sequence[Column]
    digest: str
    """Names the contents: ``md5:...`` or ``preset:...``."""
    rows: int | None
    target: str | None = None
    """The column that models of it usually predict, where that is known."""


@dataclass(frozen=True, slots=True)
class CsvRows:
    """A page of a table, and how many rows that has."""

    rows: list[list[str]]
    total: int
    contents: Contents


async def create(database: Database, wanted: NewDataSet) -> int:
    """Make a data set; a preset is there already. Its id.

    Raises:
        InvalidInput: there is no such preset.
    """
    if wanted.source is DataSource.PRESET:
        return _preset(wanted).id
    if wanted.preset:
        raise InvalidInput(
            Problem("a data set of your own has no preset", field="preset", remedy="leave it out, or use dataSource 0")
        )
    async with database.write() as session:
        data_set = DataSet(name=(wanted.name or "").strip(), type=wanted.type)
        session.add(data_set)
    return data_set.id


async def copy(uploads: Uploads, wanted: NewCopy) -> int:
    """Make a data set of rows of a stream job's table. Its id; the rows are copied from then on.

    Raises:
        NotFound, InvalidInput: there is no such table, or its rows cannot be copied so.
    """
    return await uploads.copy(
        (wanted.name or "").strip(),
        Wanted(
            table_id=wanted.table_id,
            from_ms=_milliseconds(wanted.from_time),
            to_ms=_milliseconds(wanted.to_time),
            most_rows=wanted.limit,
            columns=tuple(one.strip() for one in wanted.columns or ()),
            time_column=(wanted.time_column or "").strip(),
        ),
    )


def _milliseconds(moment: datetime | None) -> int | None:
    """Since 1970; without an offset it is UTC."""
    if moment is None:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


async def page(session: AsyncSession, query: DataSetQuery) -> tuple[list[Preset | DataSet], int]:
    """One page of the presets, followed by people's own, newest first; and how many there are."""
    first = _presets_like(query)
    wanted = _conditions(query)
    total = len(first) + (await session.exec(select(func.count()).select_from(DataSet).where(*wanted))).one()
    shown: list[Preset | DataSet] = list(first[query.offset : query.offset + query.size])
    if left := query.size - len(shown):
        rows = await session.exec(
            select(DataSet)
            .where(*wanted)
            .order_by(col(DataSet.id).desc())
            .offset(max(query.offset - len(first), 0))
            .limit(left)
        )
        shown += rows.all()
    return shown, total


async def fragments_of(session: AsyncSession, data_set: DataSet) -> int:
    """How many fragments of what comes in are there."""
    there = select(func.count()).select_from(Fragment).where(Fragment.upload_id == data_set.upload_id)
    return (await session.exec(there)).one()


async def clear(database: Database, uploads: Uploads, data_id: int, upload_only: bool) -> None:
    """Take away a data set's file and what comes in, or the latter only.

    Raises:
        NotFound, Conflict: there is none; it is a preset, or somebody uses it.
    """
    async with database.write() as session:
        data_set = await own(session, data_id, lock=True)
        if not upload_only:
            await uploads.refuse_needed(session, data_id)
            data_set.forget_file()
        await _forget_upload(session, data_set)
    await uploads.forget(data_id)


async def remove(database: Database, uploads: Uploads, data_id: int) -> None:
    """Remove a data set with its file.

    Raises:
        NotFound, Conflict: there is none; it is a preset, or somebody uses it.
    """
    async with database.write() as session:
        data_set = await own(session, data_id, lock=True)
        await uploads.refuse_needed(session, data_id)
        data_set.del_flag = 0
        await _forget_upload(session, data_set)
    await uploads.forget(data_id)


async def csv_page(session: AsyncSession, settings: Settings, data_id: int, offset: int, size: int) -> CsvRows:
    """Rows of a table.

    Raises:
        NotFound, InvalidInput: there is none; it has no whole file yet, or images.
    """
    if preset := BY_ID.get(data_id):
        found = await asyncio.to_thread(presets.prepared, settings, preset)
        path, index, contents = found.path, found.index, found.contents
    else:
        data_set = await _whole(session, data_id)
        if data_set.kind is not DataType.CSV:
            raise InvalidInput(
                Problem(f"data set {data_id} has images, not rows", field="dataId", remedy="ask for one of CSV")
            )
        path, index = _files(settings, data_set)
        contents = data_set.contents
    total = contents.rows or 0
    first = min(offset, total) + contents.header
    rows = await asyncio.to_thread(
        csv_rows.read_page, path, index, contents.read_as, contents.delimiter, first, min(size, max(total - offset, 0))
    )
    return CsvRows(rows, total, contents)


async def readable(session: AsyncSession, settings: Settings, data_id: int) -> Readable:
    """What an engine needs to read a data set.

    Raises:
        NotFound, InvalidInput: there is none; it has no whole file yet.
        Unavailable: it is a preset that cannot be made here.
    """
    if preset := BY_ID.get(data_id):
        found = await asyncio.to_thread(presets.prepared, settings, preset)
        return _readable(data_id, preset.name, DataType.CSV, found.path, found.contents, preset.digest, preset.target)
    data_set = await _whole(session, data_id)
    path, _ = _files(settings, data_set)
    return _readable(
        data_id, data_set.name or data_set.file_name, data_set.kind, path, data_set.contents, f"md5:{data_set.md5}"
    )


def _readable(
    data_id: int, name: str, kind: DataType, path: Path, contents: Contents, digest: str, target: str | None = None
) -> Readable:
    return Readable(
        id=data_id,
        name=name,
        kind=kind,
        path=path,
        encoding=contents.read_as,
        delimiter=contents.delimiter,
        header=contents.header,
        columns=contents.columns,
        digest=digest,
        rows=contents.rows,
        target=target,
    )


async def _whole(session: AsyncSession, data_id: int) -> DataSet:
    data_set = await own(session, data_id)
    if data_set.kept_id is None:
        raise InvalidInput(
            Problem(
                f"data set {data_id} has no file yet" + (f": {data_set.refusal}" if data_set.refusal else ""),
                field="dataId",
                remedy="wait until its dataStatus is 3" if data_set.upload_id else "upload one",
            )
        )
    return data_set


def _files(settings: Settings, data_set: DataSet) -> tuple[Path, Path]:
    """What is read of a whole data set, and where its rows begin."""
    assert data_set.kept_id is not None
    folder = Folders.of(settings).of_upload(data_set.id, data_set.kept_id, data_set.kind)
    path = folder.path / READABLE if data_set.contents.converted else folder.file
    if not path.is_file():
        raise NotFound(
            f"The file of data set {data_set.id} is not at {path}: give all replicas of the service the same "
            "HLINK_HOME, or clear the data set and upload it again"
        )
    return path, folder.index


async def _forget_upload(session: AsyncSession, data_set: DataSet) -> None:
    if data_set.upload_id is not None:
        await forget_fragments(session, data_set.upload_id)
    data_set.forget_upload()
    data_set.refusal = ""
    session.add(data_set)


def _preset(wanted: NewDataSet) -> Preset:
    if wanted.type is not DataType.CSV:
        raise InvalidInput(
            Problem("there is no preset set of images", field="dataType", remedy="use dataType 2, or dataSource 1")
        )
    name = (wanted.preset or PRESETS[0].name).strip()
    if name not in BY_NAME:
        raise InvalidInput(
            Problem(f"there is no preset {name!r}", field="preset", remedy=f"use one of {', '.join(BY_NAME)}")
        )
    return BY_NAME[name]


def _presets_like(query: DataSetQuery) -> list[Preset]:
    if query.type not in (None, DataType.CSV) or query.source not in (None, DataSource.PRESET):
        return []
    return [preset for preset in PRESETS if (query.name or "").strip().lower() in preset.name]


def _conditions(query: DataSetQuery) -> list[ColumnElement[bool]]:
    conditions = [col(DataSet.del_flag) == 1, *equal(DataSet.type, query.type)]
    if query.source not in (None, DataSource.OWN):
        conditions.append(col(DataSet.id) < 0)
    if query.name is not None:
        text = query.name.strip()
        conditions.append(
            or_(
                col(DataSet.name).icontains(text, autoescape=True),
                col(DataSet.file_name).icontains(text, autoescape=True),
            )
        )
    return conditions
