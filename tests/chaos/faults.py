"""The faults: each breaks something, lets a moment pass, and brings back what does not come back by itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from tests.chaos.link import Wire
from tests.chaos.stage import Replica, Stage

_DIES_WITHIN_S = 20.0

#: The crash points that a request brings the service to, and the request; every replica comes to the others by itself.
_REQUESTS = {
    "run.created": ("cancel", "restart"),
    "submission.begun": ("restart",),
    "submission.done": ("restart",),
    "submission.noted": ("restart",),
    "stop.begun": ("restart",),
    "stop.asked": ("restart",),
    "stop.noted": ("restart",),
    "savepoint.asked": ("savepoint",),
    "transition.uncommitted": ("restart",),
    "observation.unrecorded": ("restart",),
    "lease.claimed": ("restart",),
}

CRASH_POINTS = tuple(_REQUESTS)


@dataclass(frozen=True)
class Fault:
    """``do`` breaks and mends; it returns what it did, for a person to read."""

    name: str
    do: Callable[[Stage], str]
    weight: int = 2


# The service


def kill_service(stage: Stage) -> str:
    """``kill -9`` of a replica in the middle of what it does."""
    replica = stage.chance.choice(stage.replicas)
    work = stage.chance.choice(stage.works.all)
    traffic = stage.disturb_with_traffic(work)
    _pause(stage, 0.0, 1.5)
    _kill(replica)
    _pause(stage, 0.0, 4.0)
    replica.start()
    return f"{replica.name} is killed during {traffic}"


def crash_service(stage: Stage, point: str | None = None) -> str:
    """A replica dies at a named point, to which a request brings it."""
    point = point or stage.chance.choice(CRASH_POINTS)
    replica = stage.chance.choice(stage.replicas)
    work = stage.chance.choice(stage.works.all)
    # The others would do it in its place.
    others = [other for other in stage.replicas if other is not replica]
    for other in others:
        _kill(other)
    _kill(replica)
    replica.begin(HLINK_CRASH_AT=point)
    died = False
    with contextlib.suppress(AssertionError):  # it may have died before it answered
        replica.wait_until_it_answers()
        stage.in_background(
            *((("GET" if what == "savepoint" else "POST"), f"/jobs/{what}/{work.id}") for what in _REQUESTS[point])
        )
    with contextlib.suppress(subprocess.TimeoutExpired):
        replica.wait_for_death(_DIES_WITHIN_S)
        died = True
    _kill(replica)
    stage.start_replicas()
    return f"{replica.name} {'dies' if died else 'does not come'} to {point}, over {work.name}"


def kill_planner(stage: Stage) -> str:
    """The planner's interpreter or its JVM is killed, perhaps in the middle of a submission."""
    replica = stage.chance.choice(stage.replicas)
    work = stage.chance.choice(stage.works.all)
    traffic = stage.disturb_with_traffic(work)
    _pause(stage, 0.0, 1.0)
    victims = [process for planner in replica.planners() for process in [planner, *_children(planner)]]
    if victims:
        _kill_process(stage.chance.choice(victims))
    return f"the planner of {replica.name} is killed during {traffic}"


# The stack


def kill_taskmanager(stage: Stage) -> str:
    return _kill_component(stage, "taskmanager")


def kill_jobmanager(stage: Stage) -> str:
    return _kill_component(stage, "jobmanager")


def kill_broker(stage: Stage) -> str:
    return _kill_component(stage, "kafka")


def kill_database(stage: Stage) -> str:
    with _disturbed(stage):
        return _kill_component(stage, "postgres")


def _kill_component(stage: Stage, name: str) -> str:
    traffic = stage.disturb_with_traffic(stage.chance.choice(stage.works.all))
    _pause(stage, 0.0, 1.5)
    for process in stage.component(name):
        for victim in [process, *_children(process)]:
            _kill_process(victim)
    _pause(stage, 0.0, 3.0)
    stage.repair()
    return f"{name} is killed during {traffic}"


# The wire between the service and Flink


def cut_wire(stage: Stage) -> str:
    return _change_wire(stage, Wire.CUT)


def silence_wire(stage: Stage) -> str:
    return _change_wire(stage, Wire.SILENT)


def slow_wire(stage: Stage) -> str:
    return _change_wire(stage, Wire.SLOW)


def _change_wire(stage: Stage, wire: Wire) -> str:
    work = stage.chance.choice(stage.works.all)
    before = stage.chance.random() < 0.5
    traffic = stage.disturb_with_traffic(work) if before else ""
    _pause(stage, 0.0, 0.5)
    stage.link.become(wire, delay_s=stage.chance.choice((0.2, 1.0, 3.0)))
    traffic = traffic or stage.disturb_with_traffic(work)
    seconds = stage.chance.uniform(2.0, 9.0)
    time.sleep(seconds)
    stage.link.become(Wire.WHOLE)
    return f"the wire to Flink is {wire.name} for {seconds:.1f} s during {traffic}"


# The folder for savepoints


def fill_savepoint_folder(stage: Stage) -> str:
    """Savepoints fail for want of room, or because a file is where their folder should be."""
    work = stage.chance.choice(stage.works.all)
    with _full(stage) as how:
        traffic = stage.disturb_with_traffic(work)
        _pause(stage, 2.0, 6.0)
    return f"the savepoints' folder is {how} during {traffic}"


@contextmanager
def _full(stage: Stage) -> Iterator[str]:
    folder = stage.savepoints
    if os.path.ismount(folder):
        filler = folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * 4096)
            yield "full"
        finally:
            filler.unlink(missing_ok=True)
        return
    aside = folder.with_name("savepoints-aside")
    folder.rename(aside)
    try:
        folder.touch()
        yield "a file"
    finally:
        folder.unlink()
        aside.rename(folder)


ALL = (
    Fault("kill service", kill_service, 5),
    Fault("crash service", crash_service, 4),
    Fault("kill planner", kill_planner, 3),
    Fault("kill taskmanager", kill_taskmanager, 3),
    Fault("kill jobmanager", kill_jobmanager, 3),
    Fault("kill broker", kill_broker, 2),
    Fault("kill database", kill_database, 2),
    Fault("cut wire", cut_wire, 3),
    Fault("silence wire", silence_wire, 2),
    Fault("slow wire", slow_wire, 2),
    Fault("fill savepoint folder", fill_savepoint_folder, 2),
)


# Parts


@contextmanager
def _disturbed(stage: Stage) -> Iterator[None]:
    """The services cannot be expected to know better meanwhile."""
    stage.disturbed.set()
    try:
        yield
    finally:
        stage.disturbed.clear()


def _pause(stage: Stage, least_s: float, most_s: float) -> None:
    time.sleep(stage.chance.uniform(least_s, most_s))


def _kill(replica: Replica) -> None:
    if replica.is_alive:
        replica.kill()


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _kill_process(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
        process.wait(10)
