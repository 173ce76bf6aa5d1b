"""The processes of graph runs, as the system shows them: a keeper, its engine, and a process for each node at work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import psutil

from app.supervisor.runners import keeper


class Part(StrEnum):
    """What a process is to its run."""

    KEEPER = "keeper"
    ENGINE = "engine"
    NODE = "node"
    """A fork of the engine, which has the engine's command line."""
    OTHER = "other"
    """Whatever these have started."""


@dataclass(frozen=True)
class RunProcess:
    """A living process of a run. Equal ones are the same process, not only the same number."""

    run: str
    """The run's ``external_id``."""
    part: Part
    process: psutil.Process

    def kill(self) -> bool:
        """``kill -9``; whether it was there to be killed."""
        with contextlib.suppress(psutil.Error):
            self.process.kill()
            return True
        return False


def of_runs(runs: Path) -> list[RunProcess]:
    """The living processes of all runs whose folders are in ``runs``."""
    found = list(_found(runs))
    keepers = {one.process.pid for one in found if one.part is Part.KEEPER}
    # Before it has become the engine, the process that is to be it looks like the keeper that forked it.
    return [
        replace(one, part=Part.ENGINE) if one.part is Part.KEEPER and _parent(one.process) in keepers else one
        for one in found
    ]


def _found(runs: Path) -> Iterator[RunProcess]:
    inside = f"{runs}{os.sep}"
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
            named = next((one for one in arguments if one.startswith(inside)), None)
            run = named.removeprefix(inside).partition(os.sep)[0] if named else process.environ().get(keeper.MARK)
            if run is None or not (runs / run).is_dir() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if keeper.__file__ in arguments:
                part = Part.KEEPER
            elif "app.visual.engine" in arguments:
                # The keeper starts the engine in a session of its own, in which nodes are, also those left behind.
                part = Part.ENGINE if os.getsid(process.pid) == process.pid else Part.NODE
            else:
                part = Part.OTHER
        except (psutil.Error, OSError):
            continue
        yield RunProcess(run, part, process)


def _parent(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return None
