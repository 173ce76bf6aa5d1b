"""Makes the interpreters of frameworks: built beside their place, and given their name when they compute."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.settings import Settings
from app.visual.frameworks import ABOUT, FOLDER, OWN, Own, installed, service_paths
from stream_jobs.local.locks import exclusive
from stream_jobs.local.progress import Progress, Step

REQUIREMENTS = Path(__file__).parent
_LOCKED_WITHIN_S = 5.0
_DOWNLOADING = re.compile(r"^\s*Downloading (?:\S*/)?([^-/\s]+)-\S+ \((.*)\)")
_INSTALLING = "Installing collected packages"
_LINES_OF_A_FAILURE = 8
_TOGETHER = "import os, sys; sys.path += sys.argv.pop(1).split(os.pathsep); import pandas, pyarrow, sklearn, skops.io; "
"""The engine's libraries beside the framework: they have to get on with each other."""


class InstallationFailed(Exception):
    """A framework could not be installed: why, and what to do."""


def by_name(name: str) -> Own:
    """The framework of that name. Raises :class:`InstallationFailed`, which tells those there are."""
    for own in OWN.values():
        if own.name == name:
            return own
    if name == "mxnet":
        raise InstallationFailed("MXNet was retired by its makers in 2023: install pytorch instead")
    raise InstallationFailed(f"There is no framework '{name}' to be installed: there are {', '.join(names())}")


def names() -> list[str]:
    """All that can be installed."""
    return sorted(own.name for own in OWN.values())


def is_current(settings: Settings, own: Own) -> bool:
    """Whether it is installed in the versions that this release names, for this Python."""
    about = installed(settings, own)
    return about is not None and about["requirements"] == _digest(own) and about["python"] == list(sys.version_info[:2])


def install(settings: Settings, own: Own, progress: Progress, index: str | None = None) -> bool:
    """Install it; whether anything was to be done.

    :param index: a package index that has builds of the framework which compute on processors only; taken from there
        they are not held against our hashes, which are of other builds.

    What a death leaves behind is removed by the next one.
    Raises :class:`InstallationFailed`, and what ``exclusive`` raises while another process installs.
    """
    frameworks = settings.home / FOLDER
    if index is not None and not _has_other_builds(own):
        raise InstallationFailed(f"{own.name} has one build only: leave the index out")
    with exclusive(frameworks / ".lock", _LOCKED_WITHIN_S):
        if is_current(settings, own):
            return False
        for left in frameworks.glob(f".{own.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        if (free := shutil.disk_usage(frameworks).free / 1024**3) < own.needs_gib:
            raise InstallationFailed(
                f"{own.name} needs {own.needs_gib:g} GiB at {frameworks}, where {free:.1f} GiB are free: make room, or "
                f"name an interpreter that has it with HLINK_{own.name.upper()}_PYTHON"
            )
        beside = frameworks / f".{own.name}-{secrets.token_hex(4)}"
        try:
            _build(own, beside, progress, index)
            _put(beside, frameworks / own.name)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    progress(Step(own.name, "is installed", done=True))
    return True


def remove(settings: Settings, own: Own) -> bool:
    """Remove it; whether it was there. Raises what ``exclusive`` raises while another process installs."""
    frameworks = settings.home / FOLDER
    with exclusive(frameworks / ".lock", _LOCKED_WITHIN_S):
        place = frameworks / own.name
        if not place.exists():
            return False
        gone = frameworks / f".{own.name}-{secrets.token_hex(4)}"
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    return True


def _build(own: Own, folder: Path, progress: Progress, index: str | None) -> None:
    progress(Step(own.name, "making an interpreter"))
    _done(own, [sys.executable, "-m", "venv", str(folder)])
    temporary = folder / "tmp"
    temporary.mkdir()
    python = str(folder / "bin" / "python")
    # All that is needed is named: what pip would add is only for graphics processors, or of the service's already.
    pip = [python, "-m", "pip", "install", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"]
    # What it unpacks goes when it dies.
    environment = {"TMPDIR": str(temporary), "PIP_PROGRESS_BAR": "off"}
    for file in _files(own):
        if index is not None and file.name == _large(own):
            _done(own, [*pip, "--index-url", index, _requirement(own)], progress, environment)
        else:
            _done(own, [*pip, "--require-hashes", "-r", str(file)], progress, environment)
    shutil.rmtree(temporary, ignore_errors=True)
    progress(Step(own.name, "trying it"))
    _done(own, [python, "-P", "-c", _TOGETHER + own.check, os.pathsep.join(service_paths())])
    about = {"requirements": _digest(own), "python": list(sys.version_info[:2]), "framework": _requirement(own)}
    (folder / ABOUT).write_text(json.dumps(about))
    os.sync()  # after a loss of power what has its name is whole


def _put(made: Path, place: Path) -> None:
    """Give it its name. Dying between the two renames leaves none, and the next installation makes one."""
    if place.exists():
        place.rename(made.with_name(f"{made.name}-before"))
    made.rename(place)
    for before in place.parent.glob(f"{made.name}-before"):
        shutil.rmtree(before, ignore_errors=True)


def _files(own: Own) -> list[Path]:
    """What is to be installed; where builds differ much in size, the framework's own is a file for itself."""
    return sorted(REQUIREMENTS.glob(f"{own.name}*.txt"))


def _requirement(own: Own) -> str:
    """The framework itself, in the version that this release names."""
    written = "".join(file.read_text() for file in _files(own))
    return str(re.findall(rf"^{own.package}==[^\s;]+", written, re.MULTILINE)[0])


def _large(own: Own) -> str:
    return f"{own.name}-large.txt"


def _has_other_builds(own: Own) -> bool:
    return (REQUIREMENTS / _large(own)).exists()


def _digest(own: Own) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in _files(own))).hexdigest()


def _shown(line: str) -> str | None:
    """What is told of a line of pip's."""
    if found := _DOWNLOADING.match(line):
        return f"downloading {found[1].replace('_', '-')} ({found[2]})"
    return "unpacking" if line.startswith(_INSTALLING) else None


def _done(
    own: Own, command: Sequence[str], progress: Progress | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Run it to its end and tell its progress. Raises :class:`InstallationFailed` with the end of what it said."""
    said: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line.rstrip())
                if progress is not None and (shown := _shown(line)):
                    progress(Step(own.name, shown))
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        last = "\n".join([line for line in said if line][-_LINES_OF_A_FAILURE:])
        raise InstallationFailed(f"{own.name} could not be installed:\n{last or process.returncode}")
