"""What nodes do: each step is a function from a :class:`Task` to the values at its output ports."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.visual.engine.figures import Figures
from app.visual.engine.networks import Network
from app.visual.engine.values import Model, NodeFailure, Table, Value


@dataclass(frozen=True)
class Task:
    """What a step is given."""

    name: str
    of: str | None
    """The library's class that it is to use, as ``module.Class``."""
    parameters: Mapping[str, Any]
    """All that were set, and the defaults of the others; None is left out."""
    inputs: Mapping[str, Value]
    seed: int
    figures: Callable[[str], Figures]
    """What is drawn of an output port."""
    processors: int = 1
    """How many processes a step may compute in, where it starts some itself."""
    scratch: Path | None = None
    """Where a step may leave what only it needs: it goes with the run. None: the system's place for such files."""

    def table(self, port: str = "data") -> Table:
        """The table at an input port, which is tied."""
        found = self.inputs[port]
        assert isinstance(found, Table)
        return found

    def optional_table(self, port: str) -> Table | None:
        """The table at an input port that may be open."""
        return self.table(port) if port in self.inputs else None

    def model(self, port: str = "model") -> Model:
        """The model at an input port."""
        found = self.inputs[port]
        assert isinstance(found, Model)
        return found

    def network(self, port: str = "network") -> Network:
        """The network at an input port."""
        found = self.inputs[port]
        assert isinstance(found, Network)
        return found

    @property
    def random_state(self) -> int:
        """The node's own seed, or the run's."""
        return int(self.parameters.get("random_state", self.seed))

    def make(self, **more: Any) -> Any:
        """An object of the class, with the parameters that it knows, the seed where it takes one, and ``more``."""
        assert self.of is not None
        return self.make_of(self.of, **more)

    def make_of(self, name: str, **more: Any) -> Any:
        """An object of another class than the component's own, made in the same way."""
        made = library_class(name)
        known = parameters_of(made)
        given = {name: as_the_library_has_it(value) for name, value in self.parameters.items() if name in known}
        seed = {"random_state": self.random_state} if "random_state" in known else {}
        try:
            return made(**{**seed, **given, **more})
        except (TypeError, ValueError) as error:
            raise NodeFailure(f"{name} cannot be made with these parameters: {error}") from error


NONE = "none"
"""Chosen, it stands for the library's None, where that is a choice of its own and not the default."""


Step = Callable[[Task], Mapping[str, Value]]


def step(name: str) -> Step:
    """The step that a component names, as ``module.function`` of this package."""
    module, _, function = name.rpartition(".")
    found: Step = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return found


def library_class(name: str) -> Any:
    """A library's class by its name, as ``module.Class``."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def parameters_of(made: Any) -> set[str]:
    """What a library's class can be made with, without what its library is about to drop."""
    known = inspect.signature(made).parameters.values()
    return {one.name for one in known if not (isinstance(one.default, str) and one.default in ("deprecated", "warn"))}


def as_the_library_has_it(value: Any) -> Any:
    """A parameter's value as the library's classes take it."""
    if isinstance(value, list):
        return tuple(value)
    return None if value == NONE else value
