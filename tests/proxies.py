"""What may lie between the service and Flink: a proxy that wants a login, and a line that is disturbed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """``accepted``: the headers ``Authorization`` that are let in; ``let_in``: what of those came, method and path."""

    url: str
    flink_url: str
    path: str = "/gate"
    accepted: set[str] = field(default_factory=set)
    let_in: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: the head is judged and rewritten, all else passes as it is."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            sent = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if sent.get("authorization") not in self.accepted:
                writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlogin")
            elif not target.startswith(f"{self.path}/"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhere")
            else:
                self.let_in.append(f"{method} {target}")
                flink = urlsplit(self.flink_url)
                to_read, to_write = await asyncio.open_connection(flink.hostname, flink.port)
                kept = [line for line in lines if not line.lower().startswith(("connection:", "authorization:"))]
                head = [f"{method} {target.removeprefix(self.path)} HTTP/1.1", "Connection: close", *kept]
                to_write.write("\r\n".join(head).encode("latin-1"))
                body = asyncio.create_task(_pass_on(reader, to_write))
                await _pass_on(to_read, writer)
                body.cancel()
                to_write.close()
            await writer.drain()
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()


_ELSEWHERE = {
    "/overview": {
        "flink-version": "2.3.0", "taskmanagers": 0, "slots-total": 0, "slots-available": 0,
        "jobs-running": 0, "jobs-finished": 0, "jobs-cancelled": 0, "jobs-failed": 0,
    },
    "/jobs/overview": {"jobs": []},
    "/jobmanager/config": [{"key": "web.tmpdir", "value": "/tmp/flink-web-elsewhere"}],
}  # fmt: skip
"""What a cluster answers that has neither jobs nor TaskManagers."""


class Line(StrEnum):
    """How a line to Flink is."""

    GOOD = "GOOD"
    CUT = "CUT"
    """Connections are closed as soon as something is asked."""
    GARBAGE = "GARBAGE"
    """Something answers that is not Flink."""
    SILENT = "SILENT"
    """Connections stay, and no answer comes."""
    ELSEWHERE = "ELSEWHERE"
    """It leads to another cluster, which is empty."""


@dataclass
class BadLine:
    """A line to Flink that can be disturbed; :meth:`be` says how it is from now on, also for open connections."""

    url: str
    flink_url: str
    line: Line = Line.GOOD
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None

    def be(self, line: Line) -> None:
        self.line = line
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: [one.close() for one in self._open])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.line is Line.GOOD:
                flink = urlsplit(self.flink_url)
                to_read, to_write = await asyncio.open_connection(flink.hostname, flink.port)
                there = asyncio.create_task(_pass_on(reader, to_write))
                await _pass_on(to_read, writer)
                there.cancel()
                to_write.close()
                return
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                if self.line is Line.CUT:
                    return
                if self.line is Line.SILENT:
                    await reader.read()
                    return
                path = urlsplit(head.split(" ")[1]).path
                status, body = 200, b"<html>It works!</html>"
                if self.line is Line.ELSEWHERE:
                    known = _ELSEWHERE.get(path)
                    error = {"errors": ["org.apache.flink.runtime.messages.FlinkJobNotFoundException: not here"]}
                    status, body = (
                        (404 if known is None else 200),
                        json.dumps(error if known is None else known).encode(),
                    )
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


@contextmanager
def bad_line_to(flink_url: str) -> Iterator[BadLine]:
    """The line, in a thread of its own."""
    made = BadLine("", flink_url)
    with _serving(made.serve) as (url, loop):
        made.url, made._loop = url, loop
        yield made


@contextmanager
def _serving(serve: Callable[..., Awaitable[None]]) -> Iterator[tuple[str, asyncio.AbstractEventLoop]]:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", loop
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()


@contextmanager
def proxy_before(flink_url: str) -> Iterator[Proxy]:
    """The proxy, in a thread of its own."""
    proxy = Proxy("", flink_url)
    with _serving(proxy.serve) as (url, _):
        proxy.url = f"{url}{proxy.path}"
        yield proxy
