"""Asks the planner processes, and replaces one that hangs or dies.

Each process answers one request at a time. A request that takes longer than its limit, or whose process dies, fails
alone: the process is killed with its JVM, another is started, and the requests that wait go on there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from stream_jobs import formats
from stream_jobs.definitions import Function
from stream_jobs.java import CompilationFailed, compiled_jar
from stream_jobs.planner.function_sets import NO_FUNCTIONS, FunctionSet, shipped_statements

log = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("worker.py")
_JAVA = Path(__file__).parent / "java"
_ENDS_WITHIN_S = 5.0
_ANSWER_LIMIT = 256 * 1024 * 1024
_LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.name = stderr
appender.stderr.type = CONSOLE
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %-5p %c{1} %m%n
"""


class PlannerError(RuntimeError):
    """The planner could not answer. Nothing is known to be wrong with the request."""


class PlannerUnavailable(PlannerError):
    """No planner process can be started, or none became ready in time."""


class PlannerTimeout(PlannerError):
    """The request took longer than its limit; its process was replaced."""


class PlannerDied(PlannerError):
    """The process ended while it worked on the request; it was replaced."""


@dataclass(frozen=True, slots=True)
class PlannerConfig:
    """How to run planner processes.

    ``classpath`` holds Flink's libraries with the planner itself (not its loader), the connectors and PyFlink's jar;
    ``compiler`` is ecj, which makes the bridge's classes once. Times in seconds, memory in MiB.
    """

    work_dir: Path
    #: Where the jars that are compiled here are kept: services that share it compile once. ``work_dir`` has them where
    #: it cannot be written.
    jars_dir: Path
    java: Path
    classpath: tuple[Path, ...]
    compiler: Path
    python: Path = field(default_factory=lambda: Path(sys.executable))
    workers: int = 1
    heap_mib: int = 512
    timeout_s: float = 30.0
    start_timeout_s: float = 90.0
    #: How many distinct sets of tables a process keeps ready.
    table_sets: int = 100
    #: How many distinct sets of users' functions a process keeps ready, each with an environment of its own.
    function_sets: int = 20
    #: The functions that every statement may call, and the jars that hold them; the jars are on the class path, too.
    shipped: tuple[Function, ...] = ()
    shipped_jars: tuple[Path, ...] = ()
    #: What the functions of trained models need beside their own jars; on the class path, too.
    model_jars: tuple[Path, ...] = ()
    #: Where the files of users' functions are, by their SHA-256.
    files: Path = field(default_factory=Path)
    #: The interpreter with PyFlink that runs Python functions, as the cluster's machines know it.
    python_executable: Path = field(default_factory=lambda: Path(sys.executable))


@dataclass(slots=True)
class PlannerStatistics:
    """Counts since the start."""

    requests: int = 0
    failures: int = 0
    restarts: int = 0
    ready: int = 0


Answer = Any
WarmUp = Callable[["Planner"], Awaitable[None]]


class Planner:
    """A pool of planner processes; use as an async context or with ``start`` and ``close``."""

    def __init__(self, config: PlannerConfig, warm_up: WarmUp | None = None) -> None:
        self.config = config
        self.statistics = PlannerStatistics()
        #: Called after each request with its kind, how it ended (answered, timeout, died) and its seconds.
        self.observer: Callable[[str, str, float], None] | None = None
        self._warm_up = warm_up
        self._idle: asyncio.Queue[_Process] = asyncio.Queue()
        self._keepers: list[asyncio.Task[None]] = []
        self._processes: set[_Process] = set()
        self._ahead: set[asyncio.Task[None]] = set()
        #: Why a process did not start, the last time that one did not.
        self.last_error = ""

    async def __aenter__(self) -> Planner:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Starts the processes; returns at once, requests wait until one is ready."""
        for _ in range(self.config.workers):
            self._begin(None)

    async def close(self) -> None:
        """Ends the processes."""
        begun = [*self._keepers, *self._ahead]
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        await asyncio.gather(*(p.kill() for p in list(self._processes)))

    @property
    def ready(self) -> bool:
        """Whether a process is there to answer."""
        return self.statistics.ready > 0

    async def parse(self, statements: Sequence[str]) -> list[Answer]:
        """A syntax tree, or an error, for each statement."""
        answer: list[Answer] = await self.ask({"op": "parse", "statements": list(statements)})
        return answer

    async def expand_stars(self, ddl: Sequence[str], statement: str, functions: FunctionSet = NO_FUNCTIONS) -> Answer:
        """What each ``*`` of the statement stands for."""
        return await self.ask(
            {
                "op": "expand_stars",
                "database": database_of(ddl),
                "ddl": list(ddl),
                "statement": statement,
                **_with(functions),
            }
        )

    async def check_options(self, options: Mapping[str, str]) -> Answer:
        """What is wrong with options of a job, by their names."""
        return (await self.ask({"op": "check_options", "options": dict(options)}))["faults"]

    async def compile(
        self,
        ddl: Sequence[str],
        inserts: Sequence[str],
        options: Mapping[str, str],
        functions: FunctionSet = NO_FUNCTIONS,
        *,
        with_plan: bool,
    ) -> Answer:
        """Plans the statements as one job; the compiled plan's JSON is made only when it is wanted."""
        return await self.ask(
            {
                "op": "compile",
                "database": database_of(ddl),
                "ddl": list(ddl),
                "inserts": list(inserts),
                "options": dict(options),
                "with_plan": with_plan,
                **_with(functions),
            }
        )

    async def explain(
        self,
        ddl: Sequence[str],
        inserts: Sequence[str],
        options: Mapping[str, str],
        functions: FunctionSet = NO_FUNCTIONS,
    ) -> Answer:
        """The optimized plan as text."""
        return await self.ask(
            {
                "op": "explain",
                "database": database_of(ddl),
                "ddl": list(ddl),
                "inserts": list(inserts),
                "options": dict(options),
                **_with(functions),
            }
        )

    def translate_ahead(self, plan: str, options: Mapping[str, str], functions: FunctionSet = NO_FUNCTIONS) -> None:
        """Has Flink's graph of a compiled plan made, for an ``execute`` of the same that comes within a moment.

        Returns at once. The ``execute`` makes it itself where that came to nothing, and tells why.
        """
        if self.config.workers > 1:
            return  # another process may get the ``execute``
        request = {"op": "translate", "plan": plan, "options": {**options, **functions.options}, **_with(functions)}
        task = asyncio.create_task(self._translate(request), name="translation ahead")
        self._ahead.add(task)
        task.add_done_callback(self._ahead.discard)

    async def _translate(self, request: Mapping[str, Any]) -> None:
        with contextlib.suppress(PlannerError):
            await self.ask(request)

    async def execute(
        self,
        plan: str,
        options: Mapping[str, str],
        functions: FunctionSet = NO_FUNCTIONS,
        *,
        authorization: str | None = None,
    ) -> Answer:
        """Submits a compiled plan; answers when the cluster has accepted the job.

        ``authorization`` is the header of that name, for a cluster behind a proxy that asks for it.
        """
        return await self.ask(
            {
                "op": "execute",
                "plan": plan,
                "options": {**options, **functions.options},
                "authorization": authorization or "",
                **_with(functions),
            }
        )

    async def preview(
        self,
        plan: str,
        options: Mapping[str, str],
        functions: FunctionSet = NO_FUNCTIONS,
        *,
        sinks: int,
        limit: int,
        timeout_s: float,
        answer_within_s: float,
    ) -> Answer:
        """Runs a compiled plan with preview sinks inside the process, for ``timeout_s``: the rows of each sink."""
        request = {
            "op": "preview",
            "plan": plan,
            "options": {**options, **functions.options},
            "sinks": sinks,
            "limit": limit,
            "timeout_ms": int(timeout_s * 1000),
            **_with(functions),
        }
        return await self.ask(request, answer_within_s)

    async def inspect_savepoint(self, path: str) -> Answer:
        """What a savepoint's files say: ``complete`` (or None), ``reason``, ``size`` in bytes, ``checkpoint_id``,
        ``operators``."""
        return await self.ask({"op": "inspect_savepoint", "path": path})

    async def newest_checkpoint(self, path: str) -> Answer:
        """The newest whole checkpoint of the job that this one is of, as ``inspect_savepoint``, with its ``path``."""
        return await self.ask({"op": "newest_checkpoint", "path": path})

    async def inspect_savepoint_in(self, folder: str) -> Answer:
        """The whole savepoint in a folder made for it alone, as ``inspect_savepoint``, with its ``path``."""
        return await self.ask({"op": "inspect_savepoint_in", "folder": folder})

    async def remove_savepoint(self, folder: str) -> Answer:
        """Deletes a savepoint's own folder, named by its token: ``gone`` (None: not to be seen), ``reason``."""
        return await self.ask({"op": "remove_savepoint", "folder": folder})

    async def create_functions(self, functions: FunctionSet, names: Sequence[str]) -> Answer:
        """Whether the functions can be made: Java classes are loaded, Python modules imported, in the planner."""
        return await self.ask({"op": "create_functions", "names": list(names), **_with(functions)})

    async def function_names(self) -> frozenset[str]:
        """The names, in capitals, of all functions that need no definition."""
        return frozenset(name.upper() for name in await self.ask({"op": "function_names"}))

    async def ask(self, request: Mapping[str, Any], timeout_s: float | None = None) -> Answer:
        """Sends one request to a process that is free and waits for its answer.

        Raises:
            PlannerUnavailable: no process became free and ready in time.
            PlannerTimeout: the answer took longer than the limit.
            PlannerDied: the process ended before it had answered.
        """
        try:
            async with asyncio.timeout(self.config.start_timeout_s):
                while not (process := await self._idle.get()).is_alive:
                    self._replace(process)  # it ended while it had nothing to do
        except TimeoutError:
            reason = f": {self.last_error}" if self.last_error else ""
            raise PlannerUnavailable(
                f"no planner became ready within {self.config.start_timeout_s:.0f} s{reason}"
            ) from None
        # The answer has to be read even if nobody waits for it any more: the next one comes behind it.
        return await asyncio.shield(asyncio.ensure_future(self._ask(process, request, timeout_s)))

    async def _ask(self, process: _Process, request: Mapping[str, Any], timeout_s: float | None) -> Answer:
        limit = timeout_s or self.config.timeout_s
        began = time.perf_counter()
        self.statistics.requests += 1
        outcome = "answered"
        try:
            async with asyncio.timeout(limit):
                answer = json.loads(await process.exchange(json.dumps(request)))
        except TimeoutError:
            outcome = "timeout"
            self._replace(process)
            raise PlannerTimeout(
                f"the planner did not answer within {limit:g} s; it was replaced. Try again, and if it repeats, look "
                "for a function in the statement that does not return."
            ) from None
        except (OSError, EOFError, ValueError) as error:
            outcome = "died"
            self._replace(process)
            raise PlannerDied(
                "the planner ended while it worked on this request; it was replaced. Try again."
            ) from error
        finally:
            if self.observer is not None:
                self.observer(request["op"], outcome, time.perf_counter() - began)
        self._idle.put_nowait(process)
        return answer

    def _replace(self, process: _Process) -> None:
        self.statistics.failures += 1
        self.statistics.ready -= 1
        self._begin(process)

    def _begin(self, before: _Process | None) -> None:
        self._keepers = [k for k in self._keepers if not k.done()]
        self._keepers.append(asyncio.create_task(self._keep(before), name="planner start"))

    async def _keep(self, before: _Process | None) -> None:
        """Ends the process before, and starts one until that succeeds."""
        if before is not None:
            self._processes.discard(before)
            await before.kill()
            self.statistics.restarts += 1
        pause = 1.0
        while True:
            process = _Process()
            self._processes.add(process)
            try:
                async with asyncio.timeout(self.config.start_timeout_s):
                    await process.start(self.config)
                break
            except (OSError, EOFError, TimeoutError, ValueError, PlannerError) as error:
                self.last_error = str(error) or type(error).__name__
                log.error("planner process did not start: %s", self.last_error)
                self._processes.discard(process)
                await process.kill()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 30.0)
        self.statistics.ready += 1
        self._idle.put_nowait(process)
        if self._warm_up is not None:
            with contextlib.suppress(PlannerError):
                await self._warm_up(self)


class _Process:
    """One planner process."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, config: PlannerConfig) -> None:
        jar, own_formats = await asyncio.gather(
            asyncio.to_thread(bridge, config), asyncio.to_thread(formats_jar, config)
        )
        conf_dir = config.work_dir / "conf"
        await asyncio.to_thread(_write_conf, conf_dir)
        settings = {
            "java": str(config.java),
            "classpath": [str(path) for path in (*config.classpath, own_formats, jar)],
            "conf_dir": str(conf_dir),
            "heap_mib": config.heap_mib,
            "table_sets": config.table_sets,
            "function_sets": config.function_sets,
            "functions": shipped_statements(config.shipped),
        }
        with (config.work_dir / "planner.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(config.python),
                str(_WORKER),
                json.dumps(settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                limit=_ANSWER_LIMIT,
                # A group of its own: the JVM must end with it, and Ctrl-C in a terminal must not reach it.
                start_new_session=True,
                # Functions that users wrote are loaded there: the service's own secrets are not for them.
                env={name: value for name, value in os.environ.items() if not name.startswith("HLINK_")},
            )
        try:
            await self._line()
        except EOFError:
            raise PlannerError(f"the planner did not start; its log is {config.work_dir / 'planner.log'}") from None

    @property
    def is_alive(self) -> bool:
        """Whether nothing was seen of its end."""
        process = self._process
        return process is not None and process.returncode is None and not (process.stdin and process.stdin.is_closing())

    async def exchange(self, request: str) -> bytes:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request.encode() + b"\n")
            await self._process.stdin.drain()
        except RuntimeError as closed:  # what uvloop says of a pipe whose other end is gone
            raise EOFError("the planner closed its input") from closed
        return await self._line()

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the planner closed its output")
        return line

    async def kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # Whoever else took its exit status, the next process must not wait for that for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDS_WITHIN_S):
                await self._process.wait()


def _with(functions: FunctionSet) -> dict[str, list[str]]:
    """The fields of a request that concern functions."""
    given = {"functions": list(functions.statements), "python_path": list(functions.python_path)}
    return {name: values for name, values in given.items() if values}


def database_of(ddl: Sequence[str]) -> str:
    """The planner's name for a set of tables: equal statements share one, whatever their order in time."""
    return "t" + hashlib.sha256("\0".join(ddl).encode()).hexdigest()[:24]


def bridge(config: PlannerConfig) -> Path:
    """The jar of the Java part, made when its source or the compiler is new.

    Raises:
        PlannerError: the compiler refused the source.
    """
    try:
        return _kept(config, partial(compiled_jar, _JAVA, "hlink-bridge"))
    except CompilationFailed as error:
        raise PlannerError(f"the planner's Java part does not compile: {error}") from None


def formats_jar(config: PlannerConfig) -> Path:
    """The jar of our formats, made when its source is new: for the planner, and for a cluster's lib folder.

    Raises:
        PlannerError: the compiler refused the source.
    """
    try:
        return _kept(config, formats.jar)
    except CompilationFailed as error:
        raise PlannerError(f"the formats do not compile: {error}") from None


def _kept(config: PlannerConfig, make: Callable[..., Path]) -> Path:
    """The jar that ``make`` has or compiles in a folder."""
    made = partial(make, java=config.java, compiler=config.compiler, classpath=config.classpath)
    try:
        return made(config.jars_dir)
    except OSError:
        return made(config.work_dir)


def _write_conf(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("log4j.properties", _LOG4J), ("config.yaml", "execution.target: hlink\n")):
        path = folder / name
        if not path.exists() or path.read_text() != text:
            unfinished = path.with_suffix(f".{os.getpid()}")
            unfinished.write_text(text)
            unfinished.replace(path)
