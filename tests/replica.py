"""A replica as a process of its own: ``python -m tests.replica <database URL> <file of the outside system>``.

It ticks fast, with leases of ``LEASE_S``, says ``ready`` when it does, and ends when its standard input does. The
schema must be there.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from app.database import Database
from app.ids import NodeLease
from app.settings import Settings
from app.supervisor import Pace, Supervisor
from tests.outside import Outside, OutsideRunner

TICK_S = 0.1
LEASE_S = 1.0


async def run(url: str, outside: Path) -> None:
    database = Database(Settings.model_validate({"database_url": url}).database())
    supervisor = Supervisor(
        database, f"replica:{os.getpid()}", Pace(tick_s=TICK_S, lease_s=LEASE_S, lost_after_s=0.5, grace_s=1)
    )
    supervisor.register("test", OutsideRunner(Outside(outside)))
    async with NodeLease(database).held():
        await supervisor.start()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await supervisor.stop()
    await database.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2])))
