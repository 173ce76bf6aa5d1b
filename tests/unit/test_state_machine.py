"""The supervisor under everything that may happen to it, on SQLite: two replicas in one simulated world."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from app.database import Database
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import State, StopMode
from tests.simulation import without_threads
from tests.state_machine import explore
from tests.world import World


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A migrated database without rows."""
    database = Database(Settings(home=tmp_path).database())

    async def make() -> None:
        await migrate(database)
        await database.close()

    asyncio.run(make())
    return tmp_path / "hlink.db"


@pytest.fixture
def in_place() -> Iterator[None]:
    with without_threads():
        yield


@pytest.mark.timeout(3600)
def test_no_promise_is_broken_whatever_happens(empty: Path, in_place: None) -> None:
    numbers = count()

    def new() -> object:
        for old in empty.parent.glob("copy-*"):
            old.unlink()
        copy = empty.with_name(f"copy-{next(numbers)}.db")
        shutil.copy(empty, copy)
        return Settings.model_validate({"database_url": f"sqlite:///{copy}"}).database()

    explore(new, examples=12)  # type: ignore[arg-type]


def test_given_a_stop_that_a_jobmanager_was_asked_for_before_it_had_recovered_the_job_then_it_is_asked_again(
    empty: Path, in_place: None
) -> None:
    world = World(Settings.model_validate({"database_url": f"sqlite:///{empty}"}).database(), seed=1)
    try:
        world.start(0)
        world.create("job:1")
        world.pause(10.0)
        world.flink.fail_over(1.5)
        world.request_stop("job:1", StopMode.SAVEPOINT)
        world.pause(30.0)
        stopped = world.facts().newest["job:1"]
    finally:
        world.close()

    assert (stopped.state, stopped.stop_attempts) == (State.FINISHED, 2)
    assert stopped.savepoint is not None
