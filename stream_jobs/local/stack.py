"""The embedded stack as a whole: bring it up, take it down, look at it.

::

    stack = Stack(Path(".hlink"))
    endpoints = stack.up()
    ...
    stack.down()

What runs is always read from the processes themselves, so any number of programs may use one home one after another
or at once, and none of them has to be alive for the stack to go on.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from stream_jobs.local import artifacts, ports, processes, state
from stream_jobs.local.components import postgres
from stream_jobs.local.components.base import Component, Site
from stream_jobs.local.components.flink import JobManager, TaskManager, flink_complaint
from stream_jobs.local.components.kafka import Kafka, kafka_complaint
from stream_jobs.local.components.postgres import Postgres, postgres_complaint
from stream_jobs.local.endpoints import Endpoints, External, PostgresEndpoint
from stream_jobs.local.errors import ComponentError, LocalStackError, SeveralErrors
from stream_jobs.local.installation import find_installation
from stream_jobs.local.locks import exclusive
from stream_jobs.local.progress import Progress, Step, silent

_LOCK_TIMEOUT = 300.0
_FREE_PORT_WAIT = 5.0

# Each group is one service: it is either ours as a whole or external as a whole.
_KAFKA: tuple[type[Component], ...] = (Kafka,)
_FLINK: tuple[type[Component], ...] = (JobManager, TaskManager)
_POSTGRES: tuple[type[Component], ...] = (Postgres,)
_ALL = (*_KAFKA, *_FLINK, *_POSTGRES)


class ComponentState(StrEnum):
    """What a component is like now."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ComponentStatus:
    """One component, seen now.

    :param external: it is the user's own; only its address and health are known.
    :param detail: why it is not healthy.
    :param memory: resident bytes, with the processes it started.
    :param uptime: seconds.
    """

    name: str
    state: ComponentState
    address: str
    external: bool = False
    detail: str | None = None
    pid: int | None = None
    memory: int | None = None
    uptime: float | None = None
    log: Path | None = None


class Stack:
    """The stack of one home folder.

    :param home: ``HLINK_HOME``.
    :param external: services that exist already and are not started.
    :param artifacts_folder: where the jars are; by default ``HLINK_ARTIFACTS``, else in the home.
    """

    def __init__(self, home: Path, external: External | None = None, artifacts_folder: Path | None = None) -> None:
        self.home = home.expanduser().resolve()
        self.external = external or External()
        self.artifacts_folder = artifacts_folder or artifacts.artifacts_dir(self.home)

    @property
    def folder(self) -> Path:
        """Everything of the stack but the artifacts: state, data, logs."""
        return self.home / "stack"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    def up(self, progress: Progress = silent) -> Endpoints:
        """Make every component run and serve, and return where.

        What runs already is left as it is, what is missing or dead is started, all at once. A second caller waits for
        the first and finds the work done. When interrupted, what this call started is ended again.

        :raises ArtifactError: a jar is missing and cannot be downloaded.
        :raises ComponentError: a component does not start, with its reason; the others are left running.
        :raises SeveralErrors: more than one does not.
        :raises StackBusyError: another process is working on this stack and does not finish.
        :raises StackStateError: the state file is damaged or the home cannot be written.
        """
        with self._locked(progress):
            mine = self.own_components()
            groups = [*(artifacts.FLINK_GROUPS if JobManager in mine else ()), *(("kafka",) if Kafka in mine else ())]
            artifacts.fetch(groups, self.artifacts_folder, progress)
            self._check_external(progress)
            site = self._site(state.load(self.state_file) or state.State())
            components = [component(site) for component in mine]
            self._assign_ports(site, components)
            if Postgres in mine and site.state.postgres_folder is None:
                site.state.postgres_folder = str(postgres.choose_folder(site))
            # Written before anything starts: from here on a crash leaves a stack that is found with its addresses.
            state.save(self.state_file, site.state)
            postgres.sweep_abandoned()
            _bring_up(components, progress)
            return self._endpoints(site.state)

    def down(self, progress: Progress = silent, *, purge: bool = False) -> None:
        """End every process of the stack. It is no error if nothing runs.

        :param purge: also remove all data, logs and the state; the artifacts stay.
        :raises ComponentError: a process survives SIGKILL.
        :raises StackBusyError: another process is working on this stack and does not finish.
        """
        if not self.folder.exists() and not self._any_process():
            return
        with self._locked(progress):
            self._end_all(progress)
            if purge:
                self._purge()

    def status(self) -> list[ComponentStatus]:
        """Every component, external ones included. Asks each for its health, so it takes up to some seconds."""
        known = state.load(self.state_file)
        site = None if known is None else self._site(known)
        checks: list[Callable[[], ComponentStatus]] = [
            *(partial(_status_of, component, self.home, site) for component in self.own_components()),
            *(partial(_check_status, *check) for check in self._external_checks()),
        ]
        with ThreadPoolExecutor(len(checks)) as pool:
            return list(pool.map(lambda check: check(), checks))

    def endpoints(self) -> Endpoints | None:
        """Where the stack is reached, or None if a process of it is not running. Does not ask for health.

        :raises StackStateError: the state file is damaged.
        """
        known = state.load(self.state_file)
        mine = self.own_components()
        if known is None and mine:
            return None
        if any(not processes.marked(processes.mark(self.home, component.name)) for component in mine):
            return None
        return self._endpoints(known or state.State())

    def own_components(self) -> tuple[type[Component], ...]:
        """The components that this stack runs itself."""
        return (
            *(() if self.external.kafka_bootstrap else _KAFKA),
            *(() if self.external.flink_url else _FLINK),
            *(() if self.external.postgres_url else _POSTGRES),
        )

    def _external_checks(self) -> Iterator[tuple[str, str, Callable[[], str | None]]]:
        """(name, address, check) of each external service."""
        if bootstrap := self.external.kafka_bootstrap:
            yield "kafka", bootstrap, lambda: kafka_complaint(bootstrap)
        if url := self.external.flink_url:
            yield "flink", url, lambda: flink_complaint(url)
        if database := self.external.postgres_url:
            endpoint = PostgresEndpoint.parse(database)
            yield "postgres", f"{endpoint.host}:{endpoint.port}", lambda: postgres_complaint(endpoint)

    def _check_external(self, progress: Progress) -> None:
        settings = {"kafka": "HLINK_KAFKA_BOOTSTRAP", "flink": "HLINK_FLINK_URL", "postgres": "HLINK_POSTGRES_URL"}
        for name, address, complaint in self._external_checks():
            lacking = complaint()
            if lacking is not None:
                raise ComponentError(
                    name,
                    f"the external service is not usable: {lacking}",
                    where=address,
                    remedy=f"start it or correct {settings[name]}; without that setting hlink runs its own",
                )
            progress(Step(name, f"external, answers at {address}", done=True))

    def _site(self, known: state.State) -> Site:
        return Site(self.home, self.artifacts_folder, find_installation(), known)

    def _endpoints(self, known: state.State) -> Endpoints:
        site = self._site(known)
        url = self.external.postgres_url
        return Endpoints(
            flink_url=(self.external.flink_url or JobManager(site).url).rstrip("/"),
            kafka_bootstrap=self.external.kafka_bootstrap or Kafka(site).address,
            postgres=PostgresEndpoint.parse(url) if url else Postgres(site).endpoint,
        )

    def _assign_ports(self, site: Site, components: Sequence[Component]) -> None:
        """Give every stopped component ports that are free now, its former ones if they are."""
        known = site.state.ports
        for component in components:
            if component.process() is not None and all(name in known for name in component.port_names):
                continue
            # A process without known ports is one whose state was lost: it cannot be used any more.
            component.down()
            moved = False
            for name in component.port_names:
                if name not in known or not _soon_free(known[name]):
                    moved = moved or name in known
                    known[name] = ports.choose(set(known.values()))
            if moved and isinstance(component, JobManager):
                # The TaskManager would look for it at the old place for ever.
                TaskManager(site).down()

    def _end_all(self, progress: Progress) -> None:
        def end(component: type[Component]) -> None:
            mark = processes.mark(self.home, component.name)
            if processes.end_marked(component.name, mark, signal=component.stop_signal, grace=component.stop_grace):
                progress(Step(component.name, "stopped", done=True))
            else:
                progress(Step(component.name, "was not running", done=True))

        with ThreadPoolExecutor(len(_ALL)) as pool:
            _raise_all([pool.submit(end, component) for component in _ALL])

    def _purge(self) -> None:
        postgres.remove_folders_of(self.home)
        for entry in self.folder.iterdir():
            # The lock file stays: it is held, and another process may be waiting for this very file.
            if entry == self._lock_file:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _any_process(self) -> bool:
        return any(processes.marked(processes.mark(self.home, component.name)) for component in _ALL)

    @property
    def _lock_file(self) -> Path:
        return self.folder / ".lock"

    @contextmanager
    def _locked(self, progress: Progress) -> Iterator[None]:
        def waiting() -> None:
            progress(Step("stack", "waiting for another hlink that is working on this stack"))

        with exclusive(self._lock_file, _LOCK_TIMEOUT, waiting):
            yield


def _bring_up(components: Sequence[Component], progress: Progress) -> None:
    """Start all at once; on an interruption end what was started here."""
    if not components:
        return
    cancelled = threading.Event()
    pool = ThreadPoolExecutor(len(components), thread_name_prefix="up")
    futures = {pool.submit(component.up, progress, cancelled): component for component in components}
    try:
        # Not one wait without end: in it Python would see no Ctrl-C on some systems.
        while wait(futures, timeout=0.2).not_done:
            pass
    except BaseException:
        cancelled.set()
        wait(futures)
        for future, component in futures.items():
            if future.exception() is not None or future.result():
                component.down()
        raise
    finally:
        pool.shutdown()
    _raise_all(list(futures))


def _raise_all(futures: Sequence[Future[Any]]) -> None:
    """Wait for all and raise what failed.

    :raises LocalStackError: one failed.
    :raises SeveralErrors: more than one failed.
    """
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, LocalStackError):
            raise error
    known = [error for error in errors if isinstance(error, LocalStackError)]
    if len(known) == 1:
        raise known[0]
    if known:
        raise SeveralErrors(known)


def _soon_free(port: int) -> bool:
    """Whether the port is free, or becomes so soon: a killed process keeps its sockets until its last thread ended."""
    deadline = time.monotonic() + _FREE_PORT_WAIT
    while not ports.is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _status_of(component_type: type[Component], home: Path, site: Site | None) -> ComponentStatus:
    process = next(iter(processes.marked(processes.mark(home, component_type.name))), None)
    if site is None or any(name not in site.state.ports for name in component_type.port_names):
        if process is None:
            return ComponentStatus(component_type.name, ComponentState.STOPPED, "")
        lost = "its addresses are lost with the state file; run: hlink up"
        return ComponentStatus(component_type.name, ComponentState.UNHEALTHY, "", detail=lost, pid=process.pid)
    component = component_type(site)
    log = component.log if component.log.exists() else None
    if process is None:
        return ComponentStatus(component.name, ComponentState.STOPPED, component.address, log=log)
    lacking = component.complaint(process)
    try:
        memory = sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])
        uptime = time.time() - process.create_time()
    except psutil.NoSuchProcess:
        return ComponentStatus(component.name, ComponentState.STOPPED, component.address, log=log)
    return ComponentStatus(
        name=component.name,
        state=ComponentState.HEALTHY if lacking is None else ComponentState.UNHEALTHY,
        address=component.address,
        detail=lacking,
        pid=process.pid,
        memory=memory,
        uptime=uptime,
        log=log,
    )


def _check_status(name: str, address: str, complaint: Callable[[], str | None]) -> ComponentStatus:
    lacking = complaint()
    healthy = ComponentState.HEALTHY if lacking is None else ComponentState.UNHEALTHY
    return ComponentStatus(name, healthy, address, external=True, detail=lacking)
