"""The rules of stored tables: what is taken in, what is shown of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database
from app.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from app.filters import containing, equal
from app.hlink.planner import refusal
from app.hlink.tables import fields
from app.hlink.tables.definition import alias_problems, to_connection, to_definition
from app.hlink.tables.models import LONGEST_NAME, StoredTable
from app.hlink.tables.usage import StateEffect, Use, state_effect, uses
from app.hlink.wire import ConnectorFields, SchemaColumn, TableQuery, TableView
from stream_jobs.definitions import Table
from stream_jobs.planner.client import Planner, PlannerError
from stream_jobs.planner.plan import check_computed


async def add(database: Database, planner: Planner, view: TableView) -> StoredTable:
    """Take a table in.

    Raises :class:`~app.errors.InvalidInput` with every problem of the definition, :class:`~app.errors.Conflict` when
    another table has its alias, and :class:`~app.errors.Unavailable` when nothing can read its computed columns.
    """
    table = drafted(view)
    await _refuse_unreadable(planner, table)
    async with database.write() as session:
        await refuse_taken_alias(session, table.alias)
        session.add(table)
        await _flush(session, table.alias)
    return table


@dataclass(frozen=True, slots=True)
class Edited:
    """A table after an edit, and what the edit means to its jobs. ``old_alias``: what SQL called it before."""

    table: StoredTable
    old_alias: str
    jobs: Sequence[Use]
    state: StateEffect


async def modify(database: Database, planner: Planner, view: TableView) -> Edited:
    """Put a table's new definition in the place of the old one. A running job keeps its version until it is run again.

    Raises as :func:`add`, and :class:`~app.errors.NotFound`.
    """
    if not view.id:
        raise InvalidInput(Problem("no table is named", field="id", remedy="give the id that /ds/list shows"))
    async with database.read() as session:
        table = await find(session, view.id)
    await _refuse_unreadable(planner, drafted(view, _credentials(table, view)))
    async with database.write() as session:
        table = await find(session, view.id, hold=True)
        new = drafted(view, _credentials(table, view))
        await refuse_taken_alias(session, new.alias, except_id=table.id)
        edited = Edited(table, table.alias, await uses(session, table.id), _state_effect(table, new))
        for name in _DEFINITION:
            setattr(table, name, getattr(new, name))
        await _flush(session, new.alias)
    return edited


async def _refuse_unreadable(planner: Planner, table: StoredTable) -> None:
    """Refuses expressions that Flink's parser cannot read. Asked before a transaction: the planner may be starting."""
    try:
        if problems := await check_computed(planner, to_definition(table)):
            raise refusal(problems)
    except PlannerError as error:
        raise Unavailable(str(error)) from error


async def _flush(session: AsyncSession, alias: str) -> None:
    try:
        await session.flush()
    except IntegrityError:  # somebody else took the alias since we looked
        raise Conflict(_taken(alias)) from None


async def remove(session: AsyncSession, table_id: int) -> StoredTable:
    """Delete a table that no job uses.

    Raises :class:`~app.errors.NotFound`, and :class:`~app.errors.Conflict` naming the jobs that use it.
    """
    table = await find(session, table_id, hold=True)
    if used := await uses(session, table_id):
        names = ", ".join(f"{use.name!r}" + (" (running)" if use.running else "") for use in used)
        raise Conflict(
            f"Table '{table.alias}' is used by {'job' if len(used) == 1 else 'jobs'} {names}: "
            "delete them or take the table out of them first",
            jobs=[use.job_id for use in used],
        )
    await session.delete(table)
    return table


def drafted(view: TableView, previous: Mapping[str, str] | None = None) -> StoredTable:
    """The table that a request describes, checked as a whole and with its credentials set apart.

    ``previous`` are the credentials stored so far: where the request carries the mask they go on. Raises
    :class:`~app.errors.InvalidInput` with every problem.
    """
    table = _described(view, previous)
    name, given = table.name, table.fields
    problems: list[Problem] = []
    if not name:
        problems.append(Problem("the table has no name", field="dsName", remedy="give it one"))
    if len(name) > LONGEST_NAME:
        problems.append(Problem(f"it has {len(name)} characters", field="dsName", remedy=f"use at most {LONGEST_NAME}"))
    try:
        definition = to_definition(table)
    except InvalidInput as error:
        raise InvalidInput(*problems, *error.problems) from None
    if problems:
        raise InvalidInput(*problems)
    checked, _ = fields.check(table.role, table.kind, given, previous)
    table.fields, table.secrets = dict(checked.values), dict(checked.secrets)
    nested = any(column.fields for column in definition.columns)
    table.structure = int(nested) if view.structure is None else view.structure
    return table


def _described(view: TableView, secrets: Mapping[str, str] | None) -> StoredTable:
    """The table that a request describes, nothing of it checked."""
    return StoredTable(
        name=(view.name or "").strip(),
        alias=(view.alias or "").strip(),
        role=(view.role or "").strip().lower(),
        kind=(view.kind or "").strip().lower(),
        schema_type=view.schema_type or 0,
        version=view.version or 0,
        ddl_disabled=view.ddl_disabled or 0,
        schema_file=view.schema_file or "",
        columns=[_stored_column(column) for column in view.columns or []],
        fields=given_values(view.connector),
        secrets=dict(secrets or {}),
    )


async def to_look_at(session: AsyncSession, view: TableView) -> Table:
    """What a request to look at a table's outside means: the stored table of its id, or the one that it describes.

    The mask in it stands for the credentials of the stored table. Raises :class:`~app.errors.InvalidInput` for
    connector fields that will not do, and :class:`~app.errors.NotFound`.
    """
    stored = await find(session, view.id) if view.id else None
    if stored is not None and view.connector is None:
        return to_connection(stored)
    return to_connection(_described(view, _credentials(stored, view) if stored else None))


def _credentials(stored: StoredTable, view: TableView) -> Mapping[str, str]:
    """The credentials that the mask in a request stands for: none when they would go to another address."""
    given = given_values(view.connector)
    same = all(given.get(name, "").strip() == stored.fields.get(name, "") for name in _ADDRESSES)
    return stored.secrets if same else {}


def given_values(connector: ConnectorFields | None) -> dict[str, str]:
    """Field names and values of a filled-in form.

    The fields of a choice are read from below the choice that was made, and also from the top, where clients that
    send names and values only put them.
    """
    entries = (connector.values if connector else None) or []
    given = {entry.name: entry.value for entry in entries if entry.name and entry.value is not None}
    for entry in entries:
        for option in entry.options or []:
            if option.name is not None and option.name == entry.value:
                for union in option.union_fields or []:
                    if union.name and union.value:
                        given[union.name] = union.value
    return given


async def find(session: AsyncSession, table_id: int, *, hold: bool = False) -> StoredTable:
    """The table of that id; ``hold`` keeps others from using or changing it until the transaction ends.

    Raises :class:`~app.errors.NotFound`.
    """
    table = await session.get(StoredTable, table_id, with_for_update=hold or None)
    if table is None:
        raise NotFound(f"There is no table {table_id}: /ds/list shows those there are")
    return table


async def find_all(session: AsyncSession, table_ids: Iterable[int], *, hold: bool = False) -> dict[int, StoredTable]:
    """The tables of those ids, by id; ``hold`` keeps them from being removed until the transaction ends.

    Raises :class:`~app.errors.NotFound` naming those that are not there.
    """
    wanted = set(table_ids)
    query = select(StoredTable).where(col(StoredTable.id).in_(wanted)).order_by(col(StoredTable.id))
    rows = await session.exec(query.with_for_update(read=True) if hold else query)
    found = {row.id: row for row in rows}
    if missing := sorted(wanted - set(found)):
        raise NotFound(f"There is no table {', '.join(map(str, missing))}: /ds/list shows those there are")
    return found


async def page(session: AsyncSession, query: TableQuery) -> tuple[Sequence[StoredTable], int]:
    """The tables that a list's query lets through, newest first: one page of them, and how many there are."""
    wanted: list[ColumnElement[bool]] = [
        *equal(StoredTable.role, query.role),
        *containing(StoredTable.name, query.name),
        *containing(StoredTable.alias, query.alias),
        *equal(StoredTable.kind, query.kind),
        *equal(StoredTable.schema_type, query.schema_type),
        *equal(StoredTable.structure, query.structure),
        *equal(StoredTable.version, query.version),
    ]
    total = (await session.exec(select(func.count()).select_from(StoredTable).where(*wanted))).one()
    rows = await session.exec(
        select(StoredTable).where(*wanted).order_by(col(StoredTable.id).desc()).offset(query.offset).limit(query.size)
    )
    return rows.all(), total


async def check_alias(session: AsyncSession, alias: str, except_id: int | None = None) -> None:
    """Whether a table may be called so; ``except_id`` is the table that is being modified.

    Raises :class:`~app.errors.InvalidInput` for a name that cannot be, :class:`~app.errors.Conflict` for one taken.
    """
    if problems := alias_problems(alias):
        raise InvalidInput(*problems)
    await refuse_taken_alias(session, alias, except_id)


async def refuse_taken_alias(session: AsyncSession, alias: str, except_id: int | None = None) -> None:
    """Raises :class:`~app.errors.Conflict` when another table has the alias."""
    other = (await session.exec(select(StoredTable).where(col(StoredTable.alias) == alias))).first()
    if other is not None and other.id != except_id:
        raise Conflict(_taken(alias, f" ('{other.name}', a {other.role} table)"))


_ADDRESSES = ("connector_url", "bootstrap_servers", "redis_address", "requestUrl")
"""Where credentials are sent to."""
_DEFINITION = (
    "name", "alias", "role", "kind", "schema_type", "version", "ddl_disabled", "schema_file", "columns", "fields",
    "secrets", "structure",
)  # fmt: skip
"""What an edit replaces: all but the record's own id and dates."""


def _state_effect(old: StoredTable, new: StoredTable) -> StateEffect:
    try:
        return state_effect(to_definition(old), to_definition(new))
    except InvalidInput:  # rules may have become stricter since it was stored
        return StateEffect.UNCERTAIN


def _taken(alias: str, by: str = "") -> str:
    return f"There is a table called '{alias}' already{by}: choose another tableName"


def _stored_column(column: SchemaColumn) -> dict[str, object]:
    return column.model_dump(exclude={"id", "table_id"}, exclude_none=True)
