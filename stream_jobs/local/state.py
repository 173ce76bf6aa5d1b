"""What a stack remembers between commands: its ports, its password, its PostgreSQL folder.

Processes are not in it: see :mod:`stream_jobs.local.processes`.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stream_jobs.local.errors import StackStateError

_VERSION = 1


@dataclass
class State:
    """The contents of ``state.json``.

    :param ports: port by its name, e.g. ``kafka.broker``; chosen once, kept while free.
    :param postgres_password: chosen once, random.
    :param postgres_folder: where PostgreSQL's data are, once chosen.
    """

    postgres_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    postgres_folder: str | None = None
    ports: dict[str, int] = field(default_factory=dict)


def load(file: Path) -> State | None:
    """The state, or None if there is none yet.

    :raises StackStateError: the file is there but cannot be read as a state.
    """
    try:
        content = json.loads(file.read_text())
        if content.pop("version") != _VERSION:
            raise ValueError("written by another version of hlink")
        state = State(**content)
        if not all(isinstance(port, int) for port in state.ports.values()):
            raise ValueError("a port is not a number")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StackStateError(
            f"the state file cannot be read: {error}",
            where=str(file),
            remedy="restore it, or give the embedded data up with: hlink down --purge",
        ) from error
    return state


def save(file: Path, state: State) -> None:
    """Write the state so that a reader, or a crash, sees the old or the new one, and only the owner can read it.

    :raises StackStateError: the folder cannot be written.
    """
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as stream:
            json.dump({"version": _VERSION, **asdict(state)}, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except OSError as error:
        raise StackStateError(
            f"the state file cannot be written: {error.strerror}",
            where=str(file),
            remedy="make the folder writable for this user, or choose another one with HLINK_HOME",
        ) from error
