"""A proxy before Flink as operators put one there: under a path of its own, and only for those who log in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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


@contextmanager
def proxy_before(flink_url: str) -> Iterator[Proxy]:
    """The proxy, in a thread of its own."""
    loop = asyncio.new_event_loop()
    proxy = Proxy("", flink_url)
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0))
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{proxy.path}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
