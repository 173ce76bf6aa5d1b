"""The functions of a request to the planner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stream_jobs.definitions import Function, FunctionKind
from stream_jobs.sql.quoting import identifier, literal


@dataclass(frozen=True, slots=True)
class FunctionSet:
    """Functions as the planner is told of them.

    ``statements`` create them, ``python_path`` is where their Python modules are found, and ``options`` are what a
    run needs that uses them.
    """

    statements: tuple[str, ...] = ()
    python_path: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


NO_FUNCTIONS = FunctionSet()


def create_function(function: Function, jars: Sequence[Path]) -> str:
    """The statement that creates a function of these jars; a Python function has none."""
    # Temporary, so that a compiled plan refers to it by its name alone and takes the class from where it runs; and of
    # the system, so that it is there in every database.
    create = f"CREATE TEMPORARY SYSTEM FUNCTION {identifier(function.name)} AS {literal(function.implementation)}"
    if function.kind is FunctionKind.PYTHON:
        return f"{create} LANGUAGE PYTHON"
    return f"{create} LANGUAGE JAVA USING {', '.join(f'JAR {literal(jar.as_uri())}' for jar in jars)}"


def shipped_statements(functions: Iterable[Function]) -> tuple[str, ...]:
    """The statements of functions that are on the class path; those that a job brings itself stay as they are."""
    return tuple(
        f"CREATE TEMPORARY SYSTEM FUNCTION IF NOT EXISTS {identifier(function.name)} AS "
        f"{literal(function.implementation)} LANGUAGE JAVA"
        for function in functions
    )
