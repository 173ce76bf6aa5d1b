"""A tiny HTTP server that answers what a test wants, for what a real Flink does not do on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

NOTHING = b""
"""As an answer: the connection is closed without one."""

SILENCE = b"\0"
"""As an answer: none, and the connection stays."""


@dataclass
class Answers:
    """``by_path`` maps a path (without the query) to a JSON value, to ``(status, JSON value)`` or to raw bytes."""

    address: str
    by_path: dict[str, Any] = field(default_factory=dict)
    default: Any = (404, {"errors": ["Not found"]})
    asked: list[str] = field(default_factory=list)
    once: list[Any] = field(default_factory=list)
    """Answers that are given before all others, in turn."""
    connections: int = 0

    def answer(self, request_line: str) -> bytes:
        method, target, _ = request_line.split(" ", 2)
        self.asked.append(f"{method} {target}")
        wanted = self.once.pop(0) if self.once else self.by_path.get(urlsplit(target).path, self.default)
        if isinstance(wanted, bytes):
            return wanted
        status, value = wanted if isinstance(wanted, tuple) else (200, wanted)
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@asynccontextmanager
async def answering() -> AsyncIterator[Answers]:
    """A server on a free port of this machine."""
    answers = Answers("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                for line in lines:
                    if line.lower().startswith("content-length:"):
                        await reader.readexactly(int(line.partition(":")[2]))
                answer = answers.answer(lines[0])
                if answer == SILENCE:
                    await asyncio.sleep(3600)
                if answer == NOTHING:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    answers.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield answers
    finally:
        server.close()
