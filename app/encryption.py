"""Credentials at rest: encrypted with a key that is not in the database.

The key is ``HLINK_SECRET_KEY``, or else a file in ``HLINK_HOME`` that is made at the first start. Replicas that share
a database need the same key. Several keys may be given, separated by commas: the first encrypts, all decrypt, so a
key can be changed without a pause.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

from app.errors import DatabaseFailure
from app.settings import Settings

KEY_FILE = "secret.key"
_SHORTEST_KEY = 16

_lock: MultiFernet | None = None


def unlock(settings: Settings) -> None:
    """Make this process able to read and write credentials.

    Raises ``ValueError`` for a key that is too short to be one, ``OSError`` when the key file cannot be had.
    """
    global _lock
    given = settings.secret_key.get_secret_value() if settings.secret_key else _key_file(settings.home / KEY_FILE)
    keys = [key.strip() for key in given.split(",") if key.strip()]
    if not keys or min(map(len, keys)) < _SHORTEST_KEY:
        raise ValueError(f"HLINK_SECRET_KEY must be at least {_SHORTEST_KEY} characters, better 32 random ones")
    _lock = MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in keys])


def _key_file(path: Path) -> str:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text()
    key = Fernet.generate_key().decode()
    with os.fdopen(file, "w") as opened:
        opened.write(key)
        opened.flush()
        os.fsync(opened.fileno())
    return key


class Encrypted(TypeDecorator[dict[str, str]]):
    """A column of names and secret values; the database holds them encrypted."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, str] | None, dialect: Dialect) -> str | None:
        return None if value is None else _unlocked().encrypt(json.dumps(value).encode()).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, str] | None:
        if value is None:
            return None
        try:
            found: dict[str, str] = json.loads(_unlocked().decrypt(value.encode()))
        except InvalidToken:
            raise DatabaseFailure(
                "The stored credentials were encrypted with another key: give it as HLINK_SECRET_KEY, "
                f"or put back the file {KEY_FILE} of the service that stored them"
            ) from None
        return found


def _unlocked() -> MultiFernet:
    if _lock is None:
        raise RuntimeError("unlock() comes before the first use of credentials")
    return _lock
