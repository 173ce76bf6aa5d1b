"""Lookup joins: the user writes a plain JOIN on a side table, Flink needs ``FOR SYSTEM_TIME AS OF``.

A plain JOIN on a database table plans, too, but reads the table once and keeps both sides in state for ever. So
every join on a side table is made a lookup as of processing time. The processing-time column is added right at the
join, and ``*`` is written out where it would show it. A join that the user wrote as a lookup is left alone.

Positions come from Flink's own syntax tree; the user's text is edited in place, never printed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from stream_jobs.problems import Problem
from stream_jobs.sql import tree
from stream_jobs.sql.quoting import identifier
from stream_jobs.sql.source import Edit, Text
from stream_jobs.sql.tree import Node

#: The processing-time column that is added at a join; nobody sees it.
PROCESSING_TIME = "__hlink_proctime"
_UNNAMED = "__hlink_left"

#: ``(first line, column, last line, column)`` of a SELECT, to the names its list stands for, item by item.
ExpandedStars = Mapping[tuple[int, int, int, int], Sequence[tuple[tuple[int, int, int, int], tuple[str, ...]]]]


@dataclass(slots=True)
class LookupJoins:
    """What has to be edited in a statement, and what cannot be."""

    edits: list[Edit] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    #: SELECTs whose ``*`` must be written out because a processing-time column was added below them.
    starred: list[Node] = field(default_factory=list)


def lookup_joins(query: Node, text: Text, side_tables: Set[str]) -> LookupJoins:
    """The edits that make each plain join on one of ``side_tables`` a lookup join."""
    found = LookupJoins()
    _Rewriter(text, frozenset(side_tables), found).visit(query, frozenset())
    return found


def star_edits(select: Node, text: Text, expanded: ExpandedStars) -> list[Edit]:
    """The edits that write out each ``*`` of a SELECT; ``expanded`` is the validator's own list."""
    columns = expanded.get(select.at)
    if columns is None:
        return []
    edits = []
    for star in tree.items(select.operand(tree.SELECT_LIST)):
        if not star.is_star():
            continue
        names = [n for at, n in columns if at == star.at and n]
        start, end = text.span(star.at)
        edits.append(Edit(start, end, ", ".join(".".join(identifier(part) for part in n) for n in names)))
    return edits


class _Rewriter:
    def __init__(self, text: Text, side_tables: frozenset[str], found: LookupJoins) -> None:
        self.text = text
        self.side_tables = side_tables
        self.found = found

    def visit(self, node: Node | None, hidden: frozenset[str]) -> None:
        """Every query below the node; ``hidden`` are names that a WITH has taken."""
        if node is None:
            return
        if node.kind == "WITH":
            for item in tree.items(node.operand(tree.WITH_ITEMS)):
                self.visit(item.operand(tree.WITH_ITEM_QUERY), hidden)
                hidden |= {item.operand(tree.WITH_ITEM_NAME).names[-1]}
            self.visit(node.operand(tree.WITH_BODY), hidden)
        elif node.kind == "SELECT":
            for index, operand in enumerate(node.operands):
                if index != tree.SELECT_FROM:
                    self.visit(operand, hidden)
            self.source(node, hidden)
        else:
            for operand in node.operands:
                self.visit(operand, hidden)

    def source(self, select: Node, hidden: frozenset[str]) -> None:
        """The FROM of one SELECT."""
        source = select.operands[tree.SELECT_FROM]
        if source is None:
            return
        first, joins = _flatten(source)
        added = [join for join in joins if self.side_name(join.operand(tree.JOIN_RIGHT), hidden)]
        if name := self.side_name(first, hidden):
            self.refuse(
                first,
                name,
                f"side table {name!r} is read on its own.",
                f"A side table can only be looked up: put the stream first, FROM stream JOIN {name} ON ...",
            )
            return
        self.visit(first, hidden)
        for join in joins:
            if join not in added:
                self.visit(join.operand(tree.JOIN_RIGHT), hidden)
            self.visit(join.operands[tree.JOIN_CONDITION], hidden)
        if not added or not all(self.can_look_up(join, hidden) for join in added):
            return
        if _is_window(first) and tree.items(select.operands[tree.SELECT_GROUP]):
            self.refuse(
                added[0].operand(tree.JOIN_RIGHT),
                self.side_name(added[0].operand(tree.JOIN_RIGHT), hidden),
                "a window cannot be joined with a side table and then be grouped by: the window would be lost.",
                "Join first and open the window over the result: WITH joined AS (SELECT ... JOIN ...) "
                "SELECT ... FROM TUMBLE(TABLE joined, ...) GROUP BY ..., window_start, window_end.",
            )
            return
        left = self.add_processing_time(first)
        for join in added:
            self.make_lookup(join.operand(tree.JOIN_RIGHT), left)
        if any(item.is_star() for item in tree.items(select.operand(tree.SELECT_LIST))):
            self.found.starred.append(select)

    def side_name(self, node: Node, hidden: frozenset[str]) -> str:
        """The side table that a FROM item names, or nothing."""
        table = node.operand(0) if node.kind == "AS" else node
        if table.kind == "TABLE_REF":
            table = table.operand(0)
        if table.kind != "IDENTIFIER" or len(table.names) != 1:
            return ""
        name = table.names[0]
        return name if name in self.side_tables and name not in hidden else ""

    def can_look_up(self, join: Node, hidden: frozenset[str]) -> bool:
        right = join.operand(tree.JOIN_RIGHT)
        name = self.side_name(right, hidden)
        kind = join.operand(tree.JOIN_TYPE).value
        if kind in ("INNER", "LEFT") and join.operands[tree.JOIN_CONDITION] is not None:
            return True
        if kind in ("RIGHT", "FULL"):
            message = (
                f"{kind} JOIN on side table {name!r} is not possible: its rows are only read when one is asked for."
            )
            remedy = "Use JOIN or LEFT JOIN."
        else:
            message = f"side table {name!r} is joined without a condition."
            remedy = f"Write JOIN {name} ON stream.key = {name}.key."
        self.refuse(right, name, message, remedy)
        return False

    def add_processing_time(self, first: Node) -> str:
        """Puts the column beside the first item's own columns; the item's quoted name."""
        start, end = self.text.span(first.extent)
        prefix = f"(SELECT *, PROCTIME() AS {identifier(PROCESSING_TIME)} FROM "
        if first.kind == "AS" and len(first.operands) == 2:
            alias = first.operand(1).names[-1]
            start, end = self.text.with_parentheses(*self.text.span(first.operand(0).extent))
            self.wrap(start, end, prefix, ")")
        elif first.kind == "AS":
            alias = first.operand(1).names[-1]
            # Columns are renamed by the alias, so the alias must stay inside.
            inner, _ = self.text.with_parentheses(*self.text.span(first.operand(0).extent))
            close = self.text.text.index(")", end - 1) + 1
            self.wrap(inner, close, prefix, f") AS {identifier(alias)}")
        else:
            alias = first.names[-1] if first.kind == "IDENTIFIER" else _UNNAMED
            start, end = self.text.with_parentheses(start, end) if first.kind != "IDENTIFIER" else (start, end)
            self.wrap(start, end, prefix, f") AS {identifier(alias)}")
        return identifier(alias)

    def wrap(self, start: int, end: int, prefix: str, suffix: str) -> None:
        self.found.edits += [Edit(start, start, prefix), Edit(end, end, suffix)]

    def make_lookup(self, right: Node, left: str) -> None:
        table = right.operand(0) if right.kind == "AS" else right
        end = self.text.span(table.extent)[1]
        as_of = f" FOR SYSTEM_TIME AS OF {left}.{identifier(PROCESSING_TIME)}"
        # Without an alias the table's own name would be lost: a snapshot has none.
        alias = "" if right.kind == "AS" else f" AS {identifier(table.names[-1])}"
        self.found.edits.append(Edit(end, end, as_of + alias))

    def refuse(self, node: Node, table: str, message: str, remedy: str) -> None:
        place = self.text.place(*self.text.span(node.extent))
        self.found.problems.append(Problem(message, remedy, table=table, place=place))


def _flatten(source: Node) -> tuple[Node, list[Node]]:
    """The first item of a FROM, and the joins that follow it, from left to right."""
    joins: list[Node] = []
    while source.kind == "JOIN":
        joins.append(source)
        source = source.operand(tree.JOIN_LEFT)
    return source, joins[::-1]


def _is_window(first: Node) -> bool:
    function = first.operand(0) if first.kind == "AS" else first
    return function.kind == "COLLECTION_TABLE"
