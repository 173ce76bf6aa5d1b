"""A program that grows section by section: its imports, the functions that it calls, and the lines of each node."""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import keyword
import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any

from app.visual.engine import transformers
from app.visual.engine.scripts import helpers, writer
from app.visual.engine.steps import as_the_library_has_it, library_class, parameters_of
from app.visual.engine.values import NodeFailure

WIDTH = 100
"""Calls that are longer are written an argument a line."""

LOCALS = frozenset(
    ("features", "labels", "true", "predicted", "scores", "found", "told", "values", "low", "high", "far")
)
LOCALS |= {"wanted", "report", "pipeline", "sizes", "train", "test", "order", "figures", "name", "count", "i", "made"}
"""What sections call what they need for themselves."""


@dataclass(frozen=True)
class Rows:
    """A table: the variable that has it, its target, and the variables of what its features went through."""

    name: str
    target: str | None = None
    preparation: tuple[str, ...] = ()

    @property
    def features(self) -> str:
        """The expression of the columns that are not the target."""
        return self.name if self.target is None else f"{self.name}.drop(columns={literal(self.target)})"

    @property
    def labels(self) -> str:
        """The expression of the target's column."""
        return f"{self.name}[{literal(self.target)}]"

    def with_labels(self, labels: str, of: str | None = None) -> str:
        """The expression of ``of``, or of these rows, with labels in the target's place; there may be no target."""
        of = of or self.name
        return of if self.target is None else f"{of}.assign({keywords({self.target: Code(labels)})})"


@dataclass(frozen=True)
class Fitted:
    """A model: the variable of the estimator, and those of what its rows go through before it."""

    name: str
    task: str
    """Empty where only the model itself knows."""
    target: str | None = None
    preparation: tuple[str, ...] = ()
    tells: bool | None = False
    """Whether it tells probabilities; None where only the model itself knows."""
    of_classes: bool = True
    """Whether it has classes, and not clusters only."""
    loaded: bool = False
    """Whether it comes from elsewhere, as one with what its rows go through before it."""


class Code(str):
    """An expression, where a value is expected otherwise."""


@dataclass(frozen=True)
class Node:
    """A node of a graph, as the service sends it."""

    id: int
    label: str
    step: str
    outputs: Sequence[str]
    of: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    """Of a data set: ``preset``; or ``file``, ``id``, ``encoding``, ``delimiter`` and ``header``. Of a model that
    another job has trained: ``file``, ``id``, ``task`` and ``target``. Of a component of one's own: ``file``, ``id``
    and ``kinds``, output -> type."""


class Section:
    """A node whose lines are being written."""

    def __init__(self, program: Program, node: Node, name: str, inputs: Mapping[str, Rows | Fitted]) -> None:
        self._program = program
        self.node = node
        self.name = name
        """What its variables are called by."""
        self._inputs = inputs
        self.parameters = node.parameters
        self.lines: list[str] = []

    def rows(self, port: str = "data") -> Rows:
        """The table at an input port."""
        found = self._inputs[port]
        assert isinstance(found, Rows)
        return found

    def optional_rows(self, port: str) -> Rows | None:
        """The table at an input port that may be open."""
        return self.rows(port) if port in self._inputs else None

    @property
    def inputs(self) -> Mapping[str, Rows | Fitted]:
        """What is at the input ports that are tied."""
        return self._inputs

    def model(self, port: str = "model") -> Fitted:
        """The model at an input port."""
        found = self._inputs[port]
        assert isinstance(found, Fitted)
        return found

    def optional_model(self, port: str) -> Fitted | None:
        """The model at an input port that may be open."""
        return self.model(port) if port in self._inputs else None

    def output(self, port: str) -> str:
        """The variable of an output port."""
        only = self.node.outputs in ([port], (port,))
        return self.name if only else self._program.variable(f"{self.name}_{port}")

    def line(self, text: str) -> None:
        """Write a line."""
        self.lines.append(text)

    def set(self, variable: str, value: str) -> None:
        """Write an assignment."""
        self.line(f"{variable} = {value}")

    def use(self, *names: str) -> None:
        """Import what is called ``module.name``."""
        for name in names:
            module, _, last = name.rpartition(".")
            self._program.imports.add(f"from {module} import {last}" if module else f"import {last}")

    def import_as(self, line: str) -> None:
        """Import by a line of one's own."""
        self._program.imports.add(line)

    def helper(self, name: str) -> str:
        """A function of the helpers', which comes with the program. Its name."""
        self._program.include(getattr(helpers, name))
        return name

    def own(self, name: str) -> str:
        """One of our transformers, whose source comes with the program. Its name."""
        self._program.include(getattr(transformers, name))
        return name

    @property
    def seed(self) -> Code:
        """The node's own seed, or the program's."""
        own = self.parameters.get("random_state")
        return Code("SEED" if own is None else repr(int(own)))

    def make(self, **more: Any) -> str:
        """A call that makes an object of the component's class, as :meth:`app.visual.engine.steps.Task.make`."""
        assert self.node.of is not None
        return self.make_of(self.node.of, self.parameters, **more)

    def make_of(self, of: str, parameters: Mapping[str, Any], **more: Any) -> str:
        """The same for another class. What is the library's default is left out."""
        module, _, name = of.rpartition(".")
        if module == transformers.__name__:
            self.own(name)
        else:
            self.use(of)
        made = library_class(of)
        known, signature = parameters_of(made), inspect.signature(made).parameters
        given = {one: as_the_library_has_it(value) for one, value in parameters.items() if one in known}
        seed = {"random_state": self.seed} if "random_state" in known else {}
        chosen = {**seed, **given, **more}
        if "random_state" in seed:
            chosen["random_state"] = self.seed
        told = {one: value for one, value in chosen.items() if not _same(value, signature[one].default)}
        return call(name, told)

    def tells_probabilities(self) -> bool:
        """Whether what :meth:`make` makes tells probabilities."""
        assert self.node.of is not None
        made = library_class(self.node.of)
        known = parameters_of(made)
        given = {one: as_the_library_has_it(value) for one, value in self.parameters.items() if one in known}
        return hasattr(made(**given), "predict_proba")

    def input_file(self) -> str:
        """The variable of the file that the node brings in; nodes that bring in the same one share it."""
        source, files = self.node.source, self._program.files
        name, same = str(source["file"]), source.get("id")
        for variable, known in files.items():
            if known == (name, same):
                return variable
        variable = self._program.variable(f"{self.name}_file")
        files[variable] = (name, same)
        return variable

    def columns(self, otherwise: str, of: str = "features") -> str:
        """The expression of the chosen columns; where none are, a helper tells those of ``of``."""
        if chosen := self.parameters.get("columns"):
            return literal(list(chosen))
        return f"{self.helper(otherwise)}({of})"

    def features_and_labels(self, rows: Rows) -> str:
        """Write ``features``, and ``labels`` where there are any: the arguments to fit with."""
        if rows.target is None:
            self.set("features", rows.name)
            return "features"
        self.line(f"features, labels = {rows.features}, {rows.labels}")
        return "features, labels"

    def table(self, variable: str, columns: Mapping[str, str]) -> None:
        """Write a dictionary of expressions."""
        self.set(variable, "{")
        for name, values in columns.items():
            self.line(f"    {literal(name)}: {values},")
        self.line("}")

    def show(self, figures: str, title: str | None = None) -> None:
        """Print figures, a name and a value each."""
        self.line(f"{self.helper('show')}({literal(title or self.node.label)}, {figures})")

    def show_table(self, columns: str, title: str | None = None) -> None:
        """Print columns."""
        self.line(f"{self.helper('show_table')}({literal(title or self.node.label)}, {columns})")


class Program:
    """Nodes come in an order in which they can be run."""

    def __init__(self, title: str, seed: int) -> None:
        self._title = title
        self._seed = seed
        self.imports: set[str] = {"from threadpoolctl import threadpool_limits"}
        self._included: dict[str, str] = {}
        self._sections: list[Section] = []
        self.outputs: dict[tuple[int, str], Rows | Fitted] = {}
        """Node and port -> what stands there."""
        self._taken = {*keyword.kwlist, *dir(builtins), *LOCALS, *vars(helpers), "SEED", *_IMPORTED}
        self.files: dict[str, tuple[str, Any]] = {}
        """Variable -> the name of a file that is brought in, and what tells it from others of that name."""

    def add(self, node: Node) -> None:
        """Write a node. Raises LookupError where its step has no writer."""
        name = self.variable(_name_of(node))
        for source, port in node.inputs.values():
            if (source, port) not in self.outputs:
                raise NodeFailure(
                    f"'{node.label}': nothing comes out of the port '{port}' that it is tied to: "
                    f"tie the input '{port}' of the node before, too"
                )
        inputs = {port: self.outputs[source, out] for port, (source, out) in node.inputs.items()}
        section = Section(self, node, name, inputs)
        for port, symbol in writer(node.step)(section).items():
            self.outputs[node.id, port] = symbol
        self._sections.append(section)

    def variable(self, wanted: str) -> str:
        """A name that nothing else has."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def include(self, one: Any) -> None:
        """Copy the source of a function or a class, with all that it needs."""
        if one.__name__ in self._included:
            return
        source = re.sub(r"  # type: ignore.*", "", inspect.getsource(one)).rstrip()
        module = inspect.getmodule(one)
        self._included[one.__name__] = ""  # it may call itself
        for name in sorted({node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}):
            found = vars(module).get(name)
            if found is None or name == one.__name__:
                continue
            if inspect.getmodule(found) is module:
                self.include(found)
            else:
                self.imports.add(_import_line(name, found, module))
        del self._included[one.__name__]
        self._included[one.__name__] = source

    def script(self) -> str:
        """The text of a Python file."""
        places = [
            f"{variable} = sys.argv[{n}] if len(sys.argv) > {n} else {literal(file)}"
            for n, (variable, (file, _)) in enumerate(self.files.items(), 1)
        ]
        if places:
            self.imports.add("import sys")
        usage = "".join(f" [{_quoted(file)}]" for file, _ in self.files.values())
        about = f'"""{_quoted(self._title)}\n\nUsage: python THIS_FILE{usage}\n"""'
        functions = "".join(f"{source}\n\n\n" for source in self._included.values())
        sections = "\n\n".join(_commented(section) for section in self._sections)
        return f"{about}\n\n{self._head(places)}\n\n\n{functions}{sections}\n"

    def notebook(self) -> str:
        """The text of a notebook of the format 4.5: a cell a node, behind those of the imports and the functions."""
        files = [f"{variable} = {literal(file)}" for variable, (file, _) in self.files.items()]
        cells = [_cell("markdown", "title", f"# {self._title}"), _cell("code", "imports", self._head(files))]
        if self._included:
            cells.append(_cell("code", "functions", "\n\n\n".join(self._included.values())))
        for section in self._sections:
            cells.append(_cell("code", f"node-{section.node.id}", _commented(section)))
        told = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        made = {"cells": cells, "metadata": told, "nbformat": 4, "nbformat_minor": 5}
        return json.dumps(made, ensure_ascii=False, indent=1)

    def _head(self, files: Sequence[str]) -> str:
        standard = {line for line in self.imports if line.split()[1].split(".")[0] in _STANDARD}
        groups = [sorted(standard, key=_order), sorted(self.imports - standard, key=_order)]
        imports = "\n\n".join("\n".join(_joined(group)) for group in groups if group)
        limits = "threadpool_limits(1)  # as in the run, so that sums are added up in the same order"
        settings = "\n".join([f"SEED = {self._seed}", *files, limits])
        return f"from __future__ import annotations\n\n{imports}\n\n{settings}"


_STANDARD = frozenset(
    {"collections", "contextlib", "functools", "importlib", "pathlib", "random", "runpy", "sys", "typing"}
)
_IMPORTED = frozenset(
    {
        *("learning_curve", "permutation_importance", "train_test_split", "cross_validate", "clone", "make_pipeline"),
        *("datasets", "metrics", "partial", "random", "runpy", "sys", "Path", "threadpool_limits"),
    }
)
"""Names that sections import, which no variable may take."""


def call(name: str, arguments: Mapping[str, Any], *first: str) -> str:
    """A call with ``first``, which are expressions, and arguments by name."""
    written = ", ".join([*first, *([keywords(arguments)] if arguments else [])])
    if len(name) + len(written) < WIDTH:
        return f"{name}({written})"
    lines = [f"{one},\n" for one in (*first, *(keywords({name: value}) for name, value in arguments.items()))]
    return f"{name}(\n{indent(''.join(lines), '    ')})"


def keywords(arguments: Mapping[str, Any]) -> str:
    """Arguments by name, also by names that are none in Python."""
    plain = [f"{one}={literal(value)}" for one, value in arguments.items() if _is_name(one)]
    others = [f"{literal(one)}: {literal(value)}" for one, value in arguments.items() if not _is_name(one)]
    return ", ".join([*plain, *([f"**{{{', '.join(others)}}}"] if others else [])])


def literal(value: Any) -> str:
    """A value as it is written."""
    match value:
        case Code():
            return str(value)
        case str() if value.isprintable() and not set(value) & set('"\\'):
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case float() if not math.isfinite(value):
            return f'float("{value}")'
        case _:
            return repr(value)


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, Code) or isinstance(value, bool) != isinstance(default, bool):
        return False
    return bool(value == default)


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def _name_of(node: Node) -> str:
    """What a node's variables are called by: its class where it has one, which is short, or else its label."""
    words = node.label if node.of is None else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.of.rpartition(".")[2])
    name = re.sub(r"\W+", "_", words.lower()).strip("_")
    return name if name.isidentifier() else f"node_{name}"


def _quoted(text: str) -> str:
    """Text that cannot end the string that it stands in."""
    return "".join(one if one.isprintable() else " " for one in text).replace("\\", "/").replace('"', "'")


def _commented(section: Section) -> str:
    return "\n".join([f"# {section.node.label}", *section.lines])


def _cell(kind: str, name: str, text: str) -> dict[str, Any]:
    lines = text.splitlines(keepends=True)
    more: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "id": name, "metadata": {}, "source": lines, **more}


def _order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line.lower()


def _joined(lines: Sequence[str]) -> list[str]:
    """Imports out of one module in one line."""
    plain = [line for line in lines if not line.startswith("from")]
    names: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("from"):
            module, _, name = line.removeprefix("from ").partition(" import ")
            names.setdefault(module, []).append(name)
    return plain + [f"from {module} import {', '.join(sorted(some))}" for module, some in sorted(names.items())]


def _import_line(name: str, found: Any, module: Any) -> str:
    if isinstance(found, types.ModuleType):
        package, _, last = found.__name__.rpartition(".")
        if last == name and package:
            return f"from {package} import {name}"
        return f"import {found.__name__}" if found.__name__ == name else f"import {found.__name__} as {name}"
    # Names are imported from where they are published, not from where they happen to stand.
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.ImportFrom) and any(one.name == name for one in statement.names):
            return f"from {statement.module} import {name}"
    raise AssertionError(f"{module.__name__} does not import {name}")
