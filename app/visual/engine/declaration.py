"""``python declaration.py FILE``: what a file of somebody's own says it is, as JSON. Nothing of the file is executed.

It reads ``COMPONENT = {...}``, which has to be written out, and looks whether there is a function ``run``. It imports
nothing of ours, and takes little memory and time, whatever the file has in it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

NAME, FUNCTION = "COMPONENT", "run"
ARGUMENTS = ["inputs", "parameters", "seed", "figures"]

_MEMORY_BYTES = 512 * 1024**2
_CPU_S = 5


class Wrong(Exception):
    """What is wrong with the file, and in which line."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def declared(source: bytes) -> dict[str, Any]:
    """The value of ``COMPONENT``. Raises :class:`Wrong`."""
    try:
        tree = ast.parse(source)
        compile(source, "<component>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise Wrong(f"it is not Python {version}: {error.args[0]}", getattr(error, "lineno", None)) from None
    _look_for_function(tree)
    values = [value for name, value in _assigned(tree) if name == NAME]
    if len(values) != 1:
        raise Wrong(f"it assigns {NAME} {len(values)} times, and not once, at its top level")
    (value,) = values
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError):
        computed = next((one for one in ast.walk(value) if not isinstance(one, _LITERAL)), value)
        line = getattr(computed, "lineno", value.lineno)
        raise Wrong(f"{NAME} has to be written out, without names, calls or calculations", line) from None
    if not isinstance(found, dict):
        raise Wrong(f"{NAME} is no dictionary", value.lineno)
    return found


_LITERAL = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.UnaryOp, ast.USub, ast.UAdd, ast.expr_context)


def _assigned(tree: ast.Module) -> list[tuple[str, ast.expr]]:
    found: list[tuple[str, ast.expr]] = []
    for one in tree.body:
        match one:
            case ast.Assign(targets=targets, value=value):
                found += [(target.id, value) for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found.append((name, value))
    return found


def _look_for_function(tree: ast.Module) -> None:
    wanted = f"def {FUNCTION}({', '.join(ARGUMENTS)})"
    made = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == FUNCTION]
    if not made:
        raise Wrong(f"it has no function '{FUNCTION}': write {wanted}")
    arguments = made[-1].args
    if [one.arg for one in (*arguments.posonlyargs, *arguments.args)] != ARGUMENTS or arguments.kwonlyargs:
        raise Wrong(f"its function '{FUNCTION}' takes other arguments: write {wanted}", made[-1].lineno)


def _as_json(value: dict[str, Any]) -> str:
    try:
        text = json.dumps({"declared": value}, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise Wrong(f"{NAME} has what JSON has no form for: {error}") from None
    if "\\u0000" in text:
        raise Wrong(f"{NAME} has the character NUL in a text")
    return text


def main() -> None:
    with contextlib.suppress(ValueError, OSError):  # a system may not have such limits, or have lower ones
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    try:
        said = _as_json(declared(Path(sys.argv[1]).read_bytes()))
    except Wrong as wrong:
        said = json.dumps({"wrong": str(wrong), "line": wrong.line})
    except (MemoryError, RecursionError):
        said = json.dumps({"wrong": "it is too deeply nested, or too large", "line": None})
    sys.stdout.buffer.write(said.encode())


if __name__ == "__main__":
    main()
