"""Flink's own syntax tree of a statement, as the planner hands it over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Operands of Calcite's SqlSelect, SqlJoin, SqlInsert and SqlWith by their position.
SELECT_LIST, SELECT_FROM, SELECT_GROUP = 1, 2, 4
JOIN_LEFT, JOIN_NATURAL, JOIN_TYPE, JOIN_RIGHT, JOIN_CONDITION = 0, 1, 2, 3, 5
INSERT_TARGET, INSERT_SOURCE, INSERT_COLUMNS = 1, 2, 3
WITH_ITEMS, WITH_BODY = 0, 1
WITH_ITEM_NAME, WITH_ITEM_QUERY = 0, 2


@dataclass(frozen=True, slots=True)
class Node:
    """A node: Calcite's kind, its place ``(line, column, end line, end column)``, names of an identifier, operands."""

    kind: str
    at: tuple[int, int, int, int]
    names: tuple[str, ...] = ()
    value: str = ""
    operator: str = ""
    operands: tuple[Node | None, ...] = ()

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Node:
        """A node from the planner's answer."""
        line, column, end_line, end_column = raw["at"]
        return cls(
            kind=raw["kind"],
            at=(line, column, end_line, end_column),
            names=tuple(raw.get("names", ())),
            value=raw.get("value", ""),
            operator=raw.get("operator", ""),
            operands=tuple(None if o is None else cls.read(o) for o in raw.get("operands", ())),
        )

    def operand(self, index: int) -> Node:
        """The operand that this kind of node always has."""
        node = self.operands[index]
        if node is None:
            raise ValueError(f"{self.kind} has no operand {index}")
        return node

    def walk(self) -> Iterator[Node]:
        """This node and all below it, outer before inner."""
        yield self
        for operand in self.operands:
            if operand is not None:
                yield from operand.walk()

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """From the first to the last place of the node and all below it: some nodes' own place is too short."""
        places = [node.at for node in self.walk() if node.at[0] > 0]
        first = min(at[:2] for at in places)
        last = max(at[2:] for at in places)
        return (*first, *last)

    def is_star(self) -> bool:
        """Whether it is ``*`` or ``t.*``."""
        return self.kind == "IDENTIFIER" and bool(self.names) and self.names[-1] == ""


def items(node: Node | None) -> Sequence[Node]:
    """The members of a list node; none where the list is absent."""
    return [] if node is None else [o for o in node.operands if o is not None]
