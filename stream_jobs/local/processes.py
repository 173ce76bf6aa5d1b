"""Processes that outlive the command that started them, and are found again by a mark in their command line.

The mark names the home and the component, e.g. ``hlink.stack=/home/me/.hlink/kafka``. It is the only truth about what
runs: there is no pid file that could be stale, a reused pid never carries the mark, and a process whose starter was
killed before it could write anything down is found all the same.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from stream_jobs.local.errors import ComponentError

_KILL_WAIT = 5.0
_ORPHAN_GRACE = 3.0
_MARK_VARIABLE = "HLINK_STACK_PROCESS"


def mark(home: Path, component: str) -> str:
    """The command-line argument's text by which this home's component is known.

    :param home: the resolved home folder.
    """
    return f"hlink.stack={home}/{component}"


def marked(wanted: str) -> list[psutil.Process]:
    """The living processes that carry a mark, oldest first, without the children that such a process forks."""
    found = {process.pid: process for process, arguments in _command_lines() if _carries(arguments, wanted)}
    # A server that forks (PostgreSQL) shows its own command line in the child for a moment.
    return sorted(
        (process for process in found.values() if _parent(process) not in found),
        key=lambda process: process.create_time(),
    )


def descendants(wanted: str) -> list[psutil.Process]:
    """The living processes that a marked process started, also those that have outlived it.

    They are known by the environment that :func:`start` gave to the marked one, which children inherit.
    """
    return with_variable(_MARK_VARIABLE, wanted)


def with_variable(name: str, value: str) -> list[psutil.Process]:
    """The living processes that were started with this in their environment, as far as this user may see it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and running(process):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def mentioning(path: Path) -> list[psutil.Process]:
    """The living processes with ``path``, or something in it, as an argument."""
    inside = f"{path}/"
    return [
        process
        for process, arguments in _command_lines()
        if any(argument == str(path) or argument.startswith(inside) for argument in arguments)
    ]


def working_in(folder: Path) -> list[psutil.Process]:
    """The living processes whose current folder is this one, as far as this user may see it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and running(process):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def start(
    command: Sequence[str | Path],
    *,
    mark: str,
    output: Path,
    environment: Mapping[str, str],
    folder: Path,
    user: tuple[int, int] | None = None,
) -> psutil.Process:
    """Start a process in a session of its own, so that a terminal's Ctrl-C does not reach it.

    :param mark: also has to be an argument of the command, as it is or with ``-D`` before it.
    :param output: receives stdout and stderr; begun anew.
    :param environment: the whole environment.
    :param user: (uid, gid) to run as; the present user by default.
    :raises OSError: the program cannot be executed.
    """
    with output.open("wb") as stream:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**environment, _MARK_VARIABLE: mark},
            cwd=folder,
            start_new_session=True,
            user=None if user is None else user[0],
            group=None if user is None else user[1],
            extra_groups=None if user is None else [],
        )
    _children[child.pid] = child
    return psutil.Process(child.pid)


def exit_status(pid: int) -> str:
    """How a process that this program started ended, in words."""
    child = _children.get(pid)
    code = child.poll() if child is not None else None
    if code is None:
        return "ended"
    return f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"


def running(process: psutil.Process) -> bool:
    """Whether this very process (not another one with its pid) is alive."""
    child = _children.get(process.pid)
    if child is not None:
        child.poll()
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(component: str, processes: Sequence[psutil.Process], *, signal: int, grace: float) -> None:
    """End processes: ``signal``, and after ``grace`` seconds SIGKILL.

    :raises ComponentError: one is still there seconds after SIGKILL.
    """
    for process in processes:
        _send(process, signal)
    alive = _wait(processes, grace)
    for process in alive:
        _send(process, 9)
    stubborn = _wait(alive, _KILL_WAIT)
    if stubborn:
        raise ComponentError(
            component,
            f"process {stubborn[0].pid} is still there {_KILL_WAIT:.0f} s after SIGKILL",
            where=f"pid {stubborn[0].pid}",
            remedy="it probably hangs in the kernel (disk or network file system); see: ps -o stat,wchan -p PID",
        )


def end_marked(component: str, wanted: str, *, signal: int, grace: float) -> bool:
    """End the marked processes and then all that they started; return whether there was anything.

    :raises ComponentError: a process survives SIGKILL.
    """
    found = marked(wanted)
    end(component, found, signal=signal, grace=grace)
    orphans = descendants(wanted)
    end(component, orphans, signal=15, grace=_ORPHAN_GRACE)
    return bool(found or orphans)


_children: dict[int, subprocess.Popen[bytes]] = {}
"""What this program started, so that the dead do not stay behind as zombies."""


def _wait(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    alive = [process for process in processes if running(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = [process for process in alive if running(process)]
    return alive


def _send(process: psutil.Process, signal: int) -> None:
    try:
        # psutil compares the create time first, so a reused pid is never signalled.
        process.send_signal(signal)
    except psutil.NoSuchProcess:
        return


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _carries(arguments: Sequence[str], wanted: str) -> bool:
    return any(argument == wanted or argument == f"-D{wanted}" for argument in arguments)


def _command_lines() -> Iterator[tuple[psutil.Process, list[str]]]:
    own = os.getpid()
    for process in psutil.process_iter():
        if process.pid == own:
            continue
        try:
            arguments = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if arguments and running(process):
            yield process, arguments
