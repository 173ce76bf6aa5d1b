"""From a checked graph to a run: what its spec has, and the process that carries it out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.settings import Settings
from app.supervisor import Run
from app.supervisor.runners.base import SubmissionRefused
from app.supervisor.runners.keeper import Command
from app.visual.catalogue import Framework, ParameterType
from app.visual.choices import DataType
from app.visual.datasets.service import Readable
from app.visual.engine.plan import (
    NODES,
    OWN_FILE,
    OWN_NAME,
    OWN_OUTPUTS,
    PARTIAL,
    Plan,
    Progress,
    Step,
    copy_figures,
)
from app.visual.frameworks import command as engine
from app.visual.frameworks import lacking
from app.visual.jobs.folders import OUTPUTS
from app.visual.jobs.graph import Ready
from app.visual.jobs.trained import Trained
from app.visual.own.service import OwnCode

Source = Readable | Trained | OwnCode
"""What a node reads beside its inputs: a data set, a model of another job, or its own code."""


def spec_of(
    nodes: Sequence[Ready],
    chosen: Set[int],
    anew: Set[int],
    sources: Mapping[int, Source],
    *,
    settings: Settings,
    name: str,
    place: str,
    seed: int,
    before: str | None,
    framework: Framework = Framework.SKLEARN,
) -> dict[str, Any]:
    """What a run is started with: the graph as it is now, whatever becomes of it later.

    ``chosen`` are the nodes to run, those of them in ``anew`` even where an earlier run has done the same;
    ``sources`` is what nodes read beside their inputs; ``before`` names the run before, from which the other nodes keep
    what became of them.
    """
    steps = [_step(node, sources.get(node.id), settings) for node in nodes if node.id in chosen]
    used = {node: source for node, source in sources.items() if node in chosen}
    return {
        "steps": [asdict(step) for step in steps],
        "anew": sorted(anew),
        "kept": sorted(node.id for node in nodes if node.id not in chosen),
        "before": before,
        "datasets": sorted({source.id for source in used.values() if isinstance(source, Readable)}),
        "models": [{"brought_by": node, **asdict(one)} for node, one in used.items() if isinstance(one, Trained)],
        "seed": seed,
        "framework": framework.value,
        "queue": {"place": place, "slots": 1, "priority": 0, "wait_s": None, "name": name},
    }


def _step(node: Ready, source: Source | None, settings: Settings) -> Step:
    component = node.component
    read: dict[str, Any] = {}
    match source:
        case None:
            digest = ""
        case Trained():
            read = {"path": str(source.path(settings)), "job": source.job_id}
            digest = f"output:{source.key}/{source.port}"
        case OwnCode():
            ports = {port.name: port.type for port in component.outputs}
            read = {OWN_FILE: str(source.path), OWN_NAME: source.name, OWN_OUTPUTS: ports}
            digest = f"sha256:{source.sha256}"
        case Readable():
            read, digest = _source(source), source.digest
    # However a model was named, it is the same one: what is brought out is named by its digest only.
    parameters = {
        one.name: node.parameters[one.name]
        for one in component.parameters
        if one.name in node.parameters and one.type is not ParameterType.MODEL
    }
    return Step(
        node.id,
        node.name,
        component.uuid,
        component.version,
        component.step,
        component.of,
        parameters,
        node.inputs,
        [port.name for port in component.outputs],
        read,
        digest,
    )


def _source(read: Readable) -> dict[str, Any]:
    """How the engine's step reads a data set (:func:`app.visual.engine.steps.reading.dataset`)."""
    if read.kind is DataType.IMAGES:
        return {"archive": str(read.path)}
    return {
        "path": str(read.path),
        "encoding": read.encoding,
        "delimiter": read.delimiter,
        "header": read.header,
        "names": [column.name for column in read.columns],
        "usual_target": read.target,
    }


class GraphLauncher:
    """Makes the engine's process of a run (:class:`app.supervisor.runners.process.Launcher`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def command(self, run: Run, folder: Path) -> Command:
        """Leave the plan in the run's folder; the engine reads it there. Raises ``SubmissionRefused``."""
        framework = Framework(run.spec.get("framework", Framework.SKLEARN))
        if lacks := await lacking(self._settings, framework):
            raise SubmissionRefused(lacks)
        try:
            await asyncio.to_thread(self._prepare, run, folder)
        except OSError as error:
            raise SubmissionRefused(f"The run's folder cannot be written: {error.strerror}") from error
        return Command(
            engine(self._settings, framework, "app.visual.engine", str(folder)),
            {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"},
            memory_bytes=self._settings.visual_memory_mib * 1024**2,
            seconds=self._settings.visual_time_s or None,
        )

    def _prepare(self, run: Run, folder: Path) -> None:
        outputs = self._settings.home / OUTPUTS
        outputs.mkdir(parents=True, exist_ok=True)
        steps = [
            Step(**{**one, "inputs": {port: tuple(end) for port, end in one["inputs"].items()}})
            for one in run.spec["steps"]
        ]
        if before := run.spec["before"]:
            known = folder.parent / str(before)
            for node in run.spec["kept"]:
                if (known / NODES / f"{node}.json").exists():
                    for file in (known / PARTIAL / str(node)).glob("*.json"):
                        copy_figures(file, folder / PARTIAL / str(node) / file.name)
                    Progress.read(known, node).write(folder, node)
        plan = Plan(
            steps, str(outputs), run.spec["seed"], self._settings.visual_processors or _processors(), run.spec["anew"]
        )
        plan.write(folder)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
