"""Which functions a statement calls, by Flink's own tree of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

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
