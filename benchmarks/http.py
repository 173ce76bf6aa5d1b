"""A keep-alive HTTP client that costs as little as possible: the same one asks both sides that are compared."""

from __future__ import annotations

import http.client
import json
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

TIMEOUT_S = 60.0
_IDLE_S = 2.0
"""Servers close a connection that idles (uvicorn after 5 s); one that could be closed is not used again."""


class Failed(RuntimeError):
    """A server answered with an error, or not as it should."""


class Http:
    """One connection to one server; not for several threads."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname or "", parts.port
        self._connection = http.client.HTTPConnection(*self.address, timeout=timeout_s)
        self._used_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def text(self, method: str, path: str, body: object = None) -> str:
        """The answer's body.

        :raises Failed: the status is not 2xx.
        :raises OSError, http.client.HTTPException: there is no answer.
        """
        content = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        if time.monotonic() - self._used_at > _IDLE_S:
            self._connection.close()
        try:
            self._connection.request(method, path, content, headers)
            answer = self._connection.getresponse()
            read = answer.read().decode()
        except (OSError, http.client.HTTPException):
            # The next request opens a new connection.
            self._connection.close()
            raise
        self._used_at = time.monotonic()
        if not 200 <= answer.status < 300:
            raise Failed(f"{method} {path}: status {answer.status}: {read[:2000]}")
        return read

    def json(self, method: str, path: str, body: object = None) -> Any:
        """The answer's body as JSON. Raises what :meth:`text` raises."""
        return json.loads(self.text(method, path, body) or "null")
