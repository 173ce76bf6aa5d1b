"""What every component of the stack is, and how any of them is brought up and ended."""

from __future__ import annotations

import os
import re
import shlex
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil

from stream_jobs.local import processes
from stream_jobs.local.errors import ComponentError, Interrupted
from stream_jobs.local.installation import Installation
from stream_jobs.local.progress import Progress, Step
from stream_jobs.local.state import State

JAVA_OPTIONS = "HLINK_STACK_JAVA_OPTIONS"

_POLL = 0.1
HANG_GRACE = 15.0
_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 6


@dataclass(frozen=True)
class Site:
    """The place where a stack lives.

    :param home: the resolved home folder.
    :param artifacts: the folder with the jars.
    """

    home: Path
    artifacts: Path
    installation: Installation
    state: State

    @property
    def folder(self) -> Path:
        """Everything of the stack but the artifacts."""
        return self.home / "stack"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def port(self, name: str) -> int:
        return self.state.ports[name]


@dataclass(frozen=True)
class Symptom:
    """What a line in a component's log means to a user."""

    pattern: re.Pattern[str]
    remedy: str


class Component(ABC):
    """One process of the stack. An instance is good for one operation; the process outlives it."""

    name: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_grace: ClassVar[float] = 15.0
    start_timeout: ClassVar[float] = 120.0
    symptoms: ClassVar[tuple[Symptom, ...]] = ()
    telling: ClassVar[re.Pattern[str]] = re.compile(
        r"\b(ERROR|FATAL|Caused by|Permission denied|No such file)\b|(Exception|Error)\b"
    )
    """Lines of the log that say why it failed; when none does, the last lines have to."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._started_at = 0.0

    @property
    def mark(self) -> str:
        return processes.mark(self.site.home, self.name)

    @property
    def output(self) -> Path:
        """Stdout and stderr of the process."""
        return self.site.logs / f"{self.name}.out"

    @property
    def log(self) -> Path:
        """Where a user looks first."""
        return self.site.logs / f"{self.name}.log"

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def prepare(self, progress: Progress) -> None:
        """Make everything ready that the process needs: folders, configuration, the first-time format.

        :raises ComponentError: something cannot be made.
        :raises OSError: a folder or file cannot be written.
        """

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The command line, with the mark in it."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]: ...

    @abstractmethod
    def complaint(self, process: psutil.Process) -> str | None:
        """Ask the running process whether it serves: None if it does, else what is lacking."""

    def user(self) -> tuple[int, int] | None:
        """(uid, gid) to run as, None for the present user."""
        return None

    def working_folder(self) -> Path:
        return self.site.folder / self.name

    def settle(self) -> None:  # noqa: B027 - most components have nothing to do here
        """What remains to be done each time the process has become healthy."""

    def process(self) -> psutil.Process | None:
        """The running process, if any."""
        return next(iter(processes.marked(self.mark)), None)

    def up(self, progress: Progress, cancelled: threading.Event) -> bool:
        """Make the component serve and return whether this call started the process.

        A healthy process is left alone; one that does not answer within a grace time is replaced.

        :raises ComponentError: it does not start, with the reason from its log.
        :raises Interrupted: ``cancelled`` was set.
        """
        found = self.process()
        if found is not None:
            if self._becomes_healthy(found, progress, cancelled):
                progress(Step(self.name, f"already running at {self.address}", done=True))
                self.settle()
                return False
            progress(Step(self.name, f"process {found.pid} does not answer, replacing it"))
        self.down()
        self._start(progress, cancelled)
        return True

    def down(self) -> bool:
        """End the process and all that it started; return whether there was anything.

        :raises ComponentError: a process survives SIGKILL.
        """
        return processes.end_marked(self.name, self.mark, signal=self.stop_signal, grace=self.stop_grace)

    def _becomes_healthy(self, process: psutil.Process, progress: Progress, cancelled: threading.Event) -> bool:
        """Wait for a process that somebody else started and that may still be starting."""
        age = time.time() - process.create_time()
        deadline = time.monotonic() + max(HANG_GRACE, self.start_timeout - age)
        while processes.running(process):
            lacking = self.complaint(process)
            if lacking is None:
                return True
            if time.monotonic() > deadline:
                return False
            progress(Step(self.name, f"found running, {lacking}"))
            self._pause(cancelled)
        return False

    def _start(self, progress: Progress, cancelled: threading.Event) -> None:
        progress(Step(self.name, "preparing"))
        # File systems keep times of modification more coarsely than this clock.
        self._started_at = time.time() - 0.1
        try:
            self.site.logs.mkdir(parents=True, exist_ok=True)
            self.working_folder().mkdir(parents=True, exist_ok=True)
            self.prepare(progress)
            process = processes.start(
                self.command(),
                mark=self.mark,
                output=self.output,
                environment=self.environment(),
                folder=self.working_folder(),
                user=self.user(),
            )
        except OSError as error:
            raise ComponentError(
                self.name,
                f"cannot be prepared: {error.strerror or error}",
                where=str(error.filename or self.working_folder()),
                remedy="make it writable (or executable) for this user; see: hlink doctor",
            ) from error
        progress(Step(self.name, f"starting (pid {process.pid})"))
        deadline = time.monotonic() + self.start_timeout
        while True:
            if not processes.running(process):
                raise self._failure(processes.exit_status(process.pid))
            lacking = self.complaint(process)
            if lacking is None:
                break
            if time.monotonic() > deadline:
                self.down()
                raise self._failure(f"is not ready after {self.start_timeout:.0f} s ({lacking}) and was ended")
            progress(Step(self.name, lacking))
            self._pause(cancelled)
        self.settle()
        progress(Step(self.name, f"ready at {self.address}", done=True))

    def _pause(self, cancelled: threading.Event) -> None:
        if cancelled.wait(_POLL):
            raise Interrupted("interrupted", where=self.name, remedy="run: hlink up, or hlink down")

    def _failure(self, what: str) -> ComponentError:
        lines = self.last_words()
        symptom = next((s for s in self.symptoms if any(s.pattern.search(line) for line in lines)), None)
        quoted = "".join(f"\n    | {line}" for line in lines)
        return ComponentError(
            self.name,
            f"{what}{'; its last words:' if lines else ', without a word in its log'}{quoted}",
            where=str(self.log if _tail(self.log, self._started_at) else self.output),
            remedy=symptom.remedy if symptom else "read the log, and see: hlink doctor",
            log=self.log,
        )

    def last_words(self) -> list[str]:
        """The last lines of the log that say why: errors if there are any, else just the last ones."""
        files = dict.fromkeys((self.log, self.output))
        lines = [line for file in files for line in _tail(file, self._started_at)]
        telling = [line for line in lines if self.telling.search(line)]
        return (telling or lines)[-_TAIL_LINES:]


_STACK_FRAME = re.compile(r"^\s*(at |\.\.\. \d+ more)")


def _tail(file: Path, since: float) -> list[str]:
    """The last lines of a file that was written since then; what is older tells of an earlier start."""
    try:
        if file.stat().st_mtime < since:
            return []
        with file.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []
    lines = (line.rstrip() for line in text.splitlines())
    return [line[:300] for line in lines if line and not _STACK_FRAME.match(line)]


def java_options() -> list[str]:
    """What the user has to say to the JVMs of the stack, beside what it sets itself."""
    return shlex.split(os.environ.get(JAVA_OPTIONS, ""))


def java_environment(site: Site, extra: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a JVM: the present one, without what would change the JVM behind our back."""
    foreign = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")
    kept = {name: value for name, value in base.items() if name not in foreign}
    return {**kept, "JAVA_HOME": str(site.installation.java.parent.parent), **extra}


LOG4J = """\
rootLogger.level = {level}
rootLogger.appenderRef.file.ref = file
appender.file.name = file
appender.file.type = RollingFile
appender.file.fileName = ${{sys:log.file}}
appender.file.filePattern = ${{sys:log.file}}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss,SSS}} %-5p %c - %m%n
appender.file.policies.type = Policies
appender.file.policies.start.type = OnStartupTriggeringPolicy
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 20MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 5
"""
"""A log of bounded size that begins anew with each start, so that its errors are this start's."""


def write_log4j(file: Path, quiet: Sequence[str] = (), level: str = "INFO") -> None:
    """Write a log4j2 configuration; the loggers in ``quiet`` say errors only."""
    lines = [LOG4J.format(level=level)]
    for number, logger in enumerate(quiet):
        lines.append(f"logger.q{number}.name = {logger}\nlogger.q{number}.level = ERROR\n")
    file.write_text("".join(lines))
