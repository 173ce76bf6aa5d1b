"""Copying by a process of its own: begun, listened to, and ended when nobody wants the file any more."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import InvalidInput
from app.hlink.connections.kafka import kafka_reason
from app.hlink.extracts.orders import Order
from app.hlink.extracts.program import packed
from app.hlink.extracts.rows import Progress

_LONGEST_LINE = 1024**2


@dataclass(frozen=True, slots=True)
class Extract:
    """What was copied; the file is on disk. ``size`` is in bytes."""

    rows: int
    size: int
    md5: str
    skipped: int = 0
    """Messages that could not be read, of a table that leaves those out."""


async def extract(order: Order, file: Path, told: Callable[[Progress], None]) -> Extract:
    """Copy an order's rows to a CSV file: UTF-8, commas, names in its first row.

    Beginning again, after a death at any moment, is harmless. Cancelled, it ends the process.

    Raises:
        InvalidInput: it cannot be done; the message says why, without credentials.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "app.hlink.extracts.program", str(file)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=_LONGEST_LINE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        try:
            process.stdin.write(packed(order))
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it says tells more
        async for line in process.stdout:
            said = json.loads(line)
            if "done" in said:
                return Extract(**said["done"])
            if "refused" in said:
                raise InvalidInput(said["refused"])
            if "broker" in said:
                raise InvalidInput(f"the topic of '{order.name}' cannot be read: {kafka_reason(said['broker'])}")
            told(Progress(**said))
        status = await process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise InvalidInput(f"the process that copied '{order.name}' ended by {how} before it was done: try again")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
