"""Which functions a statement calls, by Flink's own tree of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from stream_jobs.definitions import Function, FunctionKind, Statement
from stream_jobs.problems import InvalidJob, Problem
from stream_jobs.sql.source import Text
from stream_jobs.sql.tree import Node

_READ_TIMES = frozenset({"to_timestamp", "to_timestamp_ltz"})


def calls(root: Node) -> Iterator[tuple[str, Node]]:
    """The functions that are called, by their names in small letters, each with its place in the tree."""
    for node in root.walk():
        if node.kind == "OTHER_FUNCTION":
            yield node.operator.lower(), node


def fault(name: str, node: Node) -> tuple[str, str] | None:
    """What is wrong with a call that Flink accepts and computes wrongly, and the remedy; None when nothing is."""
    if name not in _READ_TIMES or len(node.operands) < 2 or node.operands[1] is None:
        return None
    pattern = node.operands[1].value
    unquoted = re.sub(r"'[^']*'", "", pattern[pattern.find("'") + 1 : pattern.rfind("'")].replace("''", "'"))
    if node.operands[1].kind != "LITERAL" or not re.search("[XxZOV]", unquoted):
        return None
    return (
        f"{name.upper()} reads the offset in a text and then ignores it: the times would be wrong by it.",
        "Define the column as TIMESTAMP_LTZ(3) with timeFormat rfc3339 (or auto), which reads offsets.",
    )


def called(root: Node, text: Text, statement: Statement, known: Mapping[str, Function]) -> set[Function]:
    """Those of the ``known`` functions, by their names in small letters, that a statement calls.

    Raises:
        InvalidJob: it calls one that SQL cannot call, or one in a way that Flink would compute wrongly.
    """
    found: set[Function] = set()
    problems: list[Problem] = []
    for name, node in calls(root):
        if wrong := fault(name, node):
            problems.append(Problem(*wrong, statement=statement.sink, place=text.place(*text.span(node.extent))))
        function = known.get(name)
        if function is None:
            continue
        found.add(function)
        if function.kind is FunctionKind.TABLE_AGGREGATE:
            problems.append(
                Problem(
                    f"{function.name} is a table aggregate function (TABLEAGG), which Flink SQL cannot call.",
                    "Use an AGGREGATE function that returns an array, or a Top-N query with ROW_NUMBER().",
                    statement=statement.sink,
                    place=text.place(*text.span(node.extent)),
                )
            )
    if problems:
        raise InvalidJob(problems)
    return found


def refuse_mixed_modules(functions: Iterable[Function]) -> None:
    """Python finds one module of a name: two files that both have it cannot be used in one job.

    Raises:
        InvalidJob: naming the functions.
    """
    first: dict[str, Function] = {}
    for function in functions:
        if function.kind is FunctionKind.PYTHON:
            module = function.implementation.split(".")[0]
            other = first.setdefault(module, function)
            if other.sha256 != function.sha256:
                raise InvalidJob(
                    [
                        Problem(
                            f"functions {other.name} and {function.name} are of two files that both have a Python "
                            f"module {module!r}.",
                            "Upload one file for both, or call one of the modules otherwise.",
                        )
                    ]
                )
