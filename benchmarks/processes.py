"""Child processes of the benchmark: each in a group of its own, which ends as a whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.http import Failed

_POLL_S = 0.1


@contextmanager
def running(
    command: Sequence[str | Path], *, environment: Mapping[str, str], log: Path, grace_s: float = 15.0
) -> Iterator[subprocess.Popen[bytes]]:
    """The process while the block lasts: ended by SIGTERM at its end, its whole group by SIGKILL after that."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            # Ctrl-C in a terminal must reach the benchmark alone, which then ends its children in order.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(what: str, holds: Callable[[], bool], within_s: float, poll_s: float = _POLL_S) -> None:
    """Wait for something.

    :raises Failed: it does not come in time.
    """
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not come within {within_s:.0f} s")
        time.sleep(poll_s)
