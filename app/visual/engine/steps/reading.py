"""Steps that bring rows in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from app.visual.engine import checks, csv_files, values
from app.visual.engine.plan import ABOUT
from app.visual.engine.steps import Task
from app.visual.engine.values import NodeFailure, Table, Value, types_of

_HOW = ("encoding", "delimiter", "header", "names")


def dataset(task: Task) -> Mapping[str, Value]:
    """A data set's rows. Beside what is set at the node, the service says where they are and how to read them.

    ``path`` (absolute), ``encoding``, ``delimiter``, ``header``, ``names`` of the columns, and ``usual_target``, the
    target where none is chosen.
    """
    frame = _read(task)
    target = task.parameters.get("target") or task.parameters.get("usual_target")
    if target is not None:
        checks.columns(frame, [target])
    if chosen := task.parameters.get("columns"):
        kept = [name for name in checks.columns(frame, chosen) if name != target]
        frame = frame[[*kept, *([target] if target is not None else [])]]
    if target is not None and task.parameters.get("drop_unlabelled", True):
        frame = _labelled(frame, target)
    if not len(frame):
        raise NodeFailure("The data set has no rows")
    features = frame if target is None else frame.drop(columns=[target])
    return {"data": Table(frame.reset_index(drop=True), target, columns=types_of(features))}


def trained(task: Task) -> Mapping[str, Value]:
    """A model that another job has trained. The service says whose it is (``job``) and where it lies (``path``)."""
    path = Path(task.parameters["path"])
    if not (path / ABOUT).exists():
        raise NodeFailure(f"The model is not kept any more: run job {task.parameters['job']} again, and then this one")
    return {"model": values.load(path)}


def _read(task: Task) -> pd.DataFrame:
    if "archive" in task.parameters:
        raise NodeFailure("The data set has images and no rows: read it with the node 'Set of images' (frameId 4 or 2)")
    path = task.parameters.get("path")
    if path is None:
        raise NodeFailure("The data set has no file yet: upload one")
    given = {name: task.parameters[name] for name in _HOW if name in task.parameters}
    return csv_files.read(path, **given)


def _labelled(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    there = frame[frame[target].notna()].infer_objects()
    if not len(there) and len(frame):
        raise NodeFailure(f"None of {len(frame)} rows has a value in the target '{target}': choose another target")
    return there
