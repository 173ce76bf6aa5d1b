"""The rules of users' functions: what is taken in, which of them a job may call, when one may go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from sqlalchemy import ColumnElement, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database
from app.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from app.filters import containing, within
from app.hlink import catalogue
from app.hlink.functions.inspection import Found, find_class, find_python
from app.hlink.functions.models import (
    LONGEST_DESCRIPTION,
    LONGEST_IMPLEMENTATION,
    LONGEST_NAME,
    FunctionVersion,
    StoredFunction,
)
from app.hlink.jobs.models import JobVersion, StoredJob
from app.hlink.wire import FunctionQuery, FunctionUpdate, FunctionUpload
from app.hlink.wire.functions import FILE
from app.uploads import Check, Files, Upload
from stream_jobs.definitions import Function, FunctionKind
from stream_jobs.planner.client import Planner, PlannerError, PlannerUnavailable
from stream_jobs.planner.functions import prepare
from stream_jobs.sql import diagnosis
from stream_jobs.sql.diagnosis import Refusal

_KINDS = {kind.value: kind for kind in FunctionKind} | {"SCALA": FunctionKind.SCALAR}
"""By ``udfType``; the published document misspells SCALAR."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What functions need of the running service."""

    database: Database
    planner: Planner
    files: Files


async def upload(workshop: Workshop, request: Request, wanted: FunctionUpload) -> StoredFunction:
    """Take in a new function. Its file is checked before it is kept, and nothing of it runs in this process.

    Raises:
        InvalidInput: the name, the description, or what is wrong with the file.
        Conflict: the name is taken.
        Unavailable: the planner does not say whether the name is one of Flink's, or whether PyFlink takes the function.
    """
    name, description = (wanted.name or "").strip(), _description(wanted.description)
    kind = _kind(wanted.kind)
    await check_name(workshop.planner, name, "udfName")
    async with workshop.database.read() as session:
        await _refuse_taken_name(session, name)
    sent = await _receive(workshop, request, kind, wanted.implementation)
    function = StoredFunction(
        name=name,
        key=name.lower(),
        description=description,
        kind=sent.found.kind,
        implementation=sent.found.implementation,
        file_name=sent.file.name,
        sha256=sent.file.sha256,
        suffix=sent.found.suffix,
    )
    await _try_out(workshop.planner, function.definition())
    try:
        async with workshop.database.write() as session:
            session.add(function)
            session.add(version_of(function))
    except IntegrityError:  # somebody else took the name since we looked
        raise Conflict(_taken(name)) from None
    return function


async def update(workshop: Workshop, request: Request, wanted: FunctionUpdate) -> StoredFunction:
    """Change a function's description; a form with a file makes a new version of it, of the same kind.

    Jobs that run go on with the version that they were started with; the next run takes the new one.

    Raises:
        NotFound, Conflict: there is no such function; somebody else changed it meanwhile.
        InvalidInput, Unavailable: as :func:`upload`.
    """
    if wanted.id is None:
        raise InvalidInput(Problem("no function is named", field="id", remedy="give the id that /ds/udf/list shows"))
    description = None if wanted.description is None else _description(wanted.description)
    async with workshop.database.read() as session:
        before = await find(session, wanted.id)
    sent = None
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        kind = FunctionKind(before.kind)
        sent = await _receive(workshop, request, kind, wanted.implementation or before.implementation)
        changed = Function(before.name, kind, sent.found.implementation, sent.file.sha256, sent.found.suffix)
        await _try_out(workshop.planner, changed)
    async with workshop.database.write() as session:
        function = await find(session, wanted.id)
        if description is not None:
            function.description = description
        if sent is not None and (sent.file.sha256, sent.found.implementation) != (
            function.sha256,
            function.implementation,
        ):
            if function.version != before.version:
                raise Conflict(f"Somebody else uploaded a version of {function.name!r} meanwhile: look at it first")
            function.implementation = sent.found.implementation
            function.file_name = sent.file.name
            function.sha256 = sent.file.sha256
            function.suffix = sent.found.suffix
            function.version += 1
            session.add(version_of(function))
        session.add(function)
    return function


async def remove(database: Database, function_id: int) -> None:
    """Delete a function that no job uses.

    Raises:
        NotFound, Conflict: there is no such function; jobs use it, which are named.
    """
    async with database.write() as session:
        function = await find(session, function_id, hold=True)
        if jobs := await users(session, function):
            names = ", ".join(map(repr, jobs))
            raise Conflict(f"Function {function.name!r} is used by job {names}: delete or change the job first")
        await session.delete(function)


async def find(session: AsyncSession, function_id: int, *, hold: bool = False) -> StoredFunction:
    """The function of that id; ``hold`` keeps jobs from taking it into use until the transaction ends.

    Raises :class:`~app.errors.NotFound`.
    """
    function = await session.get(StoredFunction, function_id, with_for_update=hold or None)
    if function is None:
        raise NotFound(f"There is no function {function_id}: /ds/udf/list shows those there are")
    return function


async def versions(session: AsyncSession, function: StoredFunction) -> Sequence[FunctionVersion]:
    """What the function was, version by version, newest first."""
    query = select(FunctionVersion).where(FunctionVersion.function_id == function.id)
    return (await session.exec(query.order_by(col(FunctionVersion.number).desc()))).all()


async def page(session: AsyncSession, query: FunctionQuery) -> tuple[Sequence[StoredFunction], int]:
    """The functions that a list's query lets through, newest first: one page of them, and how many there are."""
    wanted: list[ColumnElement[bool]] = [
        *containing(StoredFunction.name, query.name),
        *containing(StoredFunction.implementation, query.implementation),
        *containing(StoredFunction.description, query.description),
        *containing(StoredFunction.create_by, query.created_by),
        *within(StoredFunction.create_time, query.created_at),
        *containing(StoredFunction.modify_by, query.modified_by),
        *within(StoredFunction.modify_time, query.modified_at),
    ]
    total = (await session.exec(select(func.count()).select_from(StoredFunction).where(*wanted))).one()
    newest_first = select(StoredFunction).where(*wanted).order_by(col(StoredFunction.id).desc())
    return (await session.exec(newest_first.offset(query.offset).limit(query.size))).all(), total


async def named_in(session: AsyncSession, texts: Iterable[str]) -> tuple[Function, ...]:
    """The functions whose names stand anywhere in these SQL texts, in their newest versions.

    Which of them are really called the planner finds out; here a word too many does no harm.
    """
    words = {word.lower() for text in texts for word in re.findall(r"\w+", text)}
    functions = (await session.exec(select(StoredFunction).order_by(col(StoredFunction.key)))).all()
    return tuple(function.definition() for function in functions if function.key in words)


async def hold(session: AsyncSession, called: Iterable[Function]) -> None:
    """Keep users' functions that a job calls from being deleted until the transaction ends.

    Raises :class:`~app.errors.NotFound` naming those that were deleted meanwhile.
    """
    wanted = {function.name.lower(): function.name for function in called if function.sha256}
    if not wanted:
        return
    query = select(StoredFunction.key).where(col(StoredFunction.key).in_(wanted)).order_by(col(StoredFunction.key))
    present = set(await session.exec(query.with_for_update(read=True)))
    if gone := sorted(wanted.keys() - present):
        names = ", ".join(repr(wanted[key]) for key in gone)
        raise NotFound(f"Function {names} was deleted while the job was planned: upload it again, or do not call it")


async def users(session: AsyncSession, function: StoredFunction) -> list[str]:
    """The names of the jobs whose newest version was planned with the function."""
    newest = (
        select(func.max(JobVersion.number))
        .where(JobVersion.job_id == StoredJob.id)
        .correlate(StoredJob)
        .scalar_subquery()
    )
    rows = await session.exec(
        select(StoredJob.name, JobVersion.functions)
        .join(JobVersion, col(JobVersion.job_id) == col(StoredJob.id))
        .where(StoredJob.del_flag == 1, JobVersion.number == newest)
        .order_by(col(StoredJob.name))
    )
    return [name for name, used in rows if any(one["name"].lower() == function.key for one in used)]


async def _receive(
    workshop: Workshop, request: Request, kind: FunctionKind | None, implementation: str | None
) -> Upload[Found]:
    wanted = (implementation or "").strip()
    if len(wanted) > LONGEST_IMPLEMENTATION:
        raise InvalidInput(
            Problem("the name is too long", field="udfClass", remedy=f"at most {LONGEST_IMPLEMENTATION}")
        )
    libraries = [jar for jar in workshop.planner.config.classpath if jar.name.startswith("flink-")]
    return await workshop.files.receive(request, FILE, _check(kind, wanted, libraries))


def _check(kind: FunctionKind | None, wanted: str, libraries: Sequence[Path]) -> Check[Found]:
    def check(path: Path, name: str) -> Found:
        is_python = kind is FunctionKind.PYTHON or (kind is None and name.lower().endswith((".py", ".zip")))
        return find_python(path, name, wanted) if is_python else find_class(path, name, wanted, kind, libraries)

    return check


async def _try_out(planner: Planner, function: Function) -> None:
    """A Python function is what its module makes of it: the planner's process imports it, within its time limit.

    Java classes were judged by what is written in them; they are first loaded when a statement calls them.
    """
    if function.kind is not FunctionKind.PYTHON:
        return
    try:
        created = await asyncio.to_thread(prepare, [function], planner.config)
        answer = await planner.create_functions(created, [function.name])
    except PlannerUnavailable as error:
        raise Unavailable(str(error)) from error
    except PlannerError as error:
        raise InvalidInput(
            Problem(f"module of {function.implementation!r} cannot be imported: {error}", field="udfClass")
        ) from error
    if "error" in answer:
        problem = diagnosis.of_function(Refusal.read(answer["error"]), function)
        raise InvalidInput(
            Problem(
                problem.message,
                field="udfClass",
                remedy="name a function that is decorated with pyflink.table.udf.udf, in a module that can be imported",
            )
        )


def _kind(text: str | None) -> FunctionKind | None:
    wanted = (text or "").strip().upper()
    if not wanted:
        return None
    if wanted not in _KINDS:
        raise InvalidInput(
            Problem(f"{text!r} is not a type of function", field="udfType", remedy=f"use {', '.join(FunctionKind)}")
        )
    return _KINDS[wanted]


def _description(text: str | None) -> str:
    description = (text or "").strip()
    if len(description) > LONGEST_DESCRIPTION:
        raise InvalidInput(Problem("it is too long", field="udfDesc", remedy=f"use at most {LONGEST_DESCRIPTION}"))
    return description


async def check_name(planner: Planner, name: str, field: str) -> None:
    """Whether a function may have this name, which ``field`` of the request gave.

    Raises:
        InvalidInput: it is none, or one of Flink's, or of ours.
        Unavailable: the planner does not say which those are.
    """

    def refuse(message: str, remedy: str) -> InvalidInput:
        return InvalidInput(Problem(message, field=field, remedy=remedy))

    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or len(name) > LONGEST_NAME:
        raise refuse(
            f"{name!r} cannot be the name of a function" if name else "the function has no name",
            f"use letters, digits and underscores, a letter first, at most {LONGEST_NAME}",
        )
    if name.upper() in catalogue.reserved_words():
        raise refuse(f"'{name}' is a reserved word of Flink SQL", f"choose another name, such as my_{name}")
    try:
        present = await planner.function_names()
    except PlannerError as error:
        raise Unavailable(str(error)) from error
    if name.upper() in present:
        raise refuse(f"'{name}' is a function that is there already", f"choose another name, such as my_{name}")


async def _refuse_taken_name(session: AsyncSession, name: str) -> None:
    if (await session.exec(select(StoredFunction.id).where(StoredFunction.key == name.lower()))).first() is not None:
        raise Conflict(_taken(name))


def _taken(name: str) -> str:
    return (
        f"There is a function called '{name}' already: upload a new version of it (/ds/udf/update), or choose another"
    )


def version_of(function: StoredFunction) -> FunctionVersion:
    """What is kept of a function's version, whatever becomes of the function."""
    return FunctionVersion(
        function_id=function.id,
        number=function.version,
        kind=function.kind,
        implementation=function.implementation,
        file_name=function.file_name,
        sha256=function.sha256,
    )
