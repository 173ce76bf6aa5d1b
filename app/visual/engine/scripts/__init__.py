"""Graphs as programs of scikit-learn's, as a person would write them, which need nothing of ours.

Each module here stands beside the one of that name in :mod:`app.visual.engine.steps`: for each step it has a function
of the same name, a *writer*, which writes the lines that do what the step does. ``program`` puts them together,
``helpers`` has what several of them call.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

Writer = Callable[[Any], Mapping[str, Any]]
"""From a node (:class:`app.visual.engine.scripts.program.Section`) to what stands at its output ports."""


def writer(step: str) -> Writer:
    """What writes a step, as ``module.function``. Raises LookupError where nobody has said how it is written."""
    module, _, function = step.rpartition(".")
    try:
        found: Writer = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    except (ImportError, AttributeError):
        raise LookupError(f"Nobody has said how '{step}' is written as a program") from None
    return found
