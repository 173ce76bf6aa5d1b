"""A planner for tests: the service's own, with the artifacts that all tests share."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil

from app.hlink.planner import configuration
from app.settings import Settings
from stream_jobs.planner.client import PlannerConfig
from tests.stack import shared_artifacts


def planner_config(home: Path) -> PlannerConfig:
    """How the service would run its planner, with its work files under ``home``."""
    return configuration(Settings(home=home), shared_artifacts())


def with_own_connectors(config: PlannerConfig, folder: Path) -> PlannerConfig:
    """The same with the connectors of ``tests/connectors`` on the classpath; their classes are put into ``folder``."""
    sources = Path(__file__).parent / "connectors"
    shutil.copytree(sources / "META-INF", folder / "META-INF")
    classpath = os.pathsep.join(map(str, config.classpath))
    compiler = [config.java, "-jar", config.compiler, "-17", "-proc:none", "-nowarn", "-cp", classpath, "-d", folder]
    subprocess.run([*map(str, compiler), *map(str, sources.rglob("*.java"))], check=True)
    return replace(config, classpath=(*config.classpath, folder))


def planner_process(home: Path) -> psutil.Process:
    """The planner process that works in that folder."""
    (found,) = planner_processes(home)
    return found


def planner_processes(home: Path) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # another test's, which ends at this moment
            if any(str(home) in part for part in child.cmdline()):
                found.append(child)
    return found
