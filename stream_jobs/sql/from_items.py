"""What the items of a FROM are, as the text shows it: side tables, the rows of a window, streams with event time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stream_jobs.definitions import Role, Table
from stream_jobs.sql import tree
from stream_jobs.sql.tree import Node


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and the names that a WITH around it has taken: its own name, if it has one, is not among them."""

    node: Node
    named: Mapping[str, Query]


Named = Mapping[str, Query]
"""Names that a WITH has taken, and the queries that they stand for."""


class FromItems:
    """Answers about FROM items of a job with these tables."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.sides = {table.name: table for table in tables if table.role is Role.SIDE}
        self._sources = {table.name: table for table in tables if table.role is Role.SOURCE}

    def side_name(self, node: Node, named: Named) -> str:
        """The side table that a FROM item names as a user may, ``AS OF PROCTIME()`` included; or nothing."""
        table = _bare(node)
        if is_as_of_now(table):
            table = _bare(table.operand(0))
        if table.kind != "IDENTIFIER" or len(table.names) != 1:
            return ""
        name = table.names[0]
        return name if name in self.sides and name not in named else ""

    def joined_side(self, right: Node, named: Named) -> str:
        """The side table that is joined, also where the user wrote the lookup out."""
        table = right.operand(0) if right.kind == "AS" else right
        return self.side_name(table.operand(0) if table.kind == "SNAPSHOT" else table, named)

    def join_in_window(self, source: Node, named: Named) -> Node | None:
        """The join on a side table that rows of a window go through, before anything groups them."""
        first, joins = flatten(source)
        if self._carries_window(first, named):
            for join in joins:
                if self.joined_side(join.operand(tree.JOIN_RIGHT), named):
                    return join
        below = self._ungrouped(first, named)
        return self.join_in_window(below.node, below.named) if below else None

    def event_time(self, item: Node, named: Named) -> str:
        """The name of the event time that a FROM item passes on, as far as the text shows it; or nothing."""
        renamed = [node.names[-1] for node in item.operands[2:] if node] if item.kind == "AS" else []
        table = _bare(item)
        if table.kind == "IDENTIFIER" and table.names[0] not in named:
            source = self._sources.get(table.names[-1])
            if source is None or source.watermark is None:
                return ""
            names = [column.name for column in source.columns]
            return _renamed(source.watermark.column, names, renamed)
        query, below = _query(table, named), self._ungrouped(item, named)
        if query is None or below is None or renamed:
            return ""
        first, _ = flatten(below.node)
        inner = self.event_time(first, below.named)
        return _passed_on(inner, query.node, alias_of(first)) if inner else ""

    def _carries_window(self, item: Node, named: Named) -> bool:
        """Whether a FROM item gives the rows of a window function, ungrouped."""
        if _bare(item).kind == "COLLECTION_TABLE":
            return True
        below = self._ungrouped(item, named)
        return below is not None and self._carries_window(flatten(below.node)[0], below.named)

    def _ungrouped(self, item: Node, named: Named) -> Query | None:
        """The FROM below a FROM item that is a SELECT, or the name of one, without GROUP BY."""
        query = _query(_bare(item), named)
        if query is None or tree.items(query.node.operands[tree.SELECT_GROUP]):
            return None
        source = query.node.operands[tree.SELECT_FROM]
        return None if source is None else Query(source, query.named)


def flatten(source: Node) -> tuple[Node, list[Node]]:
    """The first item of a FROM, and the joins that follow it, from left to right."""
    joins: list[Node] = []
    while source.kind == "JOIN":
        joins.append(source)
        source = source.operand(tree.JOIN_LEFT)
    return source, joins[::-1]


def rights(joins: Sequence[Node]) -> list[Node]:
    """What is joined by each."""
    return [join.operand(tree.JOIN_RIGHT) for join in joins]


def alias_of(item: Node) -> str:
    """What a FROM item is called, or nothing."""
    if item.kind == "AS":
        return item.operand(1).names[-1]
    if item.kind == "SNAPSHOT":
        item = item.operand(0)
    return item.names[-1] if item.kind == "IDENTIFIER" else ""


def is_as_of_now(table: Node) -> bool:
    """Whether it is ``... FOR SYSTEM_TIME AS OF PROCTIME()``."""
    return table.kind == "SNAPSHOT" and table.operand(1).operator.upper() == "PROCTIME"


def _bare(item: Node) -> Node:
    item = item.operand(0) if item.kind == "AS" else item
    return item.operand(0) if item.kind == "TABLE_REF" else item


def _query(item: Node, named: Named) -> Query | None:
    if item.kind == "IDENTIFIER" and len(item.names) == 1:
        found = named.get(item.names[0])
        return found if found is not None and found.node.kind == "SELECT" else None
    return Query(item, named) if item.kind == "SELECT" else None


def _renamed(name: str, names: Sequence[str], renamed: Sequence[str]) -> str:
    return renamed[names.index(name)] if name in names[: len(renamed)] else name


def _passed_on(name: str, select: Node, alias: str) -> str:
    """What a SELECT calls a column of its first FROM item, or nothing where it does not pass it on as it is."""
    for item in tree.items(select.operand(tree.SELECT_LIST)):
        column, called = (item.operand(0), item.operand(1).names[-1]) if item.kind == "AS" else (item, name)
        if column.kind == "IDENTIFIER" and column.names[-1] in (name, "") and column.names[:-1] in ((), (alias,)):
            return called
    return ""
