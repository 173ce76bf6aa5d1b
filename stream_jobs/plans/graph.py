"""A compiled plan as a graph of operators."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_TYPE = re.compile(r"stream-exec-(?P<kind>.+)_\d+")


class UnreadablePlan(ValueError):
    """The text is not a compiled plan, or one of a form that is not known."""


@dataclass(frozen=True)
class Operator:
    """One node of a plan. ``kind`` is its type without Flink's frame: ``group-aggregate``."""

    number: int
    kind: str
    spec: Mapping[str, Any]
    inputs: tuple[int, ...]

    @property
    def description(self) -> str:
        """Flink's own words for it."""
        return str(self.spec.get("description", ""))


@dataclass(frozen=True)
class PlanGraph:
    """The operators of a compiled plan by their numbers, each behind those that it reads from."""

    operators: Mapping[int, Operator]

    @cached_property
    def readers(self) -> Mapping[int, Sequence[int]]:
        """The operators that read from an operator."""
        found: dict[int, list[int]] = {number: [] for number in self.operators}
        for operator in self.operators.values():
            for number in operator.inputs:
                found[number].append(operator.number)
        return found

    @cached_property
    def sinks(self) -> Mapping[int, frozenset[str]]:
        """The names of the tables that an operator's rows end in."""
        found: dict[int, frozenset[str]] = {}
        for operator in reversed(self.operators.values()):  # type: ignore[call-overload]
            own = {table_name(operator.spec)} if operator.kind == "sink" else set()
            found[operator.number] = frozenset(own.union(*(found[reader] for reader in self.readers[operator.number])))
        return found

    @cached_property
    def sources(self) -> Mapping[int, frozenset[str]]:
        """The names of the tables that an operator's rows come from."""
        found: dict[int, frozenset[str]] = {}
        for operator in self.operators.values():
            own = {table_name(operator.spec)} if operator.kind == "table-source-scan" else set()
            found[operator.number] = frozenset(own.union(*(found[number] for number in operator.inputs)))
        return found


def read(compiled: str) -> PlanGraph:
    """The plan of Flink's JSON. Raises :class:`UnreadablePlan`."""
    try:
        plan = json.loads(compiled)
        inputs: dict[int, list[int]] = {node["id"]: [] for node in plan["nodes"]}
        for edge in plan["edges"]:
            inputs[edge["target"]].append(edge["source"])
        found = {
            node["id"]: Operator(node["id"], _kind(node["type"]), node, tuple(inputs[node["id"]]))
            for node in plan["nodes"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadablePlan(f"this is not a compiled plan of Flink: {error!r}") from error
    return PlanGraph({number: found[number] for number in _in_order(found)})


def _kind(text: str) -> str:
    matched = _TYPE.fullmatch(text)
    return matched["kind"] if matched else text


def _in_order(operators: Mapping[int, Operator]) -> Iterable[int]:
    """Every operator behind its inputs, else in the plan's own order."""
    done: dict[int, None] = {}
    for number in operators:
        waiting = [number]
        while waiting:
            lacking = [one for one in operators[waiting[-1]].inputs if one not in done]
            if lacking:
                waiting.append(lacking[0])
            else:
                done.setdefault(waiting.pop())
    return done


def table_of(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the plan says of the table that an operator reads, looks up or writes; None where there is none."""
    for place in (spec, spec.get("temporalTable") or {}):
        for kind in ("scanTableSource", "dynamicTableSink", "lookupTableSource"):
            if kind in place:
                table: Mapping[str, Any] = place[kind]["table"]
                return table
    return None


def table_name(spec: Mapping[str, Any]) -> str:
    """The alias of an operator's table."""
    table = table_of(spec)
    return "" if table is None else table["identifier"].rpartition(".`")[2].rstrip("`").replace("``", "`")


def options_of(spec: Mapping[str, Any]) -> Mapping[str, str]:
    """The options of an operator's table."""
    options: Mapping[str, str] = ((table_of(spec) or {}).get("resolvedTable") or {}).get("options") or {}
    return options


def row_fields(row_type: Any) -> list[tuple[str, Any]]:
    """Names and types of a row type, which a plan has as text or as an object."""
    if isinstance(row_type, Mapping):
        return [(field["name"], field["fieldType"]) for field in row_type.get("fields", ())]
    return _fields_of_text(str(row_type))


def _fields_of_text(text: str) -> list[tuple[str, str]]:
    """``ROW<`k` STRING, `r` ROW<`a` INT>>`` to its fields."""
    begin, end = text.find("<"), text.rfind(">")
    if not text.startswith("ROW") or begin < 0:
        return []
    fields: list[tuple[str, str]] = []
    depth, quoted, start = 0, False, begin + 1
    for at in range(begin + 1, end + 1):
        character = text[at]
        if character == "`":
            quoted = not quoted
        elif quoted:
            continue
        elif character in "<(":
            depth += 1
        elif at == end or (character == "," and depth == 0):
            name, _, of = text[start:at].strip()[1:].partition("` ")
            fields.append((name, of))
            start = at + 1
        elif character in ">)":
            depth -= 1
    return fields
