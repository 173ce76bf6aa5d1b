"""A supervisor on a real database and a double of an outside system, driven tick by tick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlmodel import col, select, update

from app.database import Database
from app.ids import NodeLease
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import Pace, Run, StopMode, Supervisor, create_run, latest_runs, request_stop
from app.supervisor.models import Event
from app.supervisor.recovery import Budget
from tests.outside import Outside, OutsideRunner

RECOVERY = {"of": ["LOST"], "without_state": False}


def pace(**budget: Any) -> Pace:
    """Fast, and without pauses between attempts unless they are asked for."""
    limits = {"most": 3, "window_s": 600, "pause_s": 0, "grace_s": 0, **budget}
    return Pace(tick_s=0.05, lease_s=30, lost_after_s=0, grace_s=0, look_s=5, drain_s=1, recovery=Budget(**limits))


class World:
    """``supervisor`` ticks when :meth:`ticks` says so; :meth:`replica` makes another one."""

    def __init__(self, database: Database, outside: Outside) -> None:
        self.database = database
        self.outside = outside
        self.supervisor = self.replica("me")

    @classmethod
    async def on(cls, url: str, folder: Path) -> World:
        address = url or f"sqlite:///{folder}/hlink.db"
        database = Database(Settings.model_validate({"database_url": address}).database())
        await migrate(database)
        await NodeLease(database).claim()
        return cls(database, Outside(folder / "outside.db"))

    async def close(self) -> None:
        self.outside.close()
        await self.database.close()

    def replica(self, owner: str, **budget: Any) -> Supervisor:
        made = Supervisor(self.database, owner, pace(**budget))
        made.register("test", OutsideRunner(self.outside))
        return made

    async def submit(
        self, number: int = 1, slots: int | None = None, priority: int = 0, wait_s: float | None = None, **spec: Any
    ) -> Run:
        """A run of ``job:<number>``."""
        if slots is not None:
            spec["queue"] = {
                "place": "outside", "slots": slots, "priority": priority, "wait_s": wait_s, "name": f"job {number}"
            }  # fmt: skip
        async with self.database.write() as session:
            return await create_run(session, "test", f"job:{number}", spec)

    async def stop(self, number: int = 1, mode: StopMode = StopMode.CANCEL) -> None:
        async with self.database.write() as session:
            assert await request_stop(session, f"job:{number}", mode) is not None

    async def ticks(self, count: int = 1, supervisor: Supervisor | None = None) -> None:
        ticking = supervisor or self.supervisor
        for _ in range(count):
            await ticking.tick()
            await ticking.settled()

    async def now(self, run: Run) -> Run:
        async with self.database.read() as session:
            found = await session.get(Run, run.id)
        assert found is not None
        return found

    async def newest(self, number: int = 1) -> Run:
        async with self.database.read() as session:
            return (await latest_runs(session, [f"job:{number}"]))[f"job:{number}"]

    async def change(self, run: Run, **columns: Any) -> None:
        """What time, or somebody else, does to a run."""
        async with self.database.write() as session:
            await session.exec(update(Run).where(col(Run.id) == run.id).values(**columns))

    async def told(self, run: Run, what: str) -> list[str]:
        """The messages of the run's events of that sort."""
        async with self.database.read() as session:
            found = await session.exec(select(Event.message).where(Event.run_id == run.id, Event.what == what))
            return [message or "" for message in found]
