"""Lookup joins: the user writes a plain JOIN on a side table, Flink needs ``FOR SYSTEM_TIME AS OF``.

A plain JOIN on a database table plans, too, but reads the table once and keeps both sides in state for ever. So
every join on a side table that is asked is made a lookup as of processing time. The processing-time column is added
right at the join, and ``*`` is written out where it would show it. A side table that is a topic is joined as of the
stream's event time. A join that the user wrote as a lookup is left alone.

Positions come from Flink's own syntax tree; the user's text is edited in place, never printed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stream_jobs.definitions import HttpLookup, KafkaLookup, RedisLookup, Table
from stream_jobs.problems import Problem
from stream_jobs.sql import tree
from stream_jobs.sql.from_items import FromItems, Named, Query, alias_of, flatten, is_as_of_now, rights
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
    #: SELECTs whose ``*`` must be written out because there is a column below them that nobody is to see.
    starred: list[Node] = field(default_factory=list)


def lookup_joins(query: Node, text: Text, tables: Sequence[Table]) -> LookupJoins:
    """The edits that make each plain join on a side table among ``tables`` a lookup join."""
    found = LookupJoins()
    _Rewriter(text, tables, found).visit(query, {})
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
    def __init__(self, text: Text, tables: Sequence[Table], found: LookupJoins) -> None:
        self.text = text
        self.items = FromItems(tables)
        self.found = found

    def visit(self, node: Node | None, named: Named) -> None:
        """Every query below the node."""
        if node is None:
            return
        if node.kind == "WITH":
            for item in tree.items(node.operand(tree.WITH_ITEMS)):
                query = item.operand(tree.WITH_ITEM_QUERY)
                self.visit(query, named)
                named = {**named, item.operand(tree.WITH_ITEM_NAME).names[-1]: Query(query, named)}
            self.visit(node.operand(tree.WITH_BODY), named)
        elif node.kind == "SELECT":
            for index, operand in enumerate(node.operands):
                if index != tree.SELECT_FROM:
                    self.visit(operand, named)
            self.source(node, named)
        else:
            for operand in node.operands:
                self.visit(operand, named)

    def source(self, select: Node, named: Named) -> None:
        """The FROM of one SELECT."""
        source = select.operands[tree.SELECT_FROM]
        if source is None:
            return
        first, joins = flatten(source)
        added = [join for join in joins if self.items.side_name(join.operand(tree.JOIN_RIGHT), named)]
        if any(self.read_alone(item, named) for item in (first, *rights(joins)) if item not in rights(added)):
            return
        self.visit(first, named)
        for join in joins:
            if join not in added:
                self.visit(join.operand(tree.JOIN_RIGHT), named)
            self.visit(join.operands[tree.JOIN_CONDITION], named)
        if self.loses_window(select, named) or not all(self.can_look_up(join, named) for join in added):
            return
        self.rewrite(first, added, named)
        if added and any(item.is_star() for item in tree.items(select.operand(tree.SELECT_LIST))):
            self.found.starred.append(select)

    def rewrite(self, first: Node, added: Sequence[Node], named: Named) -> None:
        """Makes the joins on side tables what Flink needs; ``first`` is what stands before them."""
        topics: list[tuple[Node, Table]] = []
        asked: list[tuple[Node, Table]] = []
        for join in added:
            table = self.items.sides[self.items.side_name(join.operand(tree.JOIN_RIGHT), named)]
            (topics if isinstance(table.connector, KafkaLookup) else asked).append((join, table))
        event_time = self.items.event_time(first, named)
        for join, table in topics:
            assert isinstance(table.connector, KafkaLookup)
            if event_time:
                self.as_of(join.operand(tree.JOIN_RIGHT), f"{identifier(alias_of(first))}.{identifier(event_time)}")
            elif table.connector.versioned:
                self.refuse(
                    join.operand(tree.JOIN_RIGHT),
                    table.name,
                    f"side table {table.name!r} is joined as of event time, and what stands before it has none.",
                    "Join it right with a source table that has event time, or with a subquery that passes that "
                    f"column on, or write JOIN {table.name} FOR SYSTEM_TIME AS OF <its event time> yourself.",
                )
        if asked:
            left = self.add_processing_time(first)
            for join, _ in asked:
                self.as_of(join.operand(tree.JOIN_RIGHT), f"{left}.{identifier(PROCESSING_TIME)}")

    def read_alone(self, item: Node, named: Named) -> bool:
        """Whether a FROM item reads a side table as if it were a stream; refuses that."""
        item = item.operand(0) if item.kind in ("AS", "LATERAL") else item
        if item.kind == "LATERAL":
            return self.read_alone(item, named)
        if item.kind == "JOIN":
            first, joins = flatten(item)
            return any(self.read_alone(one, named) for one in (first, *rights(joins)))
        if item.kind == "COLLECTION_TABLE":
            explicit = [node.operand(0) for node in item.walk() if node.kind == "EXPLICIT_TABLE"]
            return any(self.read_alone(one, named) for one in explicit)
        name = self.items.side_name(item, named)
        if name:
            self.refuse(
                item,
                name,
                f"side table {name!r} is read on its own.",
                f"A side table can only be looked up, row by row: FROM stream JOIN {name} ON stream.key = {name}.key; "
                "a filter on it belongs into ON as well.",
            )
        return bool(name)

    def can_look_up(self, join: Node, named: Named) -> bool:
        right = join.operand(tree.JOIN_RIGHT)
        name = self.items.side_name(right, named)
        kind = join.operand(tree.JOIN_TYPE).value
        if kind in ("INNER", "LEFT") and join.operands[tree.JOIN_CONDITION] is not None:
            return self.asks_by_key(join, self.items.sides[name])
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

    def asks_by_key(self, join: Node, table: Table) -> bool:
        """Whether a side table that knows its rows by key only is asked by that. A database takes any condition."""
        if not isinstance(table.connector, HttpLookup | RedisLookup | KafkaLookup):
            return True
        condition = join.operand(tree.JOIN_CONDITION)
        asked = set(_compared(condition, alias_of(join.operand(tree.JOIN_RIGHT)), table))
        lacking = [key for key in table.join_key if key not in asked]
        more = sorted(asked - set(table.join_key)) if not isinstance(table.connector, KafkaLookup) else []
        if not lacking and not more:
            return True
        keys = ", ".join(table.join_key)
        if lacking:
            message = f"side table {table.name!r} is found by {keys}, and the join says nothing of {lacking[0]}."
            remedy = f"Add {table.name}.{lacking[0]} = ... to ON, or change the table's join key."
        else:
            message = f"side table {table.name!r} is asked by {keys} only, and the join also compares {more[0]}."
            remedy = f"Move the comparison of {more[0]} into WHERE, or add it to the table's join key."
        self.refuse(condition, table.name, message, remedy)
        return False

    def loses_window(self, select: Node, named: Named) -> bool:
        """Whether rows of a window are joined with a side table and then grouped; refuses that.

        Flink accepts it and computes an aggregate that never ends.
        """
        source = select.operands[tree.SELECT_FROM]
        if source is None or not tree.items(select.operands[tree.SELECT_GROUP]):
            return False
        join = self.items.join_in_window(source, named)
        if join is None:
            return False
        right = join.operand(tree.JOIN_RIGHT)
        self.refuse(
            right,
            self.items.joined_side(right, named),
            "a window cannot be joined with a side table and then be grouped by: the window would be lost.",
            "Join first and open the window over the result: WITH joined AS (SELECT ... JOIN ...) "
            "SELECT ... FROM TUMBLE(TABLE joined, ...) GROUP BY ..., window_start, window_end.",
        )
        return True

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

    def as_of(self, right: Node, time: str) -> None:
        table = right.operand(0) if right.kind == "AS" else right
        # Without an alias the table's own name would be lost: a snapshot has none.
        alias = "" if right.kind == "AS" else f" AS {identifier(alias_of(right))}"
        if is_as_of_now(table):
            start, end = self.text.span(table.operand(1).extent)
            self.found.edits.append(Edit(start, end, time + alias))
        else:
            end = self.text.span(table.extent)[1]
            self.found.edits.append(Edit(end, end, f" FOR SYSTEM_TIME AS OF {time}{alias}"))

    def refuse(self, node: Node, table: str, message: str, remedy: str) -> None:
        place = self.text.place(*self.text.span(node.extent))
        self.found.problems.append(Problem(message, remedy, table=table, place=place))


def _compared(condition: Node, alias: str, table: Table) -> Iterator[str]:
    """The columns of a side table that a join's condition demands to be equal to something."""
    if condition.kind == "LIST":  # USING
        yield from (name.names[-1] for name in tree.items(condition))
    elif condition.kind == "AND":
        for operand in tree.items(condition):
            yield from _compared(operand, alias, table)
    elif condition.kind == "EQUALS":
        own = {column.name for column in table.columns}
        for side in tree.items(condition):
            if side.kind == "IDENTIFIER" and side.names[-1] in own and side.names[:-1] in ((), (alias,)):
                yield side.names[-1]
