"""The Maven artifacts that the stack needs: named, pinned and checksummed in ``artifacts.lock.json``.

jgo downloads them, with its own settings file and defaults, so that no registry is named here. What it brings is
trusted only after its SHA-256 equals the lock's.

Regenerate the lock after editing the ``request`` lists in it: ``python -m stream_jobs.local.artifacts``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_jobs.local.errors import ArtifactError, StackStateError
from stream_jobs.local.locks import exclusive
from stream_jobs.local.progress import Progress, Step, silent

LOCK_FILE = Path(__file__).with_name("artifacts.lock.json")
FLINK_GROUPS = ("flink-lib", "functions", "models", "tools")
"""What the embedded cluster's lib folder is made of."""
PLANNER_GROUPS = (*FLINK_GROUPS, "planner")
DEFAULT_GROUPS = (*PLANNER_GROUPS, "kafka")

_PARALLEL_DOWNLOADS = 6
_ATTEMPTS = 3
_READ_TIMEOUT = 60
_FETCH_LOCK_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Artifact:
    """One jar.

    :param coordinate: ``group:artifact:version`` or ``group:artifact:version:classifier``.
    :param size: bytes.
    """

    coordinate: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """The file's name, as Maven has it."""
        _, artifact, version, *classifier = self.coordinate.split(":")
        return "-".join([artifact, version, *classifier]) + ".jar"


Download = Callable[[Artifact, Path], Path]
"""Brings one artifact into a private folder and returns the file."""


def locked(group: str, lock_file: Path = LOCK_FILE) -> tuple[Artifact, ...]:
    """The artifacts of a group.

    :raises ArtifactError: the lock has no such group.
    """
    groups = json.loads(lock_file.read_text())["groups"]
    if group not in groups:
        raise ArtifactError(
            f"there is no artifact group {group!r}",
            where=str(lock_file),
            remedy=f"use one of: {', '.join(sorted(groups))}",
        )
    return tuple(Artifact(**entry) for entry in groups[group]["artifacts"])


def artifacts_dir(home: Path) -> Path:
    """Where the jars of this home are: ``HLINK_ARTIFACTS`` if set (several homes may share it), else in the home."""
    shared = os.environ.get("HLINK_ARTIFACTS")
    return Path(shared).expanduser().resolve() if shared else home / "artifacts"


def paths(group: str, folder: Path) -> tuple[Path, ...]:
    """The files of a group, in the lock's order.

    :raises ArtifactError: one is missing or of the wrong size.
    """
    artifacts = locked(group)
    absent = missing(artifacts, folder)
    if absent:
        raise ArtifactError(
            f"{len(absent)} of {len(artifacts)} artifacts of group {group} are missing, first {absent[0].coordinate}",
            where=str(folder),
            remedy="run: hlink fetch",
        )
    return tuple(folder / artifact.filename for artifact in artifacts)


def missing(artifacts: Iterable[Artifact], folder: Path) -> list[Artifact]:
    """Those that are not in the folder with the right size. Cheap: reads no contents."""
    return [artifact for artifact in artifacts if not _has_size(folder / artifact.filename, artifact.size)]


def corrupt(artifacts: Iterable[Artifact], folder: Path) -> list[Artifact]:
    """Those that are in the folder with other contents than the lock says. Reads every byte."""
    return [
        artifact
        for artifact in artifacts
        if (file := folder / artifact.filename).is_file() and sha256_of(file) != artifact.sha256
    ]


def fetch(
    groups: Sequence[str],
    folder: Path,
    progress: Progress = silent,
    *,
    download: Download | None = None,
    lock_file: Path = LOCK_FILE,
) -> list[Artifact]:
    """Download what the folder lacks of these groups and return what was downloaded.

    Each file is checked against the lock and then renamed into place, so the folder never holds a half-written or
    foreign jar under its final name. Two processes may call this at once: the second waits and finds the work done.

    :raises ArtifactError: an artifact cannot be downloaded, or is not the one that the lock names.
    :raises StackStateError: the folder cannot be written.
    """
    wanted = {artifact.coordinate: artifact for group in groups for artifact in locked(group, lock_file)}.values()
    if not missing(wanted, folder):
        return []
    with exclusive(
        folder / ".lock",
        _FETCH_LOCK_TIMEOUT,
        waiting=lambda: progress(Step("artifacts", "waiting for another hlink that is fetching")),
    ):
        absent = missing(wanted, folder)
        if not absent:
            return []
        try:
            _clear_leftovers(folder)
            with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as scratch:
                _fetch_all(absent, folder, Path(scratch), progress, download or _jgo_download)
        except OSError as error:
            raise StackStateError(
                f"the artifacts cannot be written: {error.strerror or error}",
                where=str(error.filename or folder),
                remedy="free disk space, or make the folder writable, or choose another one with HLINK_ARTIFACTS",
            ) from error
    return absent


def sha256_of(file: Path) -> str:
    """The file's SHA-256 in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _has_size(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed fetch left. Safe because the lock is held: nobody else is writing."""
    for leftover in folder.glob(".incoming-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _fetch_all(absent: Sequence[Artifact], folder: Path, scratch: Path, progress: Progress, download: Download) -> None:
    total = sum(artifact.size for artifact in absent)
    done = 0
    progress(Step("artifacts", f"downloading {len(absent)} jars, {total / 1e6:.0f} MB"))
    pool = ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="fetch")
    try:
        futures = {pool.submit(_install, artifact, folder, scratch, download): artifact for artifact in absent}
        for count, future in enumerate(as_completed(futures), start=1):
            future.result()
            done += futures[future].size
            progress(Step("artifacts", f"{count} of {len(absent)} jars, {done / 1e6:.0f} of {total / 1e6:.0f} MB"))
    finally:
        pool.shutdown(cancel_futures=True)
    progress(Step("artifacts", f"{len(absent)} jars installed", done=True))


def _install(artifact: Artifact, folder: Path, scratch: Path, download: Download) -> None:
    incoming = download(artifact, scratch)
    found = sha256_of(incoming)
    if found != artifact.sha256:
        size = incoming.stat().st_size
        incoming.unlink()
        raise ArtifactError(
            f"{artifact.coordinate} is not the file that the lock names: expected sha256 {artifact.sha256} "
            f"({artifact.size} bytes), found {found} ({size} bytes)",
            where=str(folder / artifact.filename),
            remedy="run: hlink fetch again; if it repeats, the Maven repository in jgo's settings serves another file",
        )
    incoming.replace(folder / artifact.filename)


def _jgo_download(artifact: Artifact, scratch: Path) -> Path:
    """Bring one artifact by jgo, trying again when the network fails."""
    import requests

    # jgo warns through the root logger about what is reported here as an error, with the remedy.
    logging.getLogger("jgo").addHandler(logging.NullHandler())
    component, classifier = _jgo_component(artifact.coordinate, scratch)
    for attempt in range(1, _ATTEMPTS + 1):
        jar = component.artifact(classifier)
        try:
            return Path(jar.resolve())
        except (requests.RequestException, RuntimeError) as error:
            # jgo leaves a partial file where it looks for a finished one.
            Path(jar.cached_path).unlink(missing_ok=True)
            if attempt == _ATTEMPTS:
                reason = _without_addresses(error)
                raise ArtifactError(
                    f"{artifact.coordinate} cannot be downloaded ({attempt} attempts): {reason}",
                    where="the Maven repositories of jgo's settings (jgo.conf, section repositories)",
                    remedy="check the network and proxy settings, then run: hlink fetch",
                ) from error
            time.sleep(attempt)
    raise AssertionError("unreachable")


def _without_addresses(error: Exception) -> str:
    """The kind of failure without the URL, which may carry a user's credentials."""
    text = str(error)
    return type(error).__name__ if "://" in text or "host=" in text else f"{type(error).__name__}: {text}"


def _jgo_component(coordinate: str, scratch: Path) -> tuple[Any, str]:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    group, name, version, *classifier = coordinate.split(":")
    context = MavenContext(
        repo_cache=scratch,
        remote_repos={"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories},
        timeout=_READ_TIMEOUT,
    )
    return context.project(group, name).at_version(version), classifier[0] if classifier else ""


def relock(lock_file: Path = LOCK_FILE) -> None:
    """Resolve every group's ``request`` anew and write sizes and checksums into the lock.

    A group with ``"closure": true`` gets the whole runtime closure of its request, the others just what is named.
    """
    content = json.loads(lock_file.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        for name, group in content["groups"].items():
            coordinates = group["request"] if not group["closure"] else _closure(group["request"], Path(scratch))
            with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
                files = list(pool.map(lambda c: _jgo_download(Artifact(c, "", 0), Path(scratch)), coordinates))
            group["artifacts"] = [
                {"coordinate": coordinate, "sha256": sha256_of(file), "size": file.stat().st_size}
                for coordinate, file in zip(coordinates, files, strict=True)
            ]
            sys.stderr.write(f"{name}: {len(files)} artifacts\n")
    _refuse_clashes(content["groups"])
    lock_file.write_text(json.dumps(content, indent=2) + "\n")


def _closure(request: Sequence[str], scratch: Path) -> list[str]:
    """The runtime closure of each, one by one: resolved together, one's managed versions would change another's."""
    found: set[str] = set()
    for coordinate in request:
        component, _ = _jgo_component(coordinate, scratch)
        context = component.project.context
        inputs, transitive = context.resolver.resolve([context.create_dependency(coordinate)])
        found |= {
            ":".join(filter(None, [dep.groupId, dep.artifactId, dep.version, dep.classifier]))
            for dep in [*inputs, *transitive]
            if dep.scope not in ("test", "provided", "system") and dep.type == "jar"
        }
    return sorted(found)


def _refuse_clashes(groups: dict[str, Any]) -> None:
    """All jars share one folder, so two must not have one file name; and a group must not have two versions of one."""
    owners: dict[str, str] = {}
    for name, group in groups.items():
        artifacts = [Artifact(**entry) for entry in group["artifacts"]]
        libraries = [_versionless(artifact) for artifact in artifacts]
        if twice := sorted({library for library in libraries if libraries.count(library) > 1}):
            raise StackStateError(
                f"group {name} has two versions of {', '.join(twice)}",
                where=str(LOCK_FILE),
                remedy="name the wanted version in the request list of a group without closure",
            )
        for artifact in artifacts:
            owner = owners.setdefault(artifact.filename, artifact.coordinate)
            if owner != artifact.coordinate:
                raise StackStateError(
                    f"{owner} and {artifact.coordinate} have the same file name",
                    where=artifact.filename,
                    remedy="drop one of them from the request lists",
                )


def _versionless(artifact: Artifact) -> str:
    group, name, _, *classifier = artifact.coordinate.split(":")
    return ":".join([group, name, *classifier])


if __name__ == "__main__":
    relock()
