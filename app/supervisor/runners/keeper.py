"""A program of its own that keeps one worker process: ``python keeper.py FOLDER LOCK``. It imports nothing of ours.

It outlives the service that started it. What it is to do stands in the folder before it is started, what became of it
stands there afterwards, and as long as it lives it holds the lock: so whoever looks, whenever, learns what is true.
A folder's command is run once, however often keepers are started for it. The worker, and all that it starts, ends
when it is asked to, when it takes more memory or time than it may, and when the keeper is killed.

``command.json`` (:class:`Command`) and ``stop`` are written by others; ``started.json``, ``end.json`` (:class:`End`)
and the worker's ``log`` by the keeper. Files appear whole or not at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

COMMAND, STARTED, STOP, END, LOG = "command.json", "started.json", "stop", "end.json", "log"

MARK = "HLINK_RUN"
"""The variable in the worker's environment, and in that of all that it starts, with the name of its folder."""

STARTED_WORD, AGAIN_WORD = "started", "again"
"""What a keeper prints as soon as it is certain: it has begun, or somebody has begun before."""

_LOOK_S = 0.1
_TRIES = 50
_MEMORY_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Command:
    """What to run, and how far it may go."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the keeper's own."""
    memory_bytes: int | None = None
    """Resident memory of the worker and all that it starts."""
    seconds: float | None = None
    grace_s: float = 5.0
    """How long it may take to end after it was asked to."""


class Why(StrEnum):
    """What a worker ended by."""

    EXITED = "EXITED"
    SIGNAL = "SIGNAL"
    """Somebody killed it, perhaps the system for want of memory."""
    STOPPED = "STOPPED"
    """It was asked to."""
    MEMORY = "MEMORY"
    TIME = "TIME"
    NOT_STARTED = "NOT_STARTED"
    """Its program cannot be executed."""
    KEEPER_GONE = "KEEPER_GONE"
    """Its keeper was killed, or the machine was switched off."""


@dataclass(frozen=True)
class End:
    """How it ended."""

    why: Why
    code: int | None = None
    """Its exit status; a signal's number with SIGNAL."""
    message: str = ""
    at: int = 0
    """Epoch milliseconds, by this machine's clock."""
    most_memory_bytes: int = 0

    @classmethod
    def read(cls, folder: Path) -> End | None:
        """What stands in a folder; None as long as there is nothing."""
        found = read_json(folder / END)
        return None if found is None else cls(**{**found, "why": Why(found["why"])})

    def write(self, folder: Path) -> None:
        write_json(folder / END, asdict(self))


def read_json(path: Path) -> dict[str, Any] | None:
    """A file's object; None without the file."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file so that it is seen whole or not at all, also after the machine was switched off."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with beside.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def is_held(lock: Path) -> bool:
    """Whether a living keeper holds that lock."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class _Asked:
    """Whether somebody wants the worker to end: by a signal, or by the file, which cannot be missed."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / STOP
        self._signalled = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _note(self, *_: object) -> None:
        self._signalled = True

    def __bool__(self) -> bool:
        return self._signalled or self._file.exists()


def main() -> int:
    folder, lock = Path(sys.argv[1]), Path(sys.argv[2])
    if not _take(lock) or (folder / STARTED).exists() or (folder / END).exists():
        _tell(AGAIN_WORD)
        return 0
    asked = _Asked(folder)
    write_json(folder / STARTED, {"pid": os.getpid(), "at": now_ms()})
    _tell(STARTED_WORD)
    end = _keep(folder, asked)
    end.write(folder)
    lock.unlink(missing_ok=True)
    return 0


def _take(lock: Path) -> bool:
    """Take the lock for as long as this process lives; False when another keeper has it."""
    held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_TRIES):
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_S / 10)  # somebody may be looking whether it is held
        else:
            return True
    return False


def _tell(word: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{word}\n")
        sys.stdout.flush()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())


def _keep(folder: Path, asked: _Asked) -> End:
    command = Command(**(read_json(folder / COMMAND) or {"argv": []}))
    if asked:
        return End(Why.STOPPED, message="Stopped before it began", at=now_ms())
    with (folder / LOG).open("ab") as log:
        try:
            worker = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **command.environment, MARK: folder.name},
                cwd=folder,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # this process has one thread
            )
        except OSError as error:
            return End(Why.NOT_STARTED, message=f"{command.argv[0]} cannot be started: {error.strerror}", at=now_ms())
        end = _watch(command, worker, asked)
        if end.message:
            log.write(f"[hlink] {end.message}\n".encode())
    return end


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(command: Command, worker: subprocess.Popen[bytes], asked: _Asked) -> End:
    began = measured = time.monotonic()
    most = 0
    why, message = Why.EXITED, ""
    while worker.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(_LOOK_S)
            break
        now = time.monotonic()
        if now - measured >= _MEMORY_EVERY_S:
            measured = now
            most = max(most, used := _memory(worker.pid))
            if command.memory_bytes is not None and used > command.memory_bytes:
                why = Why.MEMORY
                message = f"It used {_mib(used)} of memory and may use {_mib(command.memory_bytes)}: ended"
        if command.seconds is not None and now - began > command.seconds:
            why, message = Why.TIME, f"It did not end within the {command.seconds:g} s that it may take: ended"
        if asked:
            why, message = Why.STOPPED, "Stopped"
        if why is not Why.EXITED:
            _end_all(worker, 0.0 if why is Why.MEMORY else command.grace_s)
            break
    code = worker.wait()
    _end_all(worker, 0.0)  # what it started and left behind
    if why is Why.EXITED and code < 0:
        why, message = Why.SIGNAL, f"It was killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            message += ", perhaps by the system because the machine had no memory left"
    return End(why, abs(code), message, now_ms(), most)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        worker = psutil.Process(pid)
        return [worker, *worker.children(recursive=True)]
    return []


def _family(pid: int) -> list[psutil.Process]:
    """The worker and all that it started, also those with a session of their own."""
    found = {process.pid: process for process in _tree(pid)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.pid not in found and os.getsid(process.pid) == pid:
                found[process.pid] = process
    return list(found.values())


def _memory(pid: int) -> int:
    used = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            used += process.memory_info().rss
    return used


def _end_all(worker: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask all to end, wait, and end those that are left."""
    family = _family(worker.pid)
    if grace_s:
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and (worker.poll() is None or any(_lives(one) for one in family)):
            time.sleep(0.02)
    for process in {*family, *_family(worker.pid)}:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


if __name__ == "__main__":
    sys.exit(main())
