"""The stage on which faults happen: an embedded stack of its own, the real service, and jobs under way."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from stream_jobs.local import processes
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.local.stack import Stack
from tests.chaos import expected
from tests.chaos.link import Link, Wire
from tests.chaos.watch import Watcher
from tests.chaos.work import Work, Works
from tests.services import Api, ServiceProcess
from tests.stack import shared_artifacts

_QUOTA = "8m"
_SHOWN_LINES = 60


class Replica(ServiceProcess):
    """One replica of the service; all share a home, as they would share a disk."""

    def __init__(self, home: Path, number: int, environment: dict[str, str]) -> None:
        super().__init__(home, environment)
        self.name = f"service {number}"
        self.log = home / f"service-{number}.log"

    def wait_until_it_answers(self, timeout_s: float = expected.STARTS_WITHIN_S) -> None:
        """On a busy machine that takes long."""
        super().wait_until_it_answers(timeout_s)

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def planners(self) -> list[psutil.Process]:
        """Its planner processes, each with its JVM."""
        if self.process is None or not self.is_alive:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [
                child
                for child in psutil.Process(self.process.pid).children(recursive=True)
                if any(argument.endswith("planner/worker.py") for argument in child.cmdline())
            ]
        return []


class Stage:
    """Use :func:`prepared`."""

    def __init__(self, home: Path, seed: int, say: Callable[[str], None]) -> None:
        self.home = home
        self.chance = random.Random(seed)
        self.seed = seed
        self.say = say
        self.stack = Stack(home, artifacts_folder=shared_artifacts())
        self.endpoints: Endpoints
        self.link: Link
        self.replicas: list[Replica] = []
        self.works: Works
        self.watcher: Watcher
        self.disturbed = threading.Event()
        """Set while the services cannot reach Flink or their database."""
        self._requests: list[threading.Thread] = []

    # The stage's parts

    @property
    def savepoints(self) -> Path:
        """The folder for savepoints, which has a quota where this user may mount."""
        return self.home / "savepoints"

    def component(self, name: str) -> list[psutil.Process]:
        """The processes of a component of the stack."""
        return processes.marked(processes.mark(self.stack.home, name))

    def repair(self) -> None:
        """Bring back what is missing of the stack."""
        self.stack.up()

    def start_replicas(self) -> None:
        """Start those that do not live, all at once."""
        for replica in self.replicas:
            if not replica.is_alive:
                replica.begin()
        for replica in self.replicas:
            replica.wait_until_it_answers()

    def living(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.is_alive]

    # Requests, as users make them

    def request(self, method: str, path: str, timeout_s: float = 60.0) -> dict[str, Any] | None:
        """Ask a living replica; None when no answer came."""
        living = self.living()
        if not living:
            return None
        try:
            answer = httpx.request(
                method, f"{self.chance.choice(living).url}{path}", timeout=timeout_s, trust_env=False
            )
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError):
            return None
        return found

    def in_background(self, *requests: tuple[str, str]) -> None:
        """Ask for one after the other while something else happens."""

        def ask() -> None:
            for method, path in requests:
                self.request(method, path)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        self._requests.append(thread)

    def disturb_with_traffic(self, work: Work) -> str:
        """Begin something that users do with a job; returns what."""
        what = self.chance.choice(("restart", "savepoint", "cancel and restart", "nothing"))
        restart = ("POST", f"/jobs/restart/{work.id}")
        match what:
            case "restart":
                self.in_background(restart)
            case "savepoint":
                self.in_background(("GET", f"/jobs/savepoint/{work.id}"))
            case "cancel and restart":
                # Run anew it would begin from nothing; a restart goes on from the state that is left.
                self.in_background(("POST", f"/jobs/cancel/{work.id}"), restart)
        return f"{what} of {work.name}" if what != "nothing" else what

    # After a fault

    def until_all_is_well(self, within_s: float = expected.WELL_AGAIN_S) -> None:
        """Wait until every job runs, as it is to, with what an operator does meanwhile.

        Components of the stack that have ended are started again, and jobs that were stopped by request; those that
        failed or were lost have to come back by themselves. Raises ``AssertionError`` when that takes too long.
        """
        for thread in self._requests:
            thread.join(120)
        self._requests.clear()
        deadline = time.monotonic() + within_s
        stopped_since: dict[int, float] = {}
        while True:
            if self.stack.endpoints() is None:
                self.say("   a component of the stack has ended and is started again")
                self.repair()
            unwell = [work for work in self.works.all if not self.watcher.is_well(work)]
            if not unwell:
                return
            now = time.monotonic()
            for work in unwell:
                told = self.watcher.status(self.replicas[0].url, work)
                if told is None or told[0] != expected.STOPPED:
                    stopped_since.pop(work.id, None)
                elif now - stopped_since.setdefault(work.id, now) > expected.STAYS_STOPPED_S:
                    answer = self.request("POST", f"/jobs/restart/{work.id}")
                    if answer is not None and not answer["success"]:
                        self.say(f"   {work.name} is not restarted: {answer['msg']}")
                    stopped_since.pop(work.id, None)
            if now > deadline:
                said = [
                    f"{work.name}: {self.watcher.status(self.replicas[0].url, work)}, Flink has "
                    f"{[job for job in self.watcher.flink_jobs() or () if job[1] == work.name]}; its log ends with\n"
                    f"{self._last_lines_of_log(work)}"
                    for work in unwell
                ]
                raise AssertionError("\n".join([f"not well {within_s:g} s after the last fault", *said]))
            time.sleep(0.5)

    def _last_lines_of_log(self, work: Work) -> str:
        answer = self.request("GET", f"/jobs/{work.id}/log")
        return "\n".join(str(answer["data"]).splitlines()[-_SHOWN_LINES:]) if answer is not None else "no answer"

    def check(self) -> None:
        """Hold results and savepoints against the truth; what is wrong is noted with the watcher's findings."""
        self.watcher.check_savepoints()
        for wrong in self.works.wrong():
            self.note_wrong_result(wrong)

    def check_at_the_end(self) -> None:
        """The same, once all that was fed has come out."""
        self.works.feed.stop()
        for wrong in self.works.wrong_at_the_end():
            self.note_wrong_result(wrong)
        self.watcher.check_savepoints()

    def note_wrong_result(self, wrong: str) -> None:
        if wrong not in self.watcher.findings.wrong_results:
            self.watcher.findings.wrong_results.append(wrong)
            self.say(f"!! {wrong}")


@contextmanager
def prepared(
    home: Path,
    seed: int,
    say: Callable[[str], None],
    *,
    replicas: int = 2,
    patience_s: float = expected.CONTRADICTION_S,
) -> Iterator[Stage]:
    """A stage with jobs that run and are fed; with one replica the service's database is SQLite.

    ``patience_s`` is how long the API may contradict Flink. Nothing is left of it at the end.
    """
    shutil.rmtree(home, ignore_errors=True)
    stage = Stage(home, seed, say)
    with ExitStack() as opened:
        opened.callback(shutil.rmtree, home, ignore_errors=True)
        opened.callback(stage.stack.down, purge=True)
        stage.endpoints = stage.stack.up()
        opened.enter_context(_quota(stage.savepoints))
        stage.link = opened.enter_context(Link(stage.endpoints.flink_url).running())
        environment = {**expected.SERVICE, "HLINK_DATABASE_URL": _database(stage.endpoints, replicas)}
        opened.callback(_end_all, stage)
        for number in range(1, replicas + 1):
            stage.replicas.append(Replica(home / "service", number, environment))
        stage.start_replicas()
        api = Api(stage.replicas[0].url, replace(stage.endpoints, flink_url=stage.link.url))
        api.http.timeout = httpx.Timeout(expected.STARTS_WITHIN_S)
        stage.works = Works(api, stage.savepoints.as_uri(), seed)
        stage.watcher = Watcher(
            stage.works.all,
            [replica.url for replica in stage.replicas],
            stage.endpoints.flink_url,
            lambda: not stage.disturbed.is_set() and stage.link.wire is Wire.WHOLE,
            say,
            patience_s,
        )
        stage.works.feed.start()
        opened.callback(stage.works.feed.stop)
        for work in stage.works.all:
            api.ok("POST", f"/jobs/run/{work.id}")
        stage.until_all_is_well()
        stage.watcher.start()
        opened.callback(stage.watcher.stop)
        yield stage


def _database(endpoints: Endpoints, replicas: int) -> str:
    if replicas == 1:
        return ""
    name = f"hlink_chaos_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(**endpoints.postgres.parameters(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{endpoints.postgres.url}?options=-csearch_path%3D{name}"


@contextmanager
def _quota(folder: Path) -> Iterator[None]:
    """A small file system of its own at that place, where this user may mount one."""
    folder.mkdir(parents=True)
    mounted = False
    if sys.platform == "linux" and os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", f"size={_QUOTA}", "hlink-chaos", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def _end_all(stage: Stage) -> None:
    stage.link.become(Wire.WHOLE)
    for replica in stage.replicas:
        left = replica.planners()
        if replica.is_alive:
            replica.kill()
        for planner in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in [*planner.children(recursive=True), planner]:
                    process.kill()
