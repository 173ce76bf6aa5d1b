"""Runs a plan: each node in a process of its own, as soon as what it needs is there.

The libraries are imported once, and nodes are forks of the process that has them: it starts no threads and computes
nothing itself, so that there is nothing that a fork could break.
"""

from __future__ import annotations

import contextlib
import gc
import graphlib
import hashlib
import importlib.metadata
import json
import logging
import multiprocessing
import os
import secrets
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from app.visual.engine.figures import scores
from app.visual.engine.plan import (
    FIGURES,
    PARTIAL,
    STATISTIC,
    NodeState,
    Plan,
    Progress,
    Step,
    copy_figures,
    write_json,
)

DONE = "done.json"
"""In a folder of outputs: it is whole. Its time of change is when it was last used."""
REASON = "reason"
"""In a run's folder: why it failed, for people."""

_LIBRARIES = ("scikit-learn", "pandas", "numpy", "torch", "keras", "tensorflow-cpu", "tensorflow")

log = logging.getLogger("engine")


def run(folder: Path) -> int:
    """Carry out a run's plan; 0 only if every node succeeded."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    plan = Plan.read(folder)
    log.info("Nodes: %d, at a time: %d, in process %d", len(plan.steps), plan.processors, os.getpid())
    # Each node computes on one processor: as many nodes run at once as there are processors.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    return _Engine(folder, plan).run()


class _Engine:
    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._plan = plan
        self._outputs = Path(plan.outputs)
        self._steps = {step.id: step for step in plan.steps}
        self._keys: dict[int, str] = {}
        self._progress: dict[int, Progress] = {}
        self._running: dict[int, ForkProcess] = {}
        self._imported = False
        self._versions = {name: version for name in _LIBRARIES if (version := _version(name))}

    def run(self) -> int:
        needs = {step.id: {node for node, _ in step.inputs.values()} for step in self._plan.steps}
        order = graphlib.TopologicalSorter(needs)
        order.prepare()
        waiting: list[int] = []
        while order.is_active():
            waiting += sorted(order.get_ready())
            while waiting and len(self._running) < self._plan.processors:
                node = waiting.pop(0)
                if self._begin(node):
                    order.done(node)
                    break  # what was done before may have made others ready, which come first
            else:
                for node in self._ended():
                    order.done(node)
        failed = [node for node, progress in self._progress.items() if progress.state is NodeState.FAILED]
        if failed:
            self._say_why(failed)
        return int(any(progress.state is not NodeState.SUCCEEDED for progress in self._progress.values()))

    def _begin(self, node: int) -> bool:
        """Start a node. Returns whether it is done already, in one way or another."""
        step = self._steps[node]
        before = {source: self._progress[source].state for source, _ in step.inputs.values()}
        if broken := [source for source, state in before.items() if state is not NodeState.SUCCEEDED]:
            name = self._steps[broken[0]].name
            self._note(node, Progress(NodeState.STOPPED, reason=f"It needs what {name} brings out"))
            return True
        key = self._keys[node] = self._key(step)
        if node not in self._plan.anew and self._is_there(key):
            log.info("%s: as before, nothing to do", step.name)
            now = _now_ms()
            for port in step.outputs:
                copy_figures(self._outputs / key / port / FIGURES, self._figures_of(node, port))
            told = self._scores(step)
            self._note(node, Progress(NodeState.SUCCEEDED, key, began_at=now, ended_at=now, reused=True, scores=told))
            return True
        began_at = _now_ms()
        self._note(node, Progress(NodeState.RUNNING, key, began_at=began_at))
        if not self._imported:
            _import_libraries(self._plan.steps)
            self._imported = True
        process = multiprocessing.get_context("fork").Process(target=self._carry_out, args=(step, key), name=step.name)
        process.start()
        self._running[node] = process
        return False

    def _ended(self) -> list[int]:
        """Wait until a node has ended; the nodes that have."""
        wait([process.sentinel for process in self._running.values()])
        ended = [node for node, process in self._running.items() if process.exitcode is not None]
        for node in ended:
            process = self._running.pop(node)
            process.join()
            self._close(node, process.exitcode or 0)
        return ended

    def _close(self, node: int, exit_code: int) -> None:
        step, begun = self._steps[node], self._progress[node]
        told = self._folder / PARTIAL / str(node) / REASON
        # What it has brought out counts, not what it says: a library may end a process as if all were well.
        if exit_code == 0 and begun.key is not None and self._is_there(begun.key):
            log.info("%s: done", step.name)
            done = Progress(NodeState.SUCCEEDED, begun.key, None, begun.began_at, _now_ms(), scores=self._scores(step))
            self._note(node, done)
            return
        reason = f"It was ended by signal {-exit_code}" if exit_code < 0 else "Its process ended before it was done"
        with contextlib.suppress(FileNotFoundError):
            reason = told.read_text()
        log.error("%s: %s", step.name, reason)
        self._note(node, Progress(NodeState.FAILED, begun.key, reason, begun.began_at, _now_ms()))

    def _figures_of(self, node: int, port: str) -> Path:
        return self._folder / PARTIAL / str(node) / f"{port}.json"

    def _scores(self, step: Step) -> dict[str, dict[str, float]]:
        """What a node's figures say in single numbers, by port."""
        found = {}
        for port in step.outputs:
            with contextlib.suppress(FileNotFoundError):
                if told := scores(json.loads(self._figures_of(step.id, port).read_bytes())):
                    found[port] = told
        return found

    def _note(self, node: int, progress: Progress) -> None:
        self._progress[node] = progress
        progress.write(self._folder, node)

    def _say_why(self, failed: list[int]) -> None:
        said = [f"{self._steps[node].name}: {self._progress[node].reason}" for node in failed]
        (self._folder / REASON).write_text("\n".join(said))

    def _key(self, step: Step) -> str:
        """Names what a node brings out by all that it depends on."""
        depends = {
            "step": [step.component, step.version, step.step, step.of],
            "parameters": dict(step.parameters),
            "inputs": {port: [self._keys[node], out] for port, (node, out) in sorted(step.inputs.items())},
            "outputs": sorted(step.outputs),
            "contents": step.contents,
            "seed": self._plan.seed,
            "libraries": self._versions,
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:40]

    def _is_there(self, key: str) -> bool:
        done = self._outputs / key / DONE
        try:
            os.utime(done)
        except FileNotFoundError:
            return False
        return True

    # In a process of the node's own

    def _carry_out(self, step: Step, key: str) -> None:
        log.info("%s: begins, in process %d", step.name, os.getpid())
        own = self._folder / PARTIAL / str(step.id)
        own.mkdir(parents=True, exist_ok=True)
        unfinished = self._outputs / f".{key}.{secrets.token_hex(4)}"
        try:
            unfinished.mkdir(parents=True)
            self._work(step, unfinished, own)
            self._put(unfinished, self._outputs / key)
        except Exception as error:  # noqa: BLE001 - whatever a node fails by, it is told
            (own / REASON).write_text(_why(error))
            shutil.rmtree(unfinished, ignore_errors=True)
            sys.exit(1)

    def _work(self, step: Step, folder: Path, own: Path) -> None:
        from app.visual.engine import statistics, steps, values
        from app.visual.engine.figures import Figures

        inputs = {
            port: values.load(self._outputs / self._keys[node] / out) for port, (node, out) in step.inputs.items()
        }
        figures: dict[str, Figures] = {}

        def figures_of(port: str) -> Figures:
            return figures.setdefault(port, Figures(own / f"{port}.json"))

        began = time.monotonic()
        given = {**step.parameters, **step.source}
        task = steps.Task(step.name, step.of, given, inputs, self._plan.seed, figures_of, self._plan.processors, own)
        brought: Mapping[str, Any] = steps.step(step.step)(task)
        for port in step.outputs:
            (folder / port).mkdir()
            if (value := brought.get(port)) is not None:
                values.save(value, folder / port)
                if isinstance(value, values.Table):
                    write_json(folder / port / STATISTIC, statistics.of_columns(value.frame))
            if port in figures:
                write_json(folder / port / FIGURES, figures[port].all)
        took = time.monotonic() - began
        write_json(folder / DONE, {"component": step.component, "seconds": round(took, 3)})

    def _put(self, made: Path, place: Path) -> None:
        """Give outputs their name. What was there is the same, from another run, or from before it was run anew."""
        try:
            made.rename(place)
        except OSError:
            if not (place / DONE).exists():
                raise
            shutil.rmtree(made)


def _import_libraries(steps_to_run: Sequence[Step]) -> None:
    """All that the nodes need, once, before the first fork: what is lacking is told by the node that needs it."""
    # Modules are never garbage. Looked for among them, they would be looked at again and again while they are read,
    # and be copied by each node that looks at them.
    gc.disable()
    import skops.io  # noqa: F401

    from app.visual.engine import statistics, steps, values  # noqa: F401

    for one in steps_to_run:
        with contextlib.suppress(ImportError, AttributeError):
            steps.step(one.step)
            if one.of is not None:
                steps.library_class(one.of)
    gc.freeze()
    gc.enable()


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _why(error: Exception) -> str:
    from app.visual.engine.values import NodeFailure

    if isinstance(error, NodeFailure):
        return str(error)
    traceback.print_exc(file=sys.stdout)
    if isinstance(error, MemoryError):
        return "There was not enough memory: take fewer rows or columns, or allow the run more memory"
    # The libraries' messages are made for people: the first line says what, the rest how to go about it.
    return f"{type(error).__name__}: {error}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
