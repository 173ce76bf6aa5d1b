"""The columns of a table: from the flat list of the wire to a checked tree, and on to plain column values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import Problem
from app.hlink.tables import column_types
from app.hlink.tables.column_types import TypeProblem
from stream_jobs.definitions import Column, TimeFormat
from stream_jobs.sql.quoting import identifier
from stream_jobs.sql.types import DataType

_TOP = (None, "", "0")
_LONGEST_NAME = 255
_DEEPEST = 50


@dataclass
class ColumnNode:
    """A column or nested field, with its children. ``path`` names it in messages: ``payload.user.id``.

    ``type`` is None for a computed column whose type Flink derives, and for a ROW or ARRAY that ``children`` make.
    """

    name: str
    path: str
    reference: str
    """How SQL refers to it: `` `payload`.`user`.`id` ``."""
    nesting: str = ""
    """ROW or ARRAY where the children are the fields."""
    type: DataType | None = None
    not_null: bool = False
    children: list[ColumnNode] = field(default_factory=list)
    comment: str = ""
    expression: str = ""
    time: TimeFormat | None = None
    event_time: bool = False
    join_key: bool = False

    def column(self) -> Column:
        """The node as a plain value; only for a tree that was found in order."""
        return Column(
            name=self.name,
            type=self.nesting or str(self.type or ""),
            fields=tuple(child.column() for child in self.children),
            comment=self.comment,
            expression=self.expression,
            not_null=self.not_null,
            time=self.time,
        )

    def type_names(self) -> set[str]:
        """The names of all types in it, those of its children included."""
        own = {self.nesting} if self.nesting else column_types.names(self.type) if self.type else set()
        return own.union(*(child.type_names() for child in self.children))


def column_problem(table: str | None, path: str, message: str, remedy: str) -> Problem:
    """A problem with one column, in the form that all of them have."""
    return Problem(message, field=f"column {path}", table=table, remedy=remedy)


def tree(stored: Sequence[Mapping[str, Any]], *, table: str | None = None) -> tuple[list[ColumnNode], list[Problem]]:
    """The level-1 columns with what is below them, and everything that is wrong with them.

    The list says its tree by ``virtual_id`` and ``virtual_parent_id`` ("0" at the top); the root row at level 0 may be
    in it or not. A list without virtual ids is flat.
    """
    problems: list[Problem] = []
    root, rows = _without_root(list(stored))
    known: set[str] = {row["virtual_id"] for row in rows if row.get("virtual_id") not in _TOP}

    for virtual_id, count in Counter(r["virtual_id"] for r in rows if r.get("virtual_id") not in _TOP).items():
        if count > 1:
            names = ", ".join(str(r.get("name")) for r in rows if r.get("virtual_id") == virtual_id)
            problems.append(
                Problem(
                    f"the columns {names} have the same virtualId {virtual_id}",
                    table=table,
                    remedy="give each column a virtualId of its own",
                )
            )
    if problems:
        return [], problems

    below: dict[str, list[Mapping[str, Any]]] = {}
    top: list[Mapping[str, Any]] = []
    for row in rows:
        parent = row.get("virtual_parent_id")
        if parent in _TOP or parent == root or (parent not in known and (row.get("level") or 1) <= 1):
            top.append(row)
        elif parent in known:
            below.setdefault(str(parent), []).append(row)
        else:
            problems.append(
                column_problem(
                    table,
                    str(row.get("name")),
                    f"its parent {parent} is not among the columns",
                    "send the parent with it, or virtualPid 0 for a column at the top",
                )
            )
    nodes = [_node(row, None, below, table, problems, 1) for row in top]
    placed = sum(1 for _ in _walk(nodes))
    if not problems and placed < len(rows):
        problems.append(
            Problem(
                "some columns are their own ancestors by virtualPid",
                table=table,
                remedy="let every column lead up to virtualPid 0",
            )
        )
    _refuse_duplicates(nodes, "", table, problems)
    if not nodes and not problems:
        problems.append(Problem("the table has no columns", table=table, remedy="send them in dsSchemaColumnVOS"))
    return nodes, problems


def _without_root(rows: list[Mapping[str, Any]]) -> tuple[str | None, list[Mapping[str, Any]]]:
    """The virtual id of the root row, if the list has one, and the rest."""
    for row in rows:
        is_row = str(row.get("flink_type") or "ROW").strip().upper() == "ROW"
        at_top = row.get("virtual_parent_id") in _TOP
        if at_top and is_row and (row.get("level") == 0 and row.get("name") in ("root", "", None)):
            return row.get("virtual_id"), [other for other in rows if other is not row]
    return None, rows


def _node(
    row: Mapping[str, Any],
    above: ColumnNode | None,
    below: Mapping[str, list[Mapping[str, Any]]],
    table: str | None,
    problems: list[Problem],
    level: int,
) -> ColumnNode:
    name = row.get("name") or ""
    path = f"{above.path}.{name}" if above else name
    virtual_id = row.get("virtual_id")
    children = below.get(str(virtual_id), []) if virtual_id not in _TOP else []

    def refuse(message: str, remedy: str) -> None:
        problems.append(column_problem(table, path or "(no name)", message, remedy))

    if level > _DEEPEST:
        refuse(f"it is nested more than {_DEEPEST} levels deep", "flatten it")
        children = []
    node = ColumnNode(
        name=name,
        path=path,
        reference=f"{above.reference}.{identifier(name)}" if above else identifier(name),
        comment=row.get("comment") or "",
        expression=(row.get("expression") or "").strip(),
        event_time=row.get("event_time") == 1,
        join_key=row.get("join_key") == 1,
    )
    for message, remedy in _name_faults(name):
        refuse(message, remedy)
    if node.expression and level > 1:
        refuse("a nested field cannot be computed", "compute a column at the top from it")
    node.children = [_node(child, node, below, table, problems, level + 1) for child in children]
    _read_type(node, (row.get("flink_type") or "").strip(), refuse)
    _read_time(node, (row.get("time_format") or "").strip(), refuse)
    return node


def _read_type(node: ColumnNode, text: str, refuse: Callable[[str, str], None]) -> None:
    without_null = re.sub(r"\s+NOT\s+NULL$", "", text, flags=re.IGNORECASE)
    node.not_null, text = without_null != text, without_null
    nesting = text.upper()
    if nesting in ("ROW", "ARRAY"):
        node.nesting = nesting
        if node.children:
            return
        if nesting == "ROW":
            refuse("a ROW needs fields", "add child columns, whose virtualPid is this column's virtualId")
        else:
            refuse("an ARRAY needs an element type", "write ARRAY<STRING>, or add child columns for an array of rows")
    elif text:
        try:
            node.type = column_types.parse(text)
        except TypeProblem as problem:
            refuse(str(problem), "correct flinkType")
            return
        if node.children:
            refuse(f"a {node.type} cannot have child columns", "make it ROW or ARRAY, or remove the children")
    elif not node.expression:
        refuse("it has no type", "give its flinkType, such as BIGINT or STRING")


def _read_time(node: ColumnNode, text: str, refuse: Callable[[str, str], None]) -> None:
    if not text:
        return
    if text not in list(TimeFormat):
        refuse(f"'{text}' is not a way to spell times", f"set timeFormat to one of: {', '.join(TimeFormat)}")
    elif node.expression:
        refuse("a computed column is not in the messages and has no timeFormat", "remove timeFormat")
    elif node.type is not None and not {"TIME", "TIMESTAMP", "TIMESTAMP_LTZ"} & column_types.names(node.type):
        refuse(f"a {node.type} has no timeFormat", "remove it, or make the column TIMESTAMP(3) or TIMESTAMP_LTZ(3)")
    else:
        node.time = TimeFormat(text)


def _name_faults(name: str) -> Iterator[tuple[str, str]]:
    if not name:
        yield "it has no name", "give every column a name"
    elif not name.isprintable():
        yield f"its name {name!r} has characters that cannot be seen", "rename it"
    elif name != name.strip():
        yield f"its name '{name}' begins or ends with a space", "remove the space"
    elif len(name) > _LONGEST_NAME:
        yield f"its name has {len(name)} characters", f"use at most {_LONGEST_NAME}"


def _refuse_duplicates(nodes: Iterable[ColumnNode], above: str, table: str | None, problems: list[Problem]) -> None:
    nodes = list(nodes)
    for name, count in Counter(node.name for node in nodes if node.name).items():
        if count > 1:
            path = f"{above}.{name}" if above else name
            problems.append(column_problem(table, path, f"the name is there {count} times", "rename all but one"))
    for node in nodes:
        _refuse_duplicates(node.children, node.path, table, problems)


def _walk(nodes: Iterable[ColumnNode]) -> Iterator[ColumnNode]:
    for node in nodes:
        yield node
        yield from _walk(node.children)
