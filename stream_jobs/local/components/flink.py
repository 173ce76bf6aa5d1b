"""Flink: a standalone cluster of one JobManager and one TaskManager.

Both JVMs are started directly, without the package's shell scripts: those need bash, write pid files, and start a
third JVM only to compute memory sizes, which are fixed here.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil

from stream_jobs import formats, models, shipped
from stream_jobs.local.components.base import (
    Component,
    Site,
    Symptom,
    java_environment,
    java_options,
    write_log4j,
)
from stream_jobs.local.ports import LOOPBACK
from stream_jobs.local.progress import Progress

SLOTS = 8

_ANSWER_TIMEOUT = 3.0

# The TaskManager's memory in MB; with these all set, Flink computes nothing and agrees with the JVM's own limits.
_HEAP, _TASK_HEAP = 128, 1024
_OFF_HEAP, _TASK_OFF_HEAP, _NETWORK = 128, 64, 192
_MANAGED, _METASPACE, _OVERHEAD = 768, 512, 256

_SYMPTOMS = (
    Symptom(re.compile("BindException|Address already in use"), "another program took its port; run: hlink up again"),
    Symptom(re.compile("Permission denied|AccessDenied|Read-only"), "make the stack's folder writable for this user"),
    Symptom(re.compile("No space left"), "free disk space, then run: hlink up"),
    Symptom(re.compile("insufficient memory|Cannot allocate memory|Could not reserve"), "free memory on the machine"),
    Symptom(re.compile("NoClassDefFoundError|ClassNotFoundException|zip END header"), "run: hlink doctor, hlink fetch"),
    Symptom(
        re.compile("ConfigurationException|IllegalConfiguration|YAML"), "run: hlink up again; it rewrites the file"
    ),
)


class _FlinkProcess(Component):
    """What JobManager and TaskManager have in common: one configuration, one lib folder."""

    main_class: ClassVar[str]
    symptoms = _SYMPTOMS

    @property
    def conf(self) -> Path:
        return self.working_folder() / "conf"

    @property
    def lib(self) -> Path:
        return self.working_folder() / "lib"

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.site.port('flink.rest')}"

    def prepare(self, progress: Progress) -> None:
        for folder in ("conf", "lib", "tmp", "pid"):
            (self.working_folder() / folder).mkdir(exist_ok=True)
        for folder in ("checkpoints", "savepoints", "uploads"):
            (self.site.folder / "flink" / folder).mkdir(parents=True, exist_ok=True)
        self._link_lib()
        write_log4j(
            self.conf / "log4j.properties",
            # The warning that a native Hadoop library is absent, and chatter of the RPC layer.
            quiet=("org.apache.hadoop", "org.jboss.netty.channel.DefaultChannelPipeline"),
        )
        settings = {**cluster_configuration(self.site), **self.own_configuration()}
        lines = (f"{key}: {json.dumps(value)}\n" for key, value in sorted(settings.items()))
        (self.conf / "config.yaml").write_text("".join(lines))

    def own_configuration(self) -> dict[str, str | int]:
        """Settings of this process beside the cluster's."""
        return {
            "metrics.reporter.prom.port": str(self.site.port(f"{self.name}.metrics")),
            "io.tmp.dirs": str(self.working_folder() / "tmp"),
        }

    def _link_lib(self) -> None:
        """Make the lib folder hold links to Flink's own jars and ours, and nothing else."""
        flink = self.site.installation.flink
        jars = (
            *flink.joinpath("lib").glob("*.jar"),
            # Beside the connectors, so that each Python job does not bring its own copy.
            *flink.joinpath("opt").glob("flink-python-*.jar"),
            *formats.jars(self.site.artifacts, self.site.installation),
            *shipped.jars(self.site.artifacts, self.site.installation),
            # A native library is loaded once in a process only here, above the class loaders of jobs.
            *models.jars(self.site.artifacts, self.site.installation),
            # Connectors of the user's own; the planner reads the same folder.
            *self.site.home.joinpath("lib").glob("*.jar"),
        )
        wanted = {jar.name: jar for jar in jars}
        for present in self.lib.iterdir():
            if present.name not in wanted or not present.is_symlink() or present.readlink() != wanted[present.name]:
                present.unlink()
        for name, jar in wanted.items():
            if not (self.lib / name).is_symlink():
                (self.lib / name).symlink_to(jar)

    def command(self) -> list[str | Path]:
        # flink-dist comes last, as in Flink's scripts: the other jars may override what it bundles.
        jars = sorted(self.lib.glob("*.jar"), key=lambda jar: (jar.name.startswith("flink-dist"), jar.name))
        return [
            self.site.installation.java,
            f"-D{self.mark}",
            *self.memory_options(),
            *java_options(),
            *self._module_options(),
            "-Djava.awt.headless=true",
            # As Flink's scripts do on this Java: a job's System.exit can then be kept from ending the cluster.
            "-Djava.security.manager=allow",
            f"-Djava.io.tmpdir={self.working_folder() / 'tmp'}",
            f"-Dlog.file={self.log}",
            f"-Dlog4j.configurationFile={(self.conf / 'log4j.properties').as_uri()}",
            "-XX:+ExitOnOutOfMemoryError",
            "-cp",
            os.pathsep.join(str(jar) for jar in jars),
            self.main_class,
            "--configDir",
            self.conf,
        ]

    def memory_options(self) -> list[str]:
        raise NotImplementedError

    def _module_options(self) -> list[str]:
        """The --add-opens and --add-exports of Flink's own configuration, as far as this Java has the modules."""
        text = (self.site.installation.flink / "conf" / "config.yaml").read_text()
        found = re.findall(r"--add-(?:opens|exports)=([\w.]+)/\S+", text)
        options = re.findall(r"--add-(?:opens|exports)=\S+", text)
        modules = self.site.installation.java_modules
        return [option for option, module in zip(options, found, strict=True) if not modules or module in modules]

    def environment(self) -> Mapping[str, str]:
        flink = self.site.installation.flink
        interpreter = Path(sys.executable)
        return java_environment(
            self.site,
            {
                "FLINK_CONF_DIR": str(self.conf),
                "FLINK_LOG_DIR": str(self.site.logs),
                "FLINK_PID_DIR": str(self.working_folder() / "pid"),
                "FLINK_LIB_DIR": str(self.lib),
                "FLINK_OPT_DIR": str(flink / "opt"),
                "FLINK_PLUGINS_DIR": str(flink / "plugins"),
                # Else a Python function connects back to the process that submitted it, and dies with it.
                "_python_worker_execution_mode": "process",
                "PATH": os.pathsep.join([str(interpreter.parent), os.environ.get("PATH", os.defpath)]),
            },
            os.environ,
        )


class JobManager(_FlinkProcess):
    """Takes jobs over REST and directs them. Jobs end with it; their retained checkpoints and savepoints stay."""

    name = "jobmanager"
    port_names = ("flink.rest", "flink.rpc", "jobmanager.metrics")
    main_class = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"

    @property
    def address(self) -> str:
        return self.url

    def memory_options(self) -> list[str]:
        # It directs and computes little: without the optimising compiler it starts in half the processor time.
        compiler = "-XX:TieredStopAtLevel=1"
        return ["-Xms256m", "-Xmx640m", "-XX:MaxMetaspaceSize=320m", "-XX:+UseSerialGC", compiler]

    def complaint(self, process: psutil.Process) -> str | None:
        return flink_complaint(self.url)


class TaskManager(_FlinkProcess):
    """Runs the tasks, in 8 slots."""

    name = "taskmanager"
    port_names = ("taskmanager.metrics",)
    main_class = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._resource_id = f"{_RESOURCE_PREFIX}{secrets.token_hex(4)}"

    @property
    def address(self) -> str:
        return f"{SLOTS} slots at {self.url}"

    def memory_options(self) -> list[str]:
        return [
            "-Xms512m",
            f"-Xmx{_HEAP + _TASK_HEAP}m",
            f"-XX:MaxDirectMemorySize={_OFF_HEAP + _TASK_OFF_HEAP + _NETWORK}m",
            f"-XX:MaxMetaspaceSize={_METASPACE}m",
            "-XX:+UseG1GC",
        ]

    def command(self) -> list[str | Path]:
        # On the command line, so that this process, and not one that was here before, is looked for in the cluster.
        return [*super().command(), "-D", f"taskmanager.resource-id={self._resource_id}"]

    def complaint(self, process: psutil.Process) -> str | None:
        own = _resource_id_of(process)
        answer = _get(f"{self.url}/taskmanagers")
        if isinstance(answer, str):
            return f"waiting for the jobmanager ({answer})"
        registered = [manager for manager in answer.get("taskmanagers", []) if manager.get("id") == own]
        if not registered:
            return "not yet registered at the jobmanager"
        return None if registered[0].get("slotsNumber") == SLOTS else "registered with too few slots"


_RESOURCE_PREFIX = "taskmanager-"


def _resource_id_of(process: psutil.Process) -> str | None:
    prefix = f"taskmanager.resource-id={_RESOURCE_PREFIX}"
    try:
        arguments = process.cmdline()
    except psutil.NoSuchProcess:
        return None
    return next((argument.partition("=")[2] for argument in arguments if argument.startswith(prefix)), None)


def cluster_configuration(site: Site) -> dict[str, str | int | bool]:
    """Flink's settings for this stack, by their published names."""
    flink = site.folder / "flink"
    return {
        "jobmanager.rpc.address": LOOPBACK,
        "jobmanager.rpc.port": site.port("flink.rpc"),
        "jobmanager.bind-host": LOOPBACK,
        "taskmanager.host": LOOPBACK,
        "taskmanager.bind-host": LOOPBACK,
        "rest.address": LOOPBACK,
        "rest.bind-address": LOOPBACK,
        "rest.port": site.port("flink.rest"),
        "rest.bind-port": str(site.port("flink.rest")),
        "web.upload.dir": str(flink / "uploads"),
        "taskmanager.numberOfTaskSlots": SLOTS,
        "parallelism.default": 1,
        "taskmanager.cpu.cores": f"{float(SLOTS)}",
        "taskmanager.memory.framework.heap.size": f"{_HEAP}m",
        "taskmanager.memory.task.heap.size": f"{_TASK_HEAP}m",
        "taskmanager.memory.framework.off-heap.size": f"{_OFF_HEAP}m",
        "taskmanager.memory.task.off-heap.size": f"{_TASK_OFF_HEAP}m",
        "taskmanager.memory.network.min": f"{_NETWORK}m",
        "taskmanager.memory.network.max": f"{_NETWORK}m",
        "taskmanager.memory.managed.size": f"{_MANAGED}m",
        "taskmanager.memory.jvm-metaspace.size": f"{_METASPACE}m",
        "taskmanager.memory.jvm-overhead.min": f"{_OVERHEAD}m",
        "taskmanager.memory.jvm-overhead.max": f"{_OVERHEAD}m",
        # A lost process is noticed, and a restarted JobManager found again, in seconds instead of most of a minute.
        "heartbeat.interval": "2 s",
        "heartbeat.timeout": "20 s",
        "cluster.registration.error-delay": "2 s",
        "cluster.registration.refused-registration-delay": "2 s",
        "cluster.registration.max-timeout": "4 s",
        "execution.checkpointing.dir": (flink / "checkpoints").as_uri(),
        "execution.checkpointing.savepoint-dir": (flink / "savepoints").as_uri(),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        # The check would break connectors that keep a thread for a moment after their job.
        "classloader.check-leaked-classloader": False,
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        # How old the figures of Flink's page and REST API may be; the default is 10 s.
        "metrics.fetcher.update-interval": "2 s",
        "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
    }


def flink_complaint(url: str) -> str | None:
    """None if a JobManager answers at the address, else what is lacking."""
    answer = _get(f"{url.rstrip('/')}/overview")
    if isinstance(answer, str):
        return answer
    return None if "flink-version" in answer else "answers, but not as a Flink JobManager"


def slots(url: str) -> tuple[int, int] | None:
    """(free, all) slots of the cluster at the address, None if it does not answer."""
    answer = _get(f"{url.rstrip('/')}/overview")
    return None if isinstance(answer, str) else (answer.get("slots-available", 0), answer.get("slots-total", 0))


def _get(url: str) -> dict[str, Any] | str:
    try:
        response = httpx.get(url, timeout=_ANSWER_TIMEOUT, trust_env=not url.startswith(f"http://{LOOPBACK}"))
        response.raise_for_status()
        answer = response.json()
    except httpx.ConnectError:
        return "its REST address refuses connections"
    except httpx.TimeoutException:
        return f"its REST address does not answer within {_ANSWER_TIMEOUT:.0f} s"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"its REST address answers with an error ({type(error).__name__})"
    return answer if isinstance(answer, dict) else "its REST address answers, but not as Flink does"
