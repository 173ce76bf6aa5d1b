"""Uploaded files: whole and checked before they are kept, and kept once."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from app.errors import InvalidInput, NotFound
from app.uploads import Files, check_archive

LIMIT = 1024 * 1024


def archive(entries: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "files", LIMIT)


async def send(store: Files, **request: Any) -> dict[str, Any]:
    """What a service that keeps jars makes of a request."""
    api = FastAPI()

    @api.post("/upload")
    async def upload(request: Request) -> dict[str, Any]:
        try:
            taken = await store.receive(request, "jarfile", check_archive)
        except InvalidInput as error:
            return {"refused": error.message}
        return {"name": taken.file.name, "sha256": taken.file.sha256, "size": taken.file.size, **taken.fields}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://service") as client:
        answer: dict[str, Any] = (await client.post("/upload", **request)).json()
        return answer


def kept(files: Files) -> list[str]:
    return sorted(path.name for path in files.folder.iterdir())


async def test_given_a_jar_when_it_is_sent_twice_then_it_is_kept_once_under_its_contents(files: Files) -> None:
    jar = archive({"a/B.class": b"x" * 5000})
    digest = hashlib.sha256(jar).hexdigest()
    for name in ("one.jar", "C:\\folder\\..\\two.jar"):
        answer = await send(files, files={"jarfile": (name, jar)}, data={"note": "mine, 我的"})
        assert answer == {
            "name": name.rpartition("\\")[2],
            "sha256": digest,
            "size": len(jar),
            "note": "mine, 我的",
        }
    assert kept(files) == [digest]
    assert files.path(digest).read_bytes() == jar
    with pytest.raises(NotFound, match="same folder"):
        files.path("0" * 64)


async def test_given_a_file_above_the_limit_when_it_is_sent_then_nothing_of_it_stays(files: Files) -> None:
    answer = await send(files, files={"jarfile": ("big.jar", os.urandom(LIMIT + 1))})
    assert "larger than 1 MiB" in answer["refused"]
    assert kept(files) == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"content": b"{}"}, "not multipart/form-data"),
        ({"files": {"other": ("a.jar", b"x")}}, "send one jarfile"),
        ({"files": {"jarfile": ("a.jar", b"")}}, "a.jar is empty"),
        ({"files": {"jarfile": ("..", b"x")}}, "has no name"),
        ({"data": {"x": "y"}, "files": {}}, "not multipart/form-data"),
        (
            {
                "content": b'--b\r\nContent-Disposition: form-data; name="jarfile"; filename="a.jar"\r\n\r\nPK',
                "headers": {"content-type": "multipart/form-data; boundary=b"},
            },
            "ends before its end",
        ),
        (
            {"content": b"no form at all", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            "the form cannot be read",
        ),
    ],
)
async def test_given_a_request_that_is_no_upload_when_it_is_sent_then_it_is_refused(
    files: Files, request_: dict[str, Any], words: str
) -> None:
    assert words in (await send(files, **request_))["refused"]
    assert kept(files) == [] if files.folder.exists() else True


def linked() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(entry, "/etc/passwd")
    return content.getvalue()


def doubled() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.writestr("A.class", b"one")
        made.writestr("A.class", b"two")
    return content.getvalue()


def damaged() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as made:
        made.writestr("A.class", b"contents")
    return content.getvalue().replace(b"contents", b"contexts")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"MZ not a jar", "not a jar or zip file"),
        (archive({"../../evil.class": b""}), "leads out"),
        (archive({"/etc/evil": b""}), "leads out"),
        (archive({"a\\..\\..\\evil": b""}), "leads out"),
        (linked(), "symbolic link"),
        (doubled(), "there twice"),
        (damaged(), "not a jar or zip file"),
        (archive({"zeros": b"\0" * (64 * 1024 * 1024)}), "expands to more than"),
        (archive({f"e{n}": b"" for n in range(65_536)})[:LIMIT], "not a jar or zip file"),
    ],
    ids=["text", "above", "absolute", "backslashes", "link", "twice", "damaged", "bomb", "cut off"],
)
async def test_given_a_hostile_archive_when_it_is_sent_then_it_is_refused_and_not_kept(
    files: Files, content: bytes, words: str
) -> None:
    assert words in (await send(files, files={"jarfile": ("evil.jar", content)}))["refused"]
    assert kept(files) == []


async def test_given_the_remains_of_a_killed_service_when_a_file_is_sent_then_old_remains_are_removed(
    files: Files,
) -> None:
    files.folder.mkdir()
    old, new = files.folder / ".incoming-old", files.folder / ".incoming-new"
    old.write_bytes(b"half"), new.write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    await send(files, files={"jarfile": ("a.jar", archive({"A.class": b"x"}))})
    assert (old.exists(), new.exists()) == (False, True)
