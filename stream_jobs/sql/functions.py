"""Which functions a statement calls, by Flink's own tree of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stream_jobs.definitions import Function, FunctionKind, Statement
from stream_jobs.problems import InvalidJob, Problem
from stream_jobs.sql.source import Text
from stream_jobs.sql.tree import Node


def calls(root: Node) -> Iterator[tuple[str, Node]]:
    """The functions that are called, by their names in small letters, each with its place in the tree."""
    for node in root.walk():
        if node.kind == "OTHER_FUNCTION":
            yield node.operator.lower(), node


def called(root: Node, text: Text, statement: Statement, known: Mapping[str, Function]) -> set[Function]:
    """Those of the ``known`` functions, by their names in small letters, that a statement calls.

    Raises:
        InvalidJob: it calls one that SQL cannot call.
    """
    found: set[Function] = set()
    problems: list[Problem] = []
    for name, node in calls(root):
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
