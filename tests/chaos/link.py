"""A wire between the service and Flink that can be cut, filled with silence, and slowed down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from urllib.parse import urlsplit


class Wire(StrEnum):
    """What the wire is like."""

    WHOLE = "whole"
    CUT = "cut: connections are closed, and new ones at once"
    SILENT = "silent: nothing gets through, and nobody says so"
    SLOW = "slow: every piece takes its time"


class Link:
    """A proxy for one address; ``url`` is what clients use in its place."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.url = ""
        self.wire = Wire.WHOLE
        self.delay_s = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._speaks = asyncio.Event()
        self._speaks.set()

    def become(self, wire: Wire, delay_s: float = 0.0) -> None:
        """Change what it is like, for open connections too."""
        self.delay_s = delay_s
        self.wire = wire
        if wire in (Wire.CUT, Wire.WHOLE):  # what hung in silence is not delivered later
            self._loop.call_soon_threadsafe(self._close_all)
        self._loop.call_soon_threadsafe(self._speaks.clear if wire is Wire.SILENT else self._speaks.set)

    def _close_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.wire is Wire.CUT:
            writer.transport.abort()
            return
        with suppress(OSError):
            to_read, to_write = await asyncio.open_connection(self._target.hostname, self._target.port)
            self._open |= {writer, to_write}
            try:
                await asyncio.gather(self._pass_on(reader, to_write), self._pass_on(to_read, writer))
            finally:
                self._open -= {writer, to_write}
                to_write.close()
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if self.wire is Wire.SLOW:
                    await asyncio.sleep(self.delay_s)
                await self._speaks.wait()
                writer.write(piece)
                await writer.drain()
        with suppress(OSError):
            writer.close()

    @contextmanager
    def running(self) -> Iterator[Link]:
        """In a thread of its own."""
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._close_all)
            self._loop.call_soon_threadsafe(server.close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)
