"""What the figures were measured on, and how busy that machine was."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from stream_jobs.local.installation import Installation

ROOT = Path(__file__).resolve().parent.parent


def facts(installation: Installation) -> dict[str, float | int | str]:
    """Cores, memory and versions."""
    return {
        "cores": os.cpu_count() or 0,
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "java": _java(installation),
        "flink": version("apache-flink"),
        "hlink": version("hlink"),
        "commit": _commit(),
    }


def load() -> float:
    """The load average of the last minute: processes that ran or wanted to."""
    return os.getloadavg()[0]


def resident_mib(pid: int) -> tuple[float, float | None]:
    """Memory of a process and all that it started: the sum of RSS, and of PSS where the system tells.

    RSS counts what processes share once for each; PSS counts it once.
    """
    process = psutil.Process(pid)
    family: Sequence[psutil.Process] = [process, *process.children(recursive=True)]
    rss = sum(one.memory_info().rss for one in family)
    try:
        pss = sum(one.memory_full_info().pss for one in family)
    except (AttributeError, psutil.AccessDenied):
        return rss / 2**20, None
    return rss / 2**20, pss / 2**20


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _java(installation: Installation) -> str:
    release = (installation.java.parent.parent / "release").read_text().splitlines()
    return next((line.partition("=")[2].strip('"') for line in release if line.startswith("JAVA_VERSION=")), "")


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
