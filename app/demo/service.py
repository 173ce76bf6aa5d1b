"""The service of the demo: ``hlink serve`` as a child, ended with the demo, and found again after a ``kill -9``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from app.demo.client import Client
from app.demo.errors import DemoError
from stream_jobs.local import ports, processes
from stream_jobs.local.progress import Progress, Step

_NAME = "demo-service"
_START_TIMEOUT_S = 180.0
_STOP_GRACE_S = 15.0
_TAIL_LINES = 8

Health = Mapping[str, Any]


class Service:
    """One ``hlink serve`` with the home, the settings and the environment of this process.

    :param port: the preferred port; another one is taken if it is not free.
    """

    def __init__(self, home: Path, port: int, token: str | None) -> None:
        self.home = home
        self.log = home / "demo" / "service.log"
        self.port = port if port and ports.is_free(port) else ports.choose(set())
        self.client = Client(self.url, token)
        self._process: psutil.Process | None = None

    @property
    def url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    @property
    def _mark(self) -> str:
        return processes.mark(self.home, _NAME)

    @property
    def alive(self) -> bool:
        return self._process is not None and processes.running(self._process)

    def start(self) -> None:
        """Start the process, without waiting for it.

        :raises DemoError: it cannot be started.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # An interpreter option that means nothing to Python: the mark has to stand in the command line.
        command = [sys.executable, "-X", self._mark, "-m", "app.cli", "serve"]
        try:
            self._process = processes.start(
                [*command, "--host", ports.LOOPBACK, "--port", str(self.port)],
                mark=self._mark,
                output=self.log,
                environment={**os.environ, "HLINK_HOME": str(self.home), "PYTHONUNBUFFERED": "1"},
                folder=self.home,
            )
        except OSError as error:
            raise DemoError(f"The service cannot be started: {error}") from error

    def wait_until_serving(self, progress: Progress) -> None:
        """Wait until requests are answered; planning may still have to wait.

        :raises DemoError: the service ended, or does not answer in time.
        """
        self._wait(progress, "service", lambda health: None if health["parts"]["supervisor"]["ok"] else "starting")

    def wait_until_planning(self, progress: Progress) -> None:
        """Wait until statements can be planned.

        :raises DemoError: the service ended, or its planner is not ready in time.
        """

        def lacking(health: Health) -> str | None:
            planner = health["parts"]["planner"]
            return None if planner["ok"] else f"warming up ({planner['message']})"

        self._wait(progress, "planner", lacking)

    def stop(self) -> None:
        """End the service and all that it started, also those of a demo that was killed."""
        self.client.close()
        end_leftover(self.home)

    def _wait(self, progress: Progress, subject: str, lacking: Callable[[Health], str | None]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            if self._process is not None and not self.alive:
                raise DemoError(f"The service {processes.exit_status(self._process.pid)}.{self.last_words()}")
            health = self.client.health()
            missing = "starting" if health is None else lacking(health)
            if missing is None:
                progress(Step(subject, f"ready at {self.url}" if subject == "service" else "ready", done=True))
                return
            progress(Step(subject, missing))
            if time.monotonic() > deadline:
                raise DemoError(f"The {subject} is not ready after {_START_TIMEOUT_S:.0f} s.{self.last_words()}")
            time.sleep(0.2)

    def last_words(self) -> str:
        """The end of the service's log, and where it is."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        except OSError:
            lines = []
        quoted = "".join(f"\n    | {line[:300]}" for line in lines)
        return f"{quoted}\n  log: {self.log}"


def end_leftover(home: Path) -> bool:
    """End the service of a demo in this home; whether there was one."""
    mark = processes.mark(home, _NAME)
    return processes.end_marked(_NAME, mark, signal=signal.SIGTERM, grace=_STOP_GRACE_S)
