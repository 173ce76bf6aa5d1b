"""A double of an outside system on which runs run, kept in a file so that it outlives the service's processes.

It keeps the one promise that the supervisor needs of a real one: in its life it takes an external id once. It can be
unreachable, restarted (then it has forgotten everything), and it counts what was asked of it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.supervisor.models import Run
from app.supervisor.runners.base import (
    AlreadySubmitted,
    Inspection,
    LeftState,
    Observation,
    Outcome,
    Report,
    Room,
    SubmissionRefused,
    SubmissionUncertain,
    Tail,
    Unreachable,
)
from app.supervisor.transitions import Seen, StopMode

_SCHEMA = """
CREATE TABLE job (life INT, id TEXT, state TEXT, savepoint TEXT, PRIMARY KEY (life, id));
CREATE TABLE stop (token TEXT PRIMARY KEY, id TEXT, mode TEXT);
CREATE TABLE asked (what TEXT, id TEXT, process INT);
CREATE TABLE disposed (path TEXT);
CREATE TABLE is_now (life INT, reachable INT, stop_fails TEXT, disposal_fails TEXT, forgets INT);
INSERT INTO is_now VALUES (1, 1, NULL, NULL, 0);
CREATE TABLE slots (total INT);
CREATE TABLE holds (id TEXT, slots INT);
CREATE TABLE state_left (id TEXT, path TEXT, complete INT);
"""


class Outside:
    """The system itself, for tests to look at and to disturb."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        if not self._all("SELECT 1 FROM sqlite_master"):
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def jobs(self) -> dict[str, str]:
        """Id -> state, of this life."""
        return dict(self._all("SELECT id, state FROM job WHERE life = (SELECT life FROM is_now)"))

    def ever(self) -> int:
        """How many jobs were started, in all lives."""
        return int(self._all("SELECT count(*) FROM job")[0][0])

    def holders(self) -> dict[str, str]:
        """Who holds slots: id and name."""
        return {one: f"name of {one[:4]}" for one, state in self.jobs().items() if state in ("RUNNING", "STARTING")}

    def asked(self, what: str) -> int:
        """How often it was asked for ``submit``, ``look`` or ``stop``."""
        return int(self._all("SELECT count(*) FROM asked WHERE what = ?", what)[0][0])

    def askers(self, what: str) -> list[tuple[str, int]]:
        """Who asked for what: pairs of external id and process number."""
        return [
            (str(one), int(process)) for one, process in self._all("SELECT id, process FROM asked WHERE what = ?", what)
        ]

    def has_slots(self, total: int) -> None:
        """From now on it counts slots, and has so many."""
        # In one statement: without a row, another process would see that it does not count them.
        self._all("INSERT OR REPLACE INTO slots (rowid, total) VALUES (1, ?)", total)

    def has_state(self, external_id: str, path: str, *, complete: bool | None = True) -> None:
        """A checkpoint of that job is at ``path``; the last one told of is the newest."""
        self._all("INSERT INTO state_left VALUES (?, ?, ?)", external_id, path, complete)

    def returns_to(self, life: int) -> None:
        """It is the one again that it was in that life, with everything that it knew."""
        self._all("UPDATE is_now SET life = ?", life)

    def becomes(self, state: Seen) -> None:
        """All jobs of this life change to this state."""
        self._all("UPDATE job SET state = ? WHERE life = (SELECT life FROM is_now)", state)

    def forget(self, external_id: str) -> None:
        """It forgets an ended job, as Flink does after an hour; it remembers everything else."""
        self._all("DELETE FROM job WHERE id = ?", external_id)

    def restart(self) -> None:
        """It loses its memory and takes every id again."""
        self._all("UPDATE is_now SET life = life + 1")

    def be_reachable(self, reachable: bool) -> None:
        self._all("UPDATE is_now SET reachable = ?", int(reachable))

    def fail_stops(self, cause: str | None) -> None:
        """Attempts to stop with a savepoint fail with this cause, until None is given."""
        self._all("UPDATE is_now SET stop_fails = ?", cause)

    def fail_disposals(self, cause: str | None) -> None:
        """Savepoints cannot be deleted for this cause, until None is given."""
        self._all("UPDATE is_now SET disposal_fails = ?", cause)

    def die_at_stops(self) -> None:
        """It makes the savepoint of a stop, and loses its memory before it can say so."""
        self._all("UPDATE is_now SET forgets = 1")

    def disposed(self) -> list[str]:
        """The paths of the savepoints that were deleted, as often as that was done."""
        return [str(path) for (path,) in self._all("SELECT path FROM disposed")]

    # What the runner uses

    def dispose(self, path: str) -> str | None:
        [(fails,)] = self._all("SELECT disposal_fails FROM is_now")
        if fails is None:
            self._all("INSERT INTO disposed VALUES (?)", path)
        return None if fails is None else str(fails)

    def forgets(self) -> bool:
        return bool(self._all("SELECT forgets FROM is_now")[0][0])

    def savepoint_of(self, token: str) -> str | None:
        found = self._all("SELECT savepoint FROM job WHERE savepoint = ?", f"/savepoints/{token}/savepoint-1")
        return str(found[0][0]) if found else None

    def ask(self, what: str, external_id: str = "") -> tuple[int, str | None]:
        """Note the request. Raises Unreachable. Returns the life and why stops fail."""
        [(life, reachable, stop_fails)] = self._all("SELECT life, reachable, stop_fails FROM is_now")
        self._all("INSERT INTO asked VALUES (?, ?, ?)", what, external_id, os.getpid())
        if not reachable:
            raise Unreachable("switched off by the test")
        return int(life), stop_fails

    def slots(self) -> tuple[int, int] | None:
        """Free ones and all; None when it does not count."""
        total = self._all("SELECT total FROM slots")
        if not total:
            return None
        held = self._all(
            "SELECT coalesce(sum(slots), 0) FROM holds WHERE id IN (SELECT id FROM job WHERE life = "
            "(SELECT life FROM is_now) AND state NOT IN ('CANCELED', 'FINISHED', 'FAILED'))"
        )
        return int(total[0][0]) - int(held[0][0]), int(total[0][0])

    def state_left(self, external_id: str, path: str | None) -> tuple[str, bool | None] | None:
        rows = self._all("SELECT path, complete FROM state_left WHERE id = ? ORDER BY rowid DESC", external_id)
        wanted = [row for row in rows if path is None or row[0] == path]
        return (wanted[0][0], None if wanted[0][1] is None else bool(wanted[0][1])) if wanted else None

    def take(self, external_id: str, state: str, slots: int | None = None) -> None:
        life, _ = self.ask("submit", external_id)
        if slots is not None:
            self._all("INSERT INTO holds VALUES (?, ?)", external_id, slots)
        try:
            self._all("INSERT INTO job VALUES (?, ?, ?, NULL)", life, external_id, state)
        except sqlite3.IntegrityError:
            raise AlreadySubmitted from None

    def end(self, external_id: str, state: Seen, savepoint: str | None = None) -> None:
        self._all(
            "UPDATE job SET state = ?, savepoint = ? WHERE id = ? AND life = (SELECT life FROM is_now)",
            state,
            savepoint,
            external_id,
        )

    def savepoint(self, external_id: str) -> str | None:
        found = self._all("SELECT savepoint FROM job WHERE id = ? ORDER BY life DESC", external_id)
        return found[0][0] if found else None

    def first_time(self, token: str, external_id: str, mode: StopMode) -> bool:
        try:
            self._all("INSERT INTO stop VALUES (?, ?, ?)", token, external_id, mode)
        except sqlite3.IntegrityError:
            return False
        return True

    def stops(self) -> int:
        """How many different attempts to stop there were."""
        return int(self._all("SELECT count(*) FROM stop")[0][0])

    def _all(self, statement: str, *values: Any) -> list[Any]:
        return self._db.execute(statement, values).fetchall()


class OutsideRunner:
    """A runner on it. Of a run's spec it reads ``place``, ``begins_as``, and ``refuse`` or ``cut_off`` (messages).

    ``not_sent`` is how many submissions at first find nobody who could send them.
    """

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self._not_sent = 0

    def place(self, run: Run) -> str:
        return str(run.spec.get("place", "outside"))

    async def incarnation(self, run: Run) -> str | None:
        life, _ = self.outside.ask("look", run.external_id)
        return str(life)

    async def start(self, run: Run) -> None:
        if "refuse" in run.spec:
            raise SubmissionRefused(run.spec["refuse"])
        if self._not_sent < run.spec.get("not_sent", 0):
            self._not_sent += 1
            raise Unreachable("no planner is ready")
        if "cut_off" in run.spec:
            self.outside.ask("submit", run.external_id)
            raise SubmissionUncertain(run.spec["cut_off"])
        self.outside.take(run.external_id, run.spec.get("begins_as", Seen.RUNNING), run.slots)

    async def observe(self, runs: Sequence[Run]) -> Mapping[int, Observation]:
        life, _ = self.outside.ask("look")
        jobs = self.outside.jobs()
        return {
            run.id: Observation(
                Seen(jobs.get(run.external_id, Seen.UNKNOWN)),
                jobs.get(run.external_id, "UNKNOWN"),
                incarnation=str(life),
                savepoint=self.outside.savepoint(run.external_id),
                tasks_running=run.slots if jobs.get(run.external_id) == Seen.RUNNING else None,
                tasks_total=run.slots,
                exception="it broke" if jobs.get(run.external_id) == Seen.FAILED else None,
            )
            for run in runs
        }

    async def stop(self, run: Run, mode: StopMode) -> Report:
        _, stop_fails = self.outside.ask("stop", run.external_id)
        assert run.stop_token is not None
        self.outside.first_time(run.stop_token, run.external_id, mode)
        if mode is StopMode.CANCEL:
            self.outside.end(run.external_id, Seen.CANCELED)
            return Report(Outcome.UNDER_WAY)
        if stop_fails is not None:
            return Report(Outcome.FAILED, cause=stop_fails)
        savepoint = f"/savepoints/{run.stop_token}/savepoint-1"
        self.outside.end(run.external_id, Seen.FINISHED, savepoint)
        if self.outside.forgets():
            self.outside.restart()
            return Report(Outcome.UNDER_WAY)
        return Report(Outcome.DONE, savepoint=savepoint)

    async def savepoint(self, run: Run, token: str, *, native: bool) -> Report:
        _, fails = self.outside.ask("savepoint", run.external_id)
        if fails is not None:
            return Report(Outcome.FAILED, cause=fails)
        if run.external_id not in self.outside.jobs():
            return Report(Outcome.FAILED, cause="not known")
        return Report(Outcome.DONE, savepoint=f"/savepoints/{token}/savepoint-1")

    async def inspect(self, run: Run, path: str) -> Inspection:
        return Inspection(True, size=1, made_with="1.0")

    async def find_savepoint(self, run: Run, token: str) -> str | None:
        return self.outside.savepoint_of(token)

    async def dispose(self, run: Run, path: str, token: str) -> Report:
        self.outside.ask("dispose", run.external_id)
        fault = self.outside.dispose(path)
        return Report(Outcome.DONE) if fault is None else Report(Outcome.FAILED, cause=fault)

    async def room(self, run: Run) -> Room | None:
        asked_at = time.monotonic()
        self.outside.ask("room", run.external_id)
        slots = self.outside.slots()
        if slots is None:
            return None
        return Room(*slots, asked_at, None if slots[0] >= (run.slots or 0) else self.outside.holders())

    async def left_state(self, run: Run, path: str | None) -> LeftState | None:
        found = self.outside.state_left(run.external_id, path)
        if found is None:
            return None if path is None else LeftState(path, None, "nothing is there")
        return LeftState(*found, reason=None if found[1] else "a file is missing")

    async def tail(self, run: Run, offset: int) -> Tail:
        text = f"log of {run.external_id}"[offset:]
        return Tail(text, offset + len(text))
