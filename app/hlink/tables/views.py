"""Stored tables, their forms and what was found outside, in the models of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import InvalidInput
from app.hlink.connections import Outcome
from app.hlink.tables import fields
from app.hlink.tables.definition import to_definition
from app.hlink.tables.fields import FieldTemplate
from app.hlink.tables.models import StoredTable
from app.hlink.tables.service import Edited
from app.hlink.tables.usage import StateEffect
from app.hlink.wire import (
    ConnectorFields,
    FoundColumn,
    JsonField,
    Option,
    SchemaColumn,
    TableCheck,
    TableEntity,
    TableOutcome,
    TableView,
    UnionField,
)
from stream_jobs.definitions import DefinitionError, Role
from stream_jobs.sql.declaration import declare

_COLUMN_DEFAULTS: dict[str, Any] = {"event_time": 0, "join_key": 0, "virtual_parent_id": "0"}


def entity(row: StoredTable) -> TableEntity:
    """A record of a list."""
    return TableEntity(**_common(row))


def _common(row: StoredTable) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "alias": row.alias,
        "role": row.role,
        "kind": row.kind,
        "schema_type": row.schema_type,
        "schema_file": row.schema_file,
        "structure": row.structure,
        "version": row.version,
        "ddl": _ddl(row),
        "ddl_disabled": row.ddl_disabled,
        "created_by": row.create_by,
        "created_at": row.create_time,
        "modified_by": row.modify_by,
        "modified_at": row.modify_time,
    }


def _ddl(row: StoredTable) -> str:
    """What Flink is told of the table, credentials masked; empty for a side table, as published."""
    if row.role == Role.SIDE:
        return ""
    try:
        made = declare(to_definition(row), "job")
    except (InvalidInput, DefinitionError):
        # Rules may have become stricter since it was stored: the table must still be there to be corrected.
        return ""
    text = made.text
    for placeholder in made.secrets:
        text = text.replace(placeholder, fields.mask())
    return text


def view(row: StoredTable) -> TableView:
    """The whole definition."""
    return TableView(
        **_common(row),
        columns=[SchemaColumn(**(_COLUMN_DEFAULTS | column), table_id=row.id) for column in row.columns],
        connector=ConnectorFields(id=row.id, table_id=row.id, values=form(row.role, row.kind, row.fields)),
    )


def outcome(found: Outcome, unchecked: str | None) -> TableOutcome:
    """What a look at a table's outside found."""
    checks = [
        TableCheck(name=check.name, ok=True, message=check.found)
        if check.problem is None
        else TableCheck(
            name=check.name,
            ok=False,
            message=check.problem.message,
            field=check.problem.field,
            remedy=check.problem.remedy,
        )
        for check in found.checks
    ]
    return TableOutcome(
        ok=not found.problems,
        checks=checks,
        unchecked=unchecked,
        partitions=found.partitions,
        columns=[
            FoundColumn(
                name=column.name,
                flink_type=column.flink_type,
                join_key=int(column.in_key),
                database_type=column.database_type,
            )
            for column in found.columns
        ],
        key=list(found.key),
    )


_STATE_IN_WORDS = {
    StateEffect.UNTOUCHED: "nothing that a job sees has changed",
    StateEffect.SURVIVES: "state survives: only what the table connects to has changed",
    StateEffect.UNCERTAIN: "a job is planned anew then: /jobs/impact says what becomes of its state",
}


def consequences(edited: Edited) -> str:
    """What an edit means to the jobs of a table, in a sentence; nothing when no job uses it."""
    if not edited.jobs:
        return ""
    names = ", ".join(repr(use.name) for use in edited.jobs)
    words = f"used by {names}: the edit takes effect with the next run; {_STATE_IN_WORDS[edited.state]}"
    if running := [repr(use.name) for use in edited.jobs if use.running]:
        words += f"; running with the version before: {', '.join(running)}"
    if edited.table.alias != edited.old_alias:
        words += f"; statements still say '{edited.old_alias}': correct them"
    return words


def form(role: str, kind: str, values: Mapping[str, str]) -> list[JsonField]:
    """A table type's form with values in it, as clients of the original get it."""
    return [
        JsonField(
            **_field(one, values, sequence),
            multiple=False,
            options=[
                Option(
                    name=choice.value,
                    display_name=choice.label,
                    has_union=bool(choice.fields),
                    union_fields=[
                        UnionField(**_field(union, values, at), hidden=False)
                        for at, union in enumerate(choice.fields, start=1)
                    ],
                )
                for choice in one.choices
            ],
        )
        for sequence, one in enumerate(fields.template(role, kind), start=1)
    ]


def _field(one: FieldTemplate, values: Mapping[str, str], sequence: int) -> dict[str, Any]:
    return {
        "name": one.name,
        "value": values.get(one.name, ""),
        "default": one.default,
        "label": one.label,
        "description": one.tips,
        "control": one.control,
        "required": one.required,
        "read_only": False,
        "sequence": sequence,
        "tips": one.tips,
    }
