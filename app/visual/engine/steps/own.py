"""The step of components of somebody's own: their file is executed here, in the process of its node.

It has the rights of the engine: what it may read and reach is what the account that runs the service may.
"""

from __future__ import annotations

import linecache
import random
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_clusterer, is_regressor

from app.visual.engine import checks
from app.visual.engine.figures import Figures
from app.visual.engine.plan import OWN_FILE, OWN_NAME, OWN_OUTPUTS
from app.visual.engine.steps import Task
from app.visual.engine.values import Model, NodeFailure, Table, Value, types_of

MODULE = "own_component"
"""What the file is called as a module."""
TARGET = "target"
"""In a frame's ``attrs``: the column that models are to predict."""


def run(task: Task) -> Mapping[str, Value]:
    """What the file's function ``run`` gives for the frames and estimators that are tied.

    Tables come as frames whose ``attrs["target"]`` names the target, models as estimators of scikit-learn's, those with
    their preparation as pipelines; the same goes out again. ``figures(port)`` takes what is to be drawn.
    Raises :class:`NodeFailure`, with the line of the file, for all that goes wrong in it.
    """
    name, kinds = task.parameters[OWN_NAME], task.parameters[OWN_OUTPUTS]
    source = Path(task.parameters[OWN_FILE]).read_bytes()
    module = ModuleType(MODULE)
    module.__file__ = name
    sys.modules[MODULE] = module
    text = source.decode("utf-8", "replace")
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    parameters = {key: value for key, value in task.parameters.items() if key not in (OWN_FILE, OWN_NAME, OWN_OUTPUTS)}
    # What draws from the libraries' common generators comes out the same again, too.
    random.seed(task.seed)
    np.random.seed(task.seed % 2**32)
    try:
        exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
        inputs = {port: _given(value) for port, value in task.inputs.items()}
        found = module.run(inputs, parameters, task.seed, _drawn(task, kinds))
    except (NodeFailure, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the file fails by, it is told with its line
        raise NodeFailure(_told(error, name)) from None
    return _taken(found, kinds, task, name)


def _given(value: Value) -> Any:
    if isinstance(value, Model):
        return value.pipeline if value.preparation else value.estimator
    assert isinstance(value, Table), "components of one's own have no ports for networks and drawings"
    frame = value.frame
    if value.target is not None:
        frame.attrs[TARGET] = value.target
    return frame


def _drawn(task: Task, kinds: Mapping[str, str]) -> Callable[[str], Figures]:
    def figures(port: str) -> Figures:
        if port not in kinds:
            raise ValueError(f"there is no output '{port}': there are {', '.join(kinds)}")
        return task.figures(port)

    return figures


def _told(error: BaseException, name: str) -> str:
    """What went wrong, and where in the file; the log gets all lines of the file that led there."""
    own = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == name]
    sys.stdout.write("".join(["Traceback (most recent call last):\n", *traceback.format_list(own)]))
    sys.stdout.write("".join(traceback.format_exception_only(error)))
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SystemExit):
        what = f"It ended its process ({what}), which only the engine may do"
    if not own:
        line = getattr(error, "lineno", None)
        return f"{name}{f', line {line}' if line else ''}: {what}"
    last = own[-1]
    return f"{name}, line {last.lineno}, in {last.name}: {what}" + (f" [{last.line}]" if last.line else "")


def _taken(found: Any, kinds: Mapping[str, str], task: Task, name: str) -> dict[str, Value]:
    """What the function returned as values. Raises :class:`NodeFailure` for what is not as it was declared."""
    given = {} if found is None and set(kinds.values()) == {"metrics"} else found
    if not isinstance(given, Mapping):
        raise NodeFailure(f"{name}: run has to return a dictionary, output -> value; it returned {_a(given)}")
    if more := [str(port) for port in given if port not in kinds]:
        raise NodeFailure(f"{name}: run returned {checks.named(more)}, which COMPONENT does not declare as an output")
    target = next((value.target for value in task.inputs.values() if isinstance(value, Table | Model)), None)
    values: dict[str, Value] = {}
    for port, kind in kinds.items():
        value = given.get(port)
        if kind == "metrics":
            if value is not None:
                raise NodeFailure(f"{name}: the output '{port}' is of figures, which figures('{port}') takes")
        elif value is None:
            raise NodeFailure(f"{name}: run returned nothing for its output '{port}'")
        elif kind == "data":
            values[port] = _table(value, port, target, name)
        else:
            values[port] = _model(value, port, target, task, name)
    return values


def _table(frame: Any, port: str, target: str | None, name: str) -> Table:
    if not isinstance(frame, pd.DataFrame):
        raise NodeFailure(f"{name}: the output '{port}' has to be a DataFrame of pandas; it is {_a(frame)}")
    frame = frame.reset_index(drop=True)
    frame.columns = [str(column) for column in frame.columns]
    if twice := sorted(set(frame.columns[frame.columns.duplicated()])):
        raise NodeFailure(f"{name}: the output '{port}' has {checks.named(twice)} more than once")
    named = frame.attrs.get(TARGET, target)
    frame.attrs = {}
    table = Table(frame, str(named) if named is not None and str(named) in frame.columns else None)
    return Table(table.frame, table.target, columns=types_of(table.features))


def _model(estimator: Any, port: str, target: str | None, task: Task, name: str) -> Model:
    features = getattr(estimator, "feature_names_in_", None)
    if not hasattr(estimator, "get_params") or features is None:
        raise NodeFailure(
            f"{name}: the output '{port}' has to be an estimator of scikit-learn's that was fitted on a DataFrame; "
            f"it is {_a(estimator)}"
        )
    parts = [estimator, *estimator.get_params(deep=True).values()]
    if own := [one for one in parts if getattr(one, "__module__", None) == MODULE]:
        raise NodeFailure(
            f"{name}: the output '{port}' has {_a(own[0])}, which is defined in the file, and no other node could read "
            f"it: use what is in installed libraries"
        )
    kinds = (("classification", is_classifier), ("regression", is_regressor), ("clustering", is_clusterer))
    kind = next((kind for kind, holds in kinds if holds(estimator)), "transformation")
    if kind == "transformation" and hasattr(estimator, "set_output"):
        estimator.set_output(transform="pandas")
    tables = [value for value in task.inputs.values() if isinstance(value, Table)]
    types = next((types_of(one.frame) for one in tables if set(features) <= set(one.frame.columns)), {})
    columns = {str(one): types[one] for one in features if one in types}
    return Model(estimator, kind, [str(one) for one in features], target, columns=columns)


def _a(value: Any) -> str:
    kind = type(value)
    return "nothing" if value is None else f"a {kind.__name__}"
