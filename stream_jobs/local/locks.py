"""A lock between processes that the death of its owner releases."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_jobs.local.errors import StackBusyError, StackStateError


@contextmanager
def exclusive(path: Path, timeout: float, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold ``path`` alone.

    The lock belongs to the open file, so ``kill -9`` frees it and no stale lock is left behind. Children that are
    started while it is held do not inherit it.

    :param timeout: seconds to wait for the present holder.
    :param waiting: called once when somebody else holds it.
    :raises StackBusyError: the holder did not finish within ``timeout``.
    :raises StackStateError: the lock file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StackStateError(
            f"cannot create the lock file: {error.strerror}",
            where=str(path),
            remedy="make the folder writable for this user, or choose another one with HLINK_HOME",
        ) from error
    try:
        deadline = time.monotonic() + timeout
        told = False
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told and waiting is not None:
                    waiting()
                told = True
                if time.monotonic() > deadline:
                    raise StackBusyError(
                        f"another process has been holding the lock for more than {timeout:.0f} s",
                        where=str(path),
                        remedy="wait for the other hlink command, or end it, and try again",
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(fd)
