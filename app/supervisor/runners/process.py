"""Runs on this machine: each is a worker process with all that it starts, kept by one that outlives the service.

What is true of a run stands in a folder of its own, which is named by the run's ``external_id``
(:mod:`app.supervisor.runners.keeper`): a folder's command is run once, so a submission may be repeated by anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import psutil

from app.supervisor.models import Run
from app.supervisor.runners import keeper
from app.supervisor.runners.base import (
    AlreadySubmitted,
    Inspection,
    LeftState,
    Observation,
    Outcome,
    Report,
    Room,
    SubmissionUncertain,
    Tail,
    Unreachable,
)
from app.supervisor.runners.keeper import Command, End, Why
from app.supervisor.transitions import Seen, StopMode
from stream_jobs.local import processes

REASON = "reason"
"""A file in which a worker says why it failed, for people; without it the runner says how it ended."""

_LOCKS = "alive"
_TAIL_BYTES = 64 * 1024
_STARTS_WITHIN_S = 20.0
_REASON_CHARACTERS = 4000

_LIVES = frozenset({Seen.STARTING, Seen.RUNNING, Seen.STOPPING})

_SEEN: Mapping[Why, Seen] = {
    Why.STOPPED: Seen.CANCELED,
    Why.SIGNAL: Seen.FAILED,
    Why.MEMORY: Seen.FAILED,
    Why.TIME: Seen.FAILED,
    Why.NOT_STARTED: Seen.FAILED,
    Why.KEEPER_GONE: Seen.FAILED,
}


class Launcher(Protocol):
    """Who knows what a run's process is."""

    async def command(self, run: Run, folder: Path) -> Command:
        """What to run; ``folder``, the run's own, exists. Raises ``SubmissionRefused``."""


class ProcessRunner:
    """Looks after processes of this machine.

    :param home: holds the runs' folders.
    :param place: names this machine in events and messages.
    :param launcher: says what a run's process is.
    :param at_once: how many processes run at a time; the others queue. None: any number.
    :param ended: called, in the event loop, when the keeper of a run that was seen alive ends, where the system tells
        of that. It spares waiting for the next look, and nothing else: a look finds all that is so.
    """

    def __init__(
        self,
        home: Path,
        place: str,
        launcher: Launcher,
        at_once: int | None = None,
        ended: Callable[[Run], None] | None = None,
    ) -> None:
        self._home = home
        self._place = place
        self._launcher = launcher
        self._at_once = at_once
        self._tell = ended
        self._watched: dict[str, int] = {}
        """External id -> the descriptor of its keeper's process, which can be read when that has ended."""

    def close(self) -> None:
        """Watch nothing any more."""
        for external_id in list(self._watched):
            self._watch_no_more(external_id)

    def folder(self, external_id: str) -> Path:
        """A run's own folder."""
        return self._home / external_id

    def place(self, run: Run) -> str:
        """This machine."""
        return self._place

    async def incarnation(self, run: Run) -> str | None:
        """None: what was started stands on disk, also when the machine was restarted."""
        return None

    async def start(self, run: Run) -> None:
        """Start its keeper. Raises what the launcher raises, ``AlreadySubmitted`` and ``SubmissionUncertain``."""
        folder = self.folder(run.external_id)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        command = await self._launcher.command(run, folder)
        await asyncio.to_thread(self._write, folder, command)
        try:
            word = await asyncio.to_thread(_keep, folder, self._lock(run.external_id))
        except OSError as error:
            raise SubmissionUncertain(f"its keeper could not be started: {error}") from error
        if word == keeper.AGAIN_WORD:
            raise AlreadySubmitted
        if word != keeper.STARTED_WORD:
            raise SubmissionUncertain(f"its keeper did not say within {_STARTS_WITHIN_S:g} s that it began")

    async def observe(self, runs: Sequence[Run]) -> Mapping[int, Observation]:
        """What their folders say. Of a run whose keeper is gone, what is left of it is ended first."""
        found = await asyncio.to_thread(lambda: {run.id: self._observe(run) for run in runs})
        for run in runs:
            if self._tell is not None and found[run.id].seen in _LIVES and run.external_id not in self._watched:
                await self._watch(run, self._tell)
        return found

    async def stop(self, run: Run, mode: StopMode) -> Report:
        """Ask its keeper to end it; there are no savepoints, so every mode is the same."""
        await asyncio.to_thread(self._ask_to_stop, run.external_id)
        return Report(Outcome.UNDER_WAY)

    async def savepoint(self, run: Run, token: str, *, native: bool) -> Report:
        return Report(Outcome.FAILED, cause="a process has no savepoints")

    async def inspect(self, run: Run, path: str) -> Inspection:
        return Inspection(None, "a process has no savepoints")

    async def find_savepoint(self, run: Run, token: str) -> str | None:
        return None

    async def dispose(self, run: Run, path: str, token: str) -> Report:
        return Report(Outcome.DONE)

    async def room(self, run: Run) -> Room | None:
        """As many slots as may run at once; a living process has one."""
        if self._at_once is None:
            return None
        asked_at = time.monotonic()
        alive = await asyncio.to_thread(self._alive)
        return Room(max(0, self._at_once - len(alive)), self._at_once, asked_at, dict.fromkeys(alive, "a process"))

    async def left_state(self, run: Run, path: str | None) -> LeftState | None:
        return None

    async def tail(self, run: Run, offset: int) -> Tail:
        """The worker's output from byte ``offset`` on; what is not valid UTF-8 is replaced."""
        return await asyncio.to_thread(_tail, self.folder(run.external_id) / keeper.LOG, offset)

    async def remove(self, external_id: str) -> None:
        """Delete the folder of a run that has ended. Raises ``Unreachable`` while its process lives."""
        if await asyncio.to_thread(keeper.is_held, self._lock(external_id)):
            raise Unreachable(f"the process of {external_id} lives")
        await asyncio.to_thread(shutil.rmtree, self.folder(external_id), ignore_errors=True)

    # Parts

    async def _watch(self, run: Run, tell: Callable[[Run], None]) -> None:
        descriptor = await asyncio.to_thread(self._descriptor, run.external_id)
        if descriptor is None:
            return
        if run.external_id in self._watched:  # by another look, meanwhile
            os.close(descriptor)
            return

        def ended() -> None:
            self._watch_no_more(run.external_id)
            tell(run)

        self._watched[run.external_id] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, ended)

    def _watch_no_more(self, external_id: str) -> None:
        descriptor = self._watched.pop(external_id)
        asyncio.get_running_loop().remove_reader(descriptor)
        if sys.platform == "linux":
            # A child of this process, unless the service was restarted since: it is not left behind as a zombie.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
        os.close(descriptor)

    def _descriptor(self, external_id: str) -> int | None:
        """A descriptor of the keeper's process; None when it has ended, or where there are no such descriptors."""
        begun = keeper.read_json(self.folder(external_id) / keeper.STARTED)
        if begun is None or sys.platform != "linux":
            return None
        try:
            descriptor = os.pidfd_open(int(begun["pid"]))
        except OSError:
            return None
        if keeper.is_held(self._lock(external_id)):  # it lives: nobody else had its process id when that was opened
            return descriptor
        os.close(descriptor)
        return None

    def _lock(self, external_id: str) -> Path:
        return self._home / _LOCKS / external_id

    def _alive(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [lock.name for lock in (self._home / _LOCKS).iterdir() if keeper.is_held(lock)]
        return []

    def _write(self, folder: Path, command: Command) -> None:
        (self._home / _LOCKS).mkdir(exist_ok=True)
        keeper.write_json(folder / keeper.COMMAND, asdict(command))

    def _observe(self, run: Run) -> Observation:
        folder, lock = self.folder(run.external_id), self._lock(run.external_id)
        if keeper.is_held(lock):
            if (folder / keeper.STARTED).exists():
                asked = (folder / keeper.STOP).exists()
                return Observation(Seen.STOPPING if asked else Seen.RUNNING, "STOPPING" if asked else "RUNNING")
            return Observation(Seen.STARTING, "STARTING")
        # In this order: it may have ended, or begun, between the look at the lock and this one.
        end = End.read(folder)
        if end is None and not (folder / keeper.STARTED).exists():
            return Observation(Seen.UNKNOWN, "UNKNOWN")
        if end is None and keeper.is_held(lock):
            return Observation(Seen.RUNNING, "RUNNING")
        end = end or End.read(folder) or self._note_lost(folder)
        if end.why is Why.EXITED:
            seen, raw = (Seen.FINISHED, "EXITED") if end.code == 0 else (Seen.FAILED, f"EXITED {end.code}")
        else:
            seen, raw = _SEEN[end.why], end.why.value
        return Observation(seen, raw, exception=_reason(folder, end) if seen is Seen.FAILED else None)

    def _note_lost(self, folder: Path) -> End:
        """Its keeper is gone without a word: end what is left of it, and write down that this was so."""
        for process in processes.with_variable(keeper.MARK, folder.name):
            with contextlib.suppress(psutil.Error):
                process.kill()
        begun = keeper.read_json(folder / keeper.STARTED) or {}
        restarted = begun.get("at", 0) < psutil.boot_time() * 1000
        end = End(
            Why.KEEPER_GONE,
            message="The machine was restarted while it ran" if restarted else "It was killed together with its keeper",
            at=keeper.now_ms(),
        )
        end.write(folder)
        return end

    def _ask_to_stop(self, external_id: str) -> None:
        folder = self.folder(external_id)
        with contextlib.suppress(FileNotFoundError):
            (folder / keeper.STOP).touch()
        begun = keeper.read_json(folder / keeper.STARTED)
        if begun is not None and keeper.is_held(self._lock(external_id)):
            with contextlib.suppress(ProcessLookupError):  # the file is seen in the next moment anyway
                os.kill(int(begun["pid"]), signal.SIGTERM)


def _keep(folder: Path, lock: Path) -> str:
    """Start a keeper; what it says, nothing when it says nothing in time."""
    # Not by asyncio, which kills what it started when it forgets it. By its file: our packages take long to import.
    keeping = subprocess.Popen(
        [sys.executable, "-P", keeper.__file__, str(folder), str(lock)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert keeping.stdout is not None
    with keeping.stdout as said:
        answered, _, _ = select.select([said], [], [], _STARTS_WITHIN_S)
        return said.readline().decode().strip() if answered else ""


def _reason(folder: Path, end: End) -> str:
    with contextlib.suppress(OSError):
        said = (folder / REASON).read_text(errors="replace").strip()
        if said:
            return said[:_REASON_CHARACTERS]
    return end.message or f"It ended with exit status {end.code}; its log says more"


def _tail(log: Path, offset: int) -> Tail:
    try:
        with log.open("rb") as file:
            file.seek(offset)
            piece = file.read(_TAIL_BYTES)
    except FileNotFoundError:
        piece = b""
    for cut in range(min(3, len(piece)) + 1):  # a character may be cut in two at the end
        with contextlib.suppress(UnicodeDecodeError):
            whole = piece[: len(piece) - cut]
            return Tail(whole.decode(), offset + len(whole))
    return Tail(piece.decode(errors="replace"), offset + len(piece))
