"""Artifacts reach their folder only when they are what the lock says. No network: the download is a parameter."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_jobs.local import artifacts
from stream_jobs.local.artifacts import Artifact
from stream_jobs.local.errors import ArtifactError, StackStateError


def artifact(name: str, content: bytes) -> Artifact:
    return Artifact(f"org.example:{name}:1.0", hashlib.sha256(content).hexdigest(), len(content))


CONTENTS = {f"lib{number}": f"contents of {number}".encode() for number in range(5)}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    entries = [vars(artifact(name, content)) for name, content in CONTENTS.items()]
    file = tmp_path / "lock.json"
    file.write_text(json.dumps({"groups": {"all": {"artifacts": entries}}}))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


def downloading(
    contents: dict[str, bytes], calls: Counter[str] | None = None, seconds: float = 0
) -> Callable[[Artifact, Path], Path]:
    def download(wanted: Artifact, scratch: Path) -> Path:
        name = wanted.coordinate.split(":")[1]
        if calls is not None:
            calls[name] += 1
        file = scratch / name
        file.write_bytes(contents[name])
        time.sleep(seconds)
        return file

    return download


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_what_is_missing_is_fetched_once(lock: Path, folder: Path):
    calls: Counter[str] = Counter()
    fetched = artifacts.fetch(["all"], folder, download=downloading(CONTENTS, calls), lock_file=lock)
    assert {one.filename for one in fetched} == names(folder) == {f"{name}-1.0.jar" for name in CONTENTS}
    assert artifacts.fetch(["all"], folder, download=downloading(CONTENTS, calls), lock_file=lock) == []
    assert set(calls.values()) == {1}


def test_a_foreign_file_is_refused_with_both_checksums_and_not_installed(lock: Path, folder: Path):
    foreign = {**CONTENTS, "lib3": b"contents of X"}
    with pytest.raises(ArtifactError) as caught:
        artifacts.fetch(["all"], folder, download=downloading(foreign), lock_file=lock)
    said = str(caught.value)
    assert "org.example:lib3:1.0" in said
    assert hashlib.sha256(CONTENTS["lib3"]).hexdigest() in said
    assert hashlib.sha256(foreign["lib3"]).hexdigest() in said
    assert "remedy" in said
    assert "lib3-1.0.jar" not in names(folder)


def test_nothing_but_finished_files_is_left_after_a_failure(lock: Path, folder: Path):
    def fail(wanted: Artifact, scratch: Path) -> Path:
        (scratch / "half").write_bytes(b"half")
        raise ArtifactError("no network", where="there", remedy="here")

    with pytest.raises(ArtifactError, match="no network"):
        artifacts.fetch(["all"], folder, download=fail, lock_file=lock)
    assert names(folder) == set()


def test_what_a_killed_fetch_left_is_removed(lock: Path, folder: Path):
    (folder / ".incoming-killed").mkdir(parents=True)
    (folder / ".incoming-killed" / "half.jar").write_bytes(b"half")
    artifacts.fetch(["all"], folder, download=downloading(CONTENTS), lock_file=lock)
    assert names(folder) == {f"{name}-1.0.jar" for name in CONTENTS}


def test_a_file_of_the_wrong_size_is_fetched_again(lock: Path, folder: Path):
    artifacts.fetch(["all"], folder, download=downloading(CONTENTS), lock_file=lock)
    (folder / "lib1-1.0.jar").write_bytes(b"cut")
    fetched = artifacts.fetch(["all"], folder, download=downloading(CONTENTS), lock_file=lock)
    assert [one.filename for one in fetched] == ["lib1-1.0.jar"]
    assert (folder / "lib1-1.0.jar").read_bytes() == CONTENTS["lib1"]


def test_a_change_that_keeps_the_size_is_found_by_reading(lock: Path, folder: Path):
    artifacts.fetch(["all"], folder, download=downloading(CONTENTS), lock_file=lock)
    (folder / "lib1-1.0.jar").write_bytes(CONTENTS["lib1"][::-1])
    wanted = artifacts.locked("all", lock)
    assert artifacts.missing(wanted, folder) == []
    assert [one.filename for one in artifacts.corrupt(wanted, folder)] == ["lib1-1.0.jar"]


def test_two_fetches_at_once_download_each_artifact_once(lock: Path, folder: Path):
    calls: Counter[str] = Counter()
    threads = [
        threading.Thread(
            target=artifacts.fetch,
            args=(["all"], folder),
            kwargs={"download": downloading(CONTENTS, calls, seconds=0.05), "lock_file": lock},
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == Counter(dict.fromkeys(CONTENTS, 1))


def test_an_unknown_group_is_named_with_those_that_exist(lock: Path, folder: Path):
    with pytest.raises(ArtifactError, match=r"'none'(.|\n)*all"):
        artifacts.fetch(["none"], folder, lock_file=lock)


def test_a_folder_that_cannot_be_made_is_named(lock: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StackStateError, match="HLINK_HOME"):
        artifacts.fetch(["all"], tmp_path / "file" / "artifacts", download=downloading(CONTENTS), lock_file=lock)


def test_the_lock_of_the_project_is_complete():
    content = json.loads(artifacts.LOCK_FILE.read_text())["groups"]
    assert set(artifacts.DEFAULT_GROUPS) <= set(content)
    filenames: dict[str, str] = {}
    for name, group in content.items():
        locked = artifacts.locked(name)
        assert set(group["request"]) <= {one.coordinate for one in locked}, name
        for one in locked:
            assert len(one.sha256) == 64
            assert one.size > 0
            assert filenames.setdefault(one.filename, one.coordinate) == one.coordinate
