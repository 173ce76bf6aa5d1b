"""Processes of this machine under the supervisor's runner: started once, found again, ended whole."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from app.supervisor.models import Run
from app.supervisor.runners import keeper
from app.supervisor.runners.base import AlreadySubmitted, Observation, Outcome, SubmissionRefused, Unreachable
from app.supervisor.runners.keeper import MARK, Command, End, Why
from app.supervisor.runners.process import REASON, ProcessRunner
from app.supervisor.transitions import Seen, StopMode
from stream_jobs.local import processes

WITHIN_S = 20.0


class Programs:
    """A launcher whose runs are Python programs; a run's ``spec`` has the text and the limits."""

    async def command(self, run: Run, folder: Path) -> Command:
        if "refuse" in run.spec:
            raise SubmissionRefused(run.spec["refuse"])
        return Command([sys.executable, "-u", "-c", run.spec["program"]], {"GIVEN": "so"}, **run.spec.get("limits", {}))


def program(text: str, number: int = 1, **limits: float) -> Run:
    return Run(
        id=number,
        kind="program",
        subject=f"program:{number}",
        spec={"program": text, "limits": limits},
        external_id=f"{number:032x}",
    )


def alive(run: Run) -> list[psutil.Process]:
    return processes.with_variable(MARK, run.external_id)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[ProcessRunner]:
    yield ProcessRunner(tmp_path / "runs", "this machine", Programs())
    for started in tmp_path.glob("runs/*/started.json"):  # what a failed test has left
        (started.parent / keeper.STOP).touch()


async def seen(runner: ProcessRunner, run: Run, wanted: Callable[[Observation], bool]) -> Observation:
    deadline = time.monotonic() + WITHIN_S
    while not wanted(found := (await runner.observe([run]))[run.id]):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    return found


async def ended(runner: ProcessRunner, run: Run) -> Observation:
    return await seen(runner, run, lambda found: found.seen in (Seen.FINISHED, Seen.FAILED, Seen.CANCELED))


async def logged(runner: ProcessRunner, run: Run, words: str) -> str:
    deadline = time.monotonic() + WITHIN_S
    while words not in (text := (await runner.tail(run, 0)).text):
        assert time.monotonic() < deadline, text
        await asyncio.sleep(0.02)
    return text


async def test_given_a_program_that_ends_well_then_it_has_finished_and_its_output_is_kept(
    runner: ProcessRunner,
) -> None:
    run = program("import os; print('in', os.path.basename(os.getcwd()), os.environ['GIVEN'], '数据')")
    assert (await runner.observe([run]))[run.id].seen is Seen.UNKNOWN
    await runner.start(run)

    assert (await ended(runner, run)).seen is Seen.FINISHED
    first = await runner.tail(run, 0)
    assert first.text == f"in {run.external_id} so 数据\n"
    assert (await runner.tail(run, first.next_offset)).text == ""


async def test_given_a_program_that_fails_then_its_reason_is_what_it_says_itself(runner: ProcessRunner) -> None:
    silent = program("raise SystemExit(3)")
    telling = program(f"open({REASON!r}, 'w').write('node 7: no column k'); raise SystemExit(1)", 2)
    await runner.start(silent)
    await runner.start(telling)

    assert (await ended(runner, silent)).exception == "It ended with exit status 3; its log says more"
    assert (await ended(runner, telling)).exception == "node 7: no column k"


async def test_given_a_run_that_was_started_then_it_is_not_started_again_even_when_it_has_ended(
    runner: ProcessRunner,
) -> None:
    run = program("print('once')")
    results = await asyncio.gather(*(runner.start(run) for _ in range(4)), return_exceptions=True)
    await ended(runner, run)

    assert [type(result) for result in results if result is not None] == [AlreadySubmitted] * 3
    with pytest.raises(AlreadySubmitted):
        await runner.start(run)
    assert (await runner.tail(run, 0)).text == "once\n"


async def test_given_a_refusal_then_nothing_is_started(runner: ProcessRunner) -> None:
    run = program("")
    run.spec = {"refuse": "no interpreter with torch"}
    with pytest.raises(SubmissionRefused, match="no interpreter"):
        await runner.start(run)
    assert (await runner.observe([run]))[run.id].seen is Seen.UNKNOWN


_FAMILY = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True)
print("begun", flush=True)
time.sleep(600)
"""


async def test_given_a_stop_then_the_process_and_all_that_it_started_are_gone(runner: ProcessRunner) -> None:
    run = program(_FAMILY)
    await runner.start(run)
    await logged(runner, run, "begun")
    assert len(alive(run)) == 3
    assert (await runner.observe([run]))[run.id].seen is Seen.RUNNING
    report = await runner.stop(run, StopMode.CANCEL)

    assert report.outcome is Outcome.UNDER_WAY
    assert (await ended(runner, run)).seen is Seen.CANCELED
    assert alive(run) == []
    assert (await runner.tail(run, 0)).text.endswith("[hlink] Stopped\n")


async def test_given_a_process_that_will_not_end_then_it_is_killed_after_its_grace(runner: ProcessRunner) -> None:
    run = program(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(600)",
        grace_s=0.3,
    )
    await runner.start(run)
    await logged(runner, run, "deaf")
    await runner.stop(run, StopMode.SAVEPOINT)

    assert (await ended(runner, run)).seen is Seen.CANCELED
    assert alive(run) == []


async def test_given_a_stop_before_the_start_then_the_program_never_runs(runner: ProcessRunner) -> None:
    run = program("print('ran')")
    runner.folder(run.external_id).mkdir(parents=True)
    await runner.stop(run, StopMode.CANCEL)
    await runner.start(run)

    assert (await ended(runner, run)).seen is Seen.CANCELED
    assert (await runner.tail(run, 0)).text == ""


async def test_given_too_much_memory_or_time_then_it_is_ended_and_says_so(runner: ProcessRunner) -> None:
    large = program("import time; kept = bytearray(300 * 2**20); time.sleep(600)", memory_bytes=150 * 2**20)
    slow = program("import time; time.sleep(600)", 2, seconds=0.5)
    await runner.start(large)
    await runner.start(slow)

    memory, late = await ended(runner, large), await ended(runner, slow)
    assert (memory.seen, late.seen) == (Seen.FAILED, Seen.FAILED)
    assert "of memory and may use 150 MiB" in (memory.exception or "")
    assert late.exception == "It did not end within the 0.5 s that it may take: ended"


async def test_given_a_worker_that_is_killed_then_that_is_its_end(runner: ProcessRunner) -> None:
    run = program(_FAMILY)
    await runner.start(run)
    await logged(runner, run, "begun")
    (first,) = [one for one in alive(run) if "subprocess.Popen" in " ".join(one.cmdline())]
    first.kill()

    found = await ended(runner, run)
    assert found.seen is Seen.FAILED
    assert "killed by SIGKILL" in (found.exception or "")
    assert [one for one in alive(run) if os.getsid(one.pid) == first.pid] == []


async def test_given_a_keeper_that_is_killed_then_nothing_of_the_run_lives_on_and_it_has_failed(
    runner: ProcessRunner,
) -> None:
    run = program(_FAMILY)
    await runner.start(run)
    await logged(runner, run, "begun")
    begun = keeper.read_json(runner.folder(run.external_id) / keeper.STARTED) or {}
    os.kill(begun["pid"], signal.SIGKILL)

    found = await ended(runner, run)
    assert (found.seen, found.raw) == (Seen.FAILED, Why.KEEPER_GONE.value)
    deadline = time.monotonic() + WITHIN_S
    while alive(run):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    with pytest.raises(AlreadySubmitted):
        await runner.start(run)


async def test_given_another_process_of_the_service_then_it_finds_the_run_and_can_end_it(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    run = program(_FAMILY)
    await runner.start(run)
    await logged(runner, run, "begun")
    other = ProcessRunner(tmp_path / "runs", "this machine", Programs(), at_once=2)

    assert (await other.observe([run]))[run.id].seen is Seen.RUNNING
    room = await other.room(run)
    assert room is not None
    assert (room.free, room.total, list(room.holders or ())) == (1, 2, [run.external_id])
    with pytest.raises(Unreachable):
        await other.remove(run.external_id)
    await other.stop(run, StopMode.CANCEL)
    await ended(other, run)
    await seen(other, run, lambda _: not keeper.is_held(tmp_path / "runs" / "alive" / run.external_id))
    await other.remove(run.external_id)
    assert not other.folder(run.external_id).exists()


async def test_given_somebody_to_tell_then_the_end_of_a_process_is_told_when_it_comes(tmp_path: Path) -> None:
    told: asyncio.Queue[Run] = asyncio.Queue()
    with closing(ProcessRunner(tmp_path / "runs", "this machine", Programs(), ended=told.put_nowait)) as runner:
        run, other = program("import time; time.sleep(1)"), program("import time; time.sleep(600)", 2)
        for one in (run, other):
            await runner.start(one)
            await seen(runner, one, lambda found: found.seen is Seen.RUNNING)
        async with asyncio.timeout(WITHIN_S):
            assert await told.get() is run

        assert (await runner.observe([run]))[run.id].seen is Seen.FINISHED
        begun = keeper.read_json(runner.folder(run.external_id) / keeper.STARTED) or {}
        assert not psutil.pid_exists(begun["pid"]), "nothing is left of its keeper"
        await runner.observe([other])
        await runner.stop(other, StopMode.CANCEL)
        async with asyncio.timeout(WITHIN_S):
            assert await told.get() is other
        assert told.empty()


async def test_given_an_end_then_what_it_used_is_noted(runner: ProcessRunner) -> None:
    run = program("import time; kept = bytearray(60 * 2**20); time.sleep(1.2)")
    await runner.start(run)
    await ended(runner, run)

    end = End.read(runner.folder(run.external_id))
    assert end is not None
    assert (end.why, end.code) == (Why.EXITED, 0)
    assert end.most_memory_bytes > 50 * 2**20


async def test_given_a_log_then_pieces_never_cut_a_character(runner: ProcessRunner) -> None:
    run = program("print('数' * 30000)")
    await runner.start(run)
    await ended(runner, run)
    text, offset = "", 0
    while (piece := await runner.tail(run, offset)).text:
        text, offset = text + piece.text, piece.next_offset

    assert text == "数" * 30000 + "\n"
