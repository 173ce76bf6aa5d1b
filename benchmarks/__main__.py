"""``python -m benchmarks``: measure everything in one run, print it, and write ``benchmarks/latest.json``.

In this order: what experiments cost beyond what they compute; how long the embedded stack takes to be ready; how fresh
the status of thousands of jobs is and what that costs, on simulated clusters; validation, mistakes and submission, ours
against a warm SQL Gateway and the SQL client on the same cluster; throughput of the same job generated and written by
hand; the downtime of a restart with state, ours and by hand; what memory the service and its planner hold after all
that; an automatic experiment on all flights. The stack is one of its own, in ``HLINK_HOME/bench``, and is removed at
the end; Flink's and Kafka's jars are shared.

Exit status: 0 all targets kept, 1 some missed (the file is written all the same), 2 it could not be measured, 130
interrupted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import psycopg
from kafka import KafkaAdminClient
from rich.console import Console

from app.settings import settings
from benchmarks import (
    distribution,
    experiments,
    gateway,
    latency,
    machine,
    observing,
    ours,
    report,
    restarting,
    searching,
)
from benchmarks.cluster import Cluster
from benchmarks.http import Failed, Http
from benchmarks.latency import Sides
from benchmarks.statements import EVENTS_TOPIC, FEATURES_TOPIC, PROFILES, TOTALS, compared
from benchmarks.throughput import throughput
from stream_jobs.local import artifacts, processes
from stream_jobs.local.endpoints import Endpoints, PostgresEndpoint
from stream_jobs.local.errors import LocalStackError
from stream_jobs.local.installation import find_installation

RESULT = Path(__file__).with_name("latest.json")
PARTS = ("experiments", "stack", "observe", "validate", "mistakes", "submit", "throughput", "restart", "search")

_UP_TIMES = 3
_UP_WITHIN_S = 300.0
_ROUNDS = 30
_WINDOWS = 400
_RESTARTS = 15


class Bench:
    """One run of the benchmark."""

    def __init__(self, rounds: int, parts: Sequence[str], console: Console) -> None:
        home = settings().home
        self.home = home / "bench"
        self.jars = artifacts.artifacts_dir(home)
        self.rounds = rounds
        self.parts = parts
        self.console = console
        self.figures: dict[str, float | int | str] = {}
        self._began = time.monotonic()
        self._loads: list[float] = []

    @property
    def environment(self) -> dict[str, str]:
        """For our own programs: the bench's home, and none of the user's services."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HLINK_")}
        return {**kept, "HLINK_HOME": str(self.home), "HLINK_ARTIFACTS": str(self.jars)}

    def measure(self) -> None:
        """Measure all parts into ``figures``, and leave nothing running."""
        installation = find_installation()
        self.figures |= machine.facts(installation)
        artifacts.fetch([*artifacts.DEFAULT_GROUPS, "bench"], self.jars)
        if "experiments" in self.parts:  # while nothing else runs
            self.figures |= experiments.experiments(self.environment, self.home, self.say)
            if set(self.parts) == {"experiments"}:
                self._end()
                return
        self.say("the embedded stack")
        with ExitStack() as stack:
            endpoints = stack.enter_context(self.embedded_stack())
            if "observe" in self.parts:
                self.say(f"observing {', '.join(map(str, observing.SIZES))} jobs on simulated clusters")
                self.figures |= observing.observing(self.environment, self.home / "observed", endpoints.postgres.url)
            if set(self.parts) <= {"stack", "observe"}:
                self._end()
                return
            self.say("the SQL Gateway and the service")
            flink = distribution.make(self.home / "flink", installation, self.jars, endpoints.flink_url)
            log = self.home / "bench"
            warm_gateway = stack.enter_context(gateway.started(flink, log / "sql-gateway.log"))
            service = stack.enter_context(ours.started(self.environment, log / "service.log"))
            cluster = Cluster(stack.enter_context(Http(endpoints.flink_url)))
            _prepare(endpoints)
            sides = Sides(service, warm_gateway, cluster, flink, compared(endpoints), log)
            service.add_cluster(endpoints.flink_url)
            for statement in sides.statements:
                service.add_tables(statement.tables)
            self._compare(sides, endpoints)
            self._memory(service.pid)
            if "search" in self.parts:
                self.say(f"an automatic experiment on all flights, {searching.BUDGET_S} s")
                self.figures |= searching.searching(service)
        self._end()

    def _end(self) -> None:
        self.say("done")
        self.figures["load_least"] = min(self._loads)
        self.figures["load_most"] = max(self._loads)
        self.figures["seconds"] = time.monotonic() - self._began

    def _compare(self, sides: Sides, endpoints: Endpoints) -> None:
        if "validate" in self.parts:
            self.say(f"validation, {self.rounds} times each of {len(sides.statements)} statements")
            self.figures |= latency.validation(sides, self.rounds)
        if "mistakes" in self.parts:
            self.say("mistakes")
            self.figures |= latency.mistakes(sides, self.rounds)
        if "submit" in self.parts:
            self.say(f"submission, {self.rounds} times each of {len(sides.statements)} statements")
            self.figures |= latency.submission(sides, self.rounds)
        if "throughput" in self.parts:
            self.say("throughput, pairs of runs")
            (worker,) = processes.marked(processes.mark(self.home.resolve(), "taskmanager"))
            self.figures |= throughput(sides, endpoints, worker, _WINDOWS)
        if "restart" in self.parts:
            self.say(f"restarts with state, {_RESTARTS} times each")
            with Http(endpoints.flink_url) as flink:
                self.figures |= restarting.restarting(sides, flink, _RESTARTS)

    def _memory(self, pid: int) -> None:
        rss, pss = machine.resident_mib(pid)
        self.figures["rss_mib"] = rss
        if pss is not None:
            self.figures["pss_mib"] = pss

    @contextmanager
    def embedded_stack(self) -> Iterator[Endpoints]:
        """The stack while the block lasts; how long it took to be ready is measured on the way."""
        self._hlink("down", "--purge")
        shutil.rmtree(self.home, ignore_errors=True)
        times: list[float] = []
        try:
            for _ in range(_UP_TIMES if "stack" in self.parts else 1):
                if times:
                    self._hlink("down")
                began = time.perf_counter()
                answer = self._hlink("up", "--json")
                times.append(time.perf_counter() - began)
            if "stack" in self.parts:
                # The first time of all also formats Kafka's and PostgreSQL's folders.
                self.figures |= {"stack_ready_s": median(times), "stack_first_ready_s": times[0]}
            found = json.loads(answer)
            yield Endpoints(found["flink_url"], found["kafka_bootstrap"], PostgresEndpoint.parse(found["postgres_url"]))
        except BaseException:
            # The logs stay: they say why.
            self._hlink("down")
            raise
        self._hlink("down", "--purge")

    def _hlink(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=self.environment,
            cwd=machine.ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_UP_WITHIN_S,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"hlink {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def say(self, what: str) -> None:
        """Tell what comes now, and note how busy the machine is."""
        self._loads.append(machine.load())
        seconds = time.monotonic() - self._began
        self.console.print(f"{seconds:6.1f}s  load {self._loads[-1]:4.1f}  {what}", highlight=False)


def _prepare(endpoints: Endpoints) -> None:
    """The topics and tables that the compared statements read and write."""
    admin = KafkaAdminClient(bootstrap_servers=endpoints.kafka_bootstrap)
    try:
        for topic in (EVENTS_TOPIC, FEATURES_TOPIC):
            admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    finally:
        admin.close()
    with psycopg.connect(**endpoints.postgres.parameters(), autocommit=True) as database:
        database.execute(f"CREATE TABLE {PROFILES} (k text PRIMARY KEY, name text)".encode())
        database.execute(f"CREATE TABLE {TOTALS} (name text PRIMARY KEY, n bigint, total double precision)".encode())


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run, report, and return the exit status."""
    reader = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure hlink against Flink's own tools."
    )
    reader.add_argument("--rounds", type=int, default=_ROUNDS, help="measurements of each statement (default 30)")
    reader.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure these parts only")
    given = reader.parse_args()
    # A plain kill must clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    bench = Bench(given.rounds, given.only, console)
    try:
        bench.measure()
    except KeyboardInterrupt:
        console.print("Interrupted; nothing was written.")
        return 130
    except (Failed, LocalStackError, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
        console.print(f"It could not be measured: {error}\nLogs are in {bench.home}", markup=False)
        return 2
    report.write(bench.figures, RESULT)
    report.show(bench.figures, console)
    missed = report.missed(bench.figures)
    for target in missed:
        console.print(f"missed: {target.key} {target}, measured {bench.figures[target.key]:.4g}", markup=False)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
