"""The functions of a job made ready for the planner: their files under names that Flink and Python take."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from stream_jobs.definitions import Function, FunctionKind
from stream_jobs.models import is_of_a_model
from stream_jobs.planner.client import PlannerConfig, PlannerError
from stream_jobs.planner.function_sets import FunctionSet, create_function


class FunctionFileMissing(PlannerError):
    """The file of a function is not where uploaded files are."""


def prepare(
    functions: Iterable[Function], config: PlannerConfig, *, bring_shipped: bool = False, bring_models: bool = False
) -> FunctionSet:
    """Makes functions ready. Touches the disk: not for the event loop.

    ``bring_shipped``: the job brings the jars of the product's own functions that it calls, for a cluster that does
    not have them. ``bring_models``: with functions of trained models it brings what they need, likewise.

    Raises:
        FunctionFileMissing: the file of a function is not there.
    """
    ordered = sorted(functions, key=lambda function: function.name)
    uploaded = [function for function in ordered if function.sha256]
    files = {function: _linked(function, config) for function in uploaded}
    needed = {function: config.model_jars if bring_models and is_of_a_model(function) else () for function in uploaded}
    statements = [create_function(function, [files[function], *needed[function]]) for function in uploaded]
    if bring_shipped:
        statements += [create_function(function, config.shipped_jars) for function in ordered if not function.sha256]
    python = [files[function] for function in uploaded if function.kind is FunctionKind.PYTHON]
    if not python:
        return FunctionSet(tuple(statements))
    return FunctionSet(
        tuple(statements),
        tuple(dict.fromkeys(str(file.parent if file.suffix == ".py" else file) for file in python)),
        {
            "python.files": ",".join(dict.fromkeys(map(str, python))),
            "python.executable": str(config.python_executable),
        },
    )


def _linked(function: Function, config: PlannerConfig) -> Path:
    """The function's file under a name with the right ending: Flink and Python both go by it."""
    file = config.files / function.sha256
    if not file.is_file():
        raise FunctionFileMissing(
            f"the file of function {function.name} is not in {config.files}: give all replicas of the service the same "
            "folder, or upload the function again"
        )
    name = function.implementation.split(".")[0] if function.suffix == "py" else function.sha256[:16]
    link = config.work_dir / "functions" / function.sha256 / f"{name}.{function.suffix}"
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        unfinished = link.with_name(f".{uuid.uuid4().hex}")
        os.symlink(file, unfinished)
        unfinished.replace(link)
    return link
