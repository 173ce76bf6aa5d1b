"""Data sets over HTTP: uploaded in fragments whatever the order, put together once, looked into and read by pages."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import col, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import InvalidInput, NotFound
from app.service import Service
from app.visual.datasets import folders
from app.visual.datasets import service as data_sets
from app.visual.datasets.models import DataSet, Fragment
from app.visual.datasets.presets import PRESETS
from app.visual.datasets.routes import PART
from app.visual.datasets.uploads import Uploads
from app.visual.family import family
from tests.services import Serve

Json = dict[str, Any]

IMAGES, CSV = 1, 2
NOT_UPLOADED, UPLOADING, UPLOADED, PROCESSING = 1, 2, 3, 4
TABLE = b"id,city,day\n" + b"".join(b"%d,M\xc3\xbcnchen,2020-01-%02d\n" % (i, i % 28 + 1) for i in range(2000))
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 50


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def cut(content: bytes, size: int = 5000) -> list[bytes]:
    return [content[i : i + size] for i in range(0, len(content), size)]


def archive(entries: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return content.getvalue()


@dataclass
class DataSets:
    """The API, and the service behind it."""

    http: httpx.AsyncClient
    service: Service

    @property
    def uploads(self) -> Uploads:
        uploads: Uploads = self.service.parts[PART]
        return uploads

    def folder(self, data_id: int) -> Path:
        return self.service.settings.home / "visual" / "datasets" / str(data_id)

    async def ask(self, method: str, path: str = "", **request: Any) -> Json:
        """The envelope, whose status is that of HTTP."""
        answer = await self.http.request(method, f"/visualmodule/dataset{path}", **request)
        envelope: Json = answer.json()
        assert set(envelope) == {"status", "msg", "timeCost", "obj"}, envelope
        assert envelope["status"] == answer.status_code < 500, envelope
        return envelope

    async def ok(self, method: str, path: str = "", **request: Any) -> Any:
        envelope = await self.ask(method, path, **request)
        assert (envelope["status"], envelope["msg"]) == (200, "success"), envelope
        return envelope["obj"]

    async def refused(self, status: int, method: str, path: str = "", **request: Any) -> str:
        envelope = await self.ask(method, path, **request)
        assert envelope["status"] == status, envelope
        return str(envelope["msg"])

    async def create(self, kind: int = CSV, **fields: Any) -> int:
        made = await self.ok("POST", json={"dataType": kind, "dataSource": 1, **fields})
        return int(made["dataId"])

    async def detail(self, data_id: int) -> Json:
        found: Json = await self.ok("GET", f"/{data_id}")
        return found

    def form(self, data_id: int, pieces: Sequence[bytes], index: int, name: str = "t.csv", **other: Any) -> Json:
        """The request that sends a fragment."""
        fields = {
            "dataId": data_id, "fileMd5": md5(b"".join(pieces)), "fileName": name, "fragmentName": f"{name}.{index}",
            "fragmentMd5": md5(pieces[index]), "fragmentIndex": index, "fragmentCount": len(pieces), **other,
        }  # fmt: skip
        sent = {key: str(value) for key, value in fields.items() if value is not None}
        return {"data": sent, "files": {"file": (f"{name}.{index}", pieces[index])}}

    async def send(self, data_id: int, pieces: Sequence[bytes], *indices: int, **other: Any) -> None:
        for index in indices or range(len(pieces)):
            await self.ok("POST", "/file", **self.form(data_id, pieces, index, **other))

    async def next_index(self, data_id: int, pieces: Sequence[bytes]) -> int:
        query = {"dataId": data_id, "fileMd5": md5(b"".join(pieces))}
        return int((await self.ok("GET", "/file/nextIndex", params=query))["nextIndex"])

    async def page(self, data_id: int, **query: Any) -> Json:
        found: Json = await self.ok("GET", "/csv", params={"dataId": data_id, **query})
        return found

    async def row(self, data_id: int, **values: Any) -> None:
        """Change the row behind the service's back."""
        async with self.service.database.write() as session:
            await session.exec(update(DataSet).where(col(DataSet.id) == data_id).values(**values))

    def files(self, data_id: int) -> list[str]:
        return sorted(path.name for path in self.folder(data_id).rglob("*") if path.is_file())


@pytest.fixture
async def api(serve: Serve) -> DataSets:
    http, service = await serve(family)
    return DataSets(http, service)


# Uploads


async def test_given_fragments_in_any_order_when_the_last_is_there_then_the_file_is_whole(api: DataSets) -> None:
    data_id = await api.create()
    empty = await api.detail(data_id)
    assert (empty["dataStatus"], empty["dataSize"], empty["dataType"], empty["dataSource"]) == (1, "0 B", 2, 1)
    pieces = cut(TABLE)
    assert await api.next_index(data_id, pieces) == 0
    order = list(range(len(pieces)))
    random.Random(1).shuffle(order)
    await api.send(data_id, pieces, *order[:-1])
    coming = await api.detail(data_id)
    assert coming["dataStatus"] == UPLOADING
    assert coming["upload"] == {
        "fileName": "t.csv", "fileMd5": md5(TABLE), "received": len(pieces) - 1, "fragmentCount": len(pieces),
    }  # fmt: skip
    assert await api.next_index(data_id, pieces) == order[-1]

    await api.send(data_id, pieces, order[-1])
    found = await api.detail(data_id)
    assert await api.next_index(data_id, pieces) == -1
    assert (found["dataStatus"], found["dataName"], found["fileMd5"]) == (UPLOADED, "t.csv", md5(TABLE))
    assert (found["dataSize"], found["rows"], found["upload"]) == (f"{len(TABLE) / 1024:.1f} KB", 2000, None)
    assert api.files(data_id) == ["data.csv", "rows"]
    assert next(api.folder(data_id).rglob("data.csv")).read_bytes() == TABLE


async def test_given_parallel_and_repeated_fragments_then_the_file_is_made_once(
    api: DataSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    whole = folders.UploadFolder.put_together

    def counted(folder: folders.UploadFolder, *arguments: Any) -> tuple[int, Any]:
        made.append(folder.path.name)
        return whole(folder, *arguments)

    monkeypatch.setattr(folders.UploadFolder, "put_together", counted)
    data_id, pieces = await api.create(), cut(TABLE)
    await asyncio.gather(*(api.send(data_id, pieces, index) for index in [*range(len(pieces))] * 2))
    assert len(made) == 1
    assert (await api.detail(data_id))["dataStatus"] == UPLOADED
    await api.send(data_id, pieces)
    assert len(made) == 1
    assert api.files(data_id) == ["data.csv", "rows"]


async def test_given_a_fragment_that_is_not_as_it_says_then_both_sums_are_named_and_nothing_is_kept(
    api: DataSets,
) -> None:
    data_id, pieces = await api.create(), cut(TABLE)
    said = await api.refused(400, "POST", "/file", **api.form(data_id, pieces, 0, fragmentMd5="0" * 32))
    assert said == f"fragmentMd5: fragment 0 has the MD5 {md5(pieces[0])}, where {'0' * 32} is given (send it again)"
    assert (await api.detail(data_id))["dataStatus"] == NOT_UPLOADED
    assert list((api.service.settings.home / "visual" / "incoming").iterdir()) == []


async def test_given_fragments_that_do_not_come_to_the_file_then_they_are_dropped_and_it_can_be_sent_again(
    api: DataSets,
) -> None:
    data_id, pieces = await api.create(), cut(TABLE)
    wrong = {"fileMd5": "1" * 32}
    await api.send(data_id, pieces, *range(len(pieces) - 1), **wrong)
    said = await api.refused(400, "POST", "/file", **api.form(data_id, pieces, len(pieces) - 1, **wrong))
    assert f"come to the MD5 {md5(TABLE)}, where {'1' * 32} is given" in said
    found = await api.detail(data_id)
    assert (found["dataStatus"], found["problems"]) == (NOT_UPLOADED, [said])
    assert api.files(data_id) == []
    await api.send(data_id, pieces)
    assert (await api.detail(data_id))["problems"] == []


async def test_given_another_file_under_way_then_it_is_named_and_can_be_given_up(api: DataSets) -> None:
    data_id, first, second = await api.create(), cut(TABLE), cut(TABLE[::-1])
    await api.send(data_id, first, 0, 1)
    said = await api.refused(409, "POST", "/file", **api.form(data_id, second, 0))
    assert f"t.csv (MD5 {md5(TABLE)}) is being uploaded" in said
    assert f"2 of {len(first)} fragments are there. Finish it, or give it up with POST" in said
    said = await api.refused(409, "POST", "/file", **api.form(data_id, first, 2, fragmentCount=99))
    assert f"has {len(first)} fragments, not 99" in said
    other = api.form(data_id, [b"x", *first[1:]], 0, fileMd5=md5(TABLE))
    assert "Fragment 0 is there with the MD5" in await api.refused(409, "POST", "/file", **other)
    assert await api.next_index(data_id, first) == 2

    await api.ok("POST", "/clear", json={"dataId": data_id, "uploadOnly": True})
    assert (await api.detail(data_id))["dataStatus"] == NOT_UPLOADED
    assert api.files(data_id) == []
    await api.send(data_id, second)
    assert (await api.detail(data_id))["fileMd5"] == md5(TABLE[::-1])


async def test_given_a_new_file_then_the_old_one_is_there_until_the_new_one_is_whole(api: DataSets) -> None:
    data_id = await api.create()
    await api.send(data_id, [b"a,b\n1,2\n"], name="old.csv")
    new = cut(b"c,d\n3,4\n", 3)
    await api.send(data_id, new, 1, 2, name="new.csv")
    assert (await api.page(data_id))["data"] == [["1", "2"]]
    coming = await api.detail(data_id)
    assert (coming["dataStatus"], coming["fileName"], coming["upload"]["fileName"]) == (2, "old.csv", "new.csv")
    await api.send(data_id, new, 0, name="new.csv")
    assert (await api.page(data_id))["data"] == [["3", "4"]]
    assert len(list(api.folder(data_id).iterdir())) == 1

    bad = await api.ask("POST", "/file", **api.form(data_id, [b"\0\1\0\0\2"], 0, name="bad.csv"))
    assert bad["status"] == 400
    found = await api.detail(data_id)
    assert (found["dataStatus"], found["fileName"], found["problemCount"]) == (UPLOADED, "new.csv", 1)
    assert "bad.csv is no text" in found["problems"][0]


async def test_given_a_folder_that_others_write_to_then_one_fragment_is_a_whole_file_too(api: DataSets) -> None:
    data_id = await api.create(dataName="mine")
    await api.send(data_id, [TABLE], name="C:\\data\\t.csv")
    found = await api.detail(data_id)
    assert (found["dataName"], found["fileName"]) == ("mine", "t.csv")


# Deaths


async def test_given_a_death_before_the_file_was_made_then_the_next_request_makes_it(api: DataSets) -> None:
    data_id, pieces = await api.create(), cut(TABLE)
    await api.send(data_id, pieces, *range(1, len(pieces)))
    (upload,) = api.folder(data_id).iterdir()
    (upload / "fragments" / f"0-{md5(pieces[0])}").write_bytes(pieces[0])
    async with api.service.database.write() as session:
        session.add(Fragment(upload_id=int(upload.name), number=0, md5=md5(pieces[0]), size=len(pieces[0])))
    await api.row(data_id, worker="dead", worker_until=2**50)
    (upload / ".partial").write_bytes(b"half")
    assert await api.next_index(data_id, pieces) == -1
    assert (await api.detail(data_id))["dataStatus"] == PROCESSING

    await api.row(data_id, worker_until=0)
    assert await api.next_index(data_id, pieces) == -1
    assert (await api.detail(data_id))["dataStatus"] == UPLOADED
    assert api.files(data_id) == ["data.csv", "rows"]


async def test_given_a_death_after_the_file_was_made_then_it_is_looked_into_by_itself(api: DataSets) -> None:
    data_id, pieces = await api.create(), cut(TABLE)
    await api.send(data_id, pieces, *range(1, len(pieces)))
    (upload,) = api.folder(data_id).iterdir()
    async with api.service.database.write() as session:
        session.add(Fragment(upload_id=int(upload.name), number=0, md5=md5(pieces[0]), size=len(pieces[0])))
    (upload / "data.csv").write_bytes(TABLE)
    await api.row(data_id, worker="dead", worker_until=0)
    await api.uploads.look_after()
    assert await api.next_index(data_id, pieces) == -1
    assert (await api.detail(data_id))["rows"] == 2000


async def test_given_fragments_that_a_power_cut_took_then_they_are_asked_for_again(api: DataSets) -> None:
    data_id, pieces = await api.create(), cut(TABLE)
    await api.send(data_id, pieces, *range(len(pieces) - 1))
    (upload,) = api.folder(data_id).iterdir()
    (upload / "fragments" / f"1-{md5(pieces[1])}").write_bytes(b"")
    assert await api.next_index(data_id, pieces) == 1
    said = await api.refused(400, "POST", "/file", **api.form(data_id, pieces, len(pieces) - 1))
    assert "fragments 1 are not on disk any more" in said
    assert (await api.detail(data_id))["dataStatus"] == UPLOADING
    await api.send(data_id, pieces, 1)
    assert (await api.detail(data_id))["dataStatus"] == UPLOADED


async def test_given_folders_that_nobody_knows_then_they_are_removed(api: DataSets) -> None:
    data_id = await api.create()
    await api.send(data_id, [TABLE])
    for left in (api.folder(data_id) / "17", api.folder(99) / "17"):
        left.mkdir(parents=True)
        (left / "data.csv").write_bytes(b"left")
    await api.uploads.look_after()
    assert not api.folder(99).exists()
    assert api.files(data_id) == ["data.csv", "rows"]


# Clearing and removing


async def test_given_a_data_set_when_it_is_cleared_and_removed_then_its_files_are_gone(api: DataSets) -> None:
    data_id = await api.create()
    await api.send(data_id, [TABLE])
    assert await api.ok("POST", "/clear", json={"dataId": data_id}) == {}
    assert (await api.detail(data_id))["dataStatus"] == NOT_UPLOADED
    assert list(api.folder(data_id).iterdir()) == []
    await api.send(data_id, cut(TABLE), 0)
    assert await api.ok("DELETE", f"/{data_id}") == {}
    assert not api.folder(data_id).exists()
    for method, path, request in (
        ("GET", f"/{data_id}", {}),
        ("DELETE", f"/{data_id}", {}),
        ("POST", "/clear", {"json": {"dataId": data_id}}),
        ("POST", "/file", api.form(data_id, cut(TABLE), 0)),
        ("GET", "/file/nextIndex", {"params": {"dataId": data_id, "fileMd5": md5(TABLE)}}),
        ("GET", "/csv", {"params": {"dataId": data_id}}),
    ):
        said = await api.refused(404, method, path, **request)
        assert said == f"There is no data set {data_id}: /visualmodule/dataset/list shows those there are"


async def test_given_a_data_set_in_use_then_it_stays_and_what_replaces_it_comes_beside_it(api: DataSets) -> None:
    used = True

    async def guard(_session: AsyncSession, data_id: int) -> str | None:
        return f"job 7, which reads {data_id}," if used else None

    data_id = await api.create()
    await api.send(data_id, [b"a,b\n1,2\n"])
    api.uploads.guard(guard)
    async with api.service.database.read() as session:
        before = await data_sets.readable(session, api.service.settings, data_id)
    for method, path, request in (("POST", "/clear", {"json": {"dataId": data_id}}), ("DELETE", f"/{data_id}", {})):
        assert f"is used by job 7, which reads {data_id}" in await api.refused(409, method, path, **request)
    await api.send(data_id, [b"a,b\n3,4\n"])
    assert before.path.read_bytes() == b"a,b\n1,2\n"
    used = False
    await api.uploads.look_after()
    assert not before.path.exists()
    await api.ok("DELETE", f"/{data_id}")


# Tables


async def test_given_a_table_then_its_pages_have_its_rows_and_its_columns_beside_them(api: DataSets) -> None:
    data_id = await api.create()
    await api.send(data_id, [TABLE])
    page = await api.page(data_id, page=150, limit=13)
    assert (page["page"], page["limit"], page["total"]) == (150, 13, 2000)
    assert [row[0] for row in page["data"]] == [str(i) for i in range(149 * 13, 150 * 13)]
    assert page["data"][0][1] == "München"
    assert [(column["name"], column["type"], column["exception"]) for column in page["columns"]] == [
        ("id", "int", None), ("city", "text", None), ("day", "date", None),
    ]  # fmt: skip
    assert (page["encoding"], page["delimiter"], page["header"], page["problems"]) == ("utf-8", ",", True, [])
    assert len((await api.page(data_id))["data"]) == 10
    assert len((await api.page(data_id, page=154, limit=13))["data"]) == 2000 - 153 * 13
    assert (await api.page(data_id, page=2**31 - 1, limit=500))["data"] == []


async def test_given_utf_16_and_broken_rows_then_they_are_shown_and_named(api: DataSets) -> None:
    data_id = await api.create()
    await api.send(data_id, ["名称;值\n甲;1\n乙;2;3\n丙;4\n".encode("utf-16")])
    page = await api.page(data_id)
    assert page["data"] == [["甲", "1"], ["乙", "2", "3"], ["丙", "4"]]
    assert page["problems"] == ["line 3 has 3 fields, where the first row has 2"]
    assert (page["encoding"], page["delimiter"], page["problemCount"]) == ("utf-16", ";", 1)
    async with api.service.database.read() as session:
        found = await data_sets.readable(session, api.service.settings, data_id)
    assert found.path.read_text(found.encoding).startswith("名称;值\n")


async def test_given_a_data_set_that_is_not_whole_then_it_cannot_be_read(api: DataSets) -> None:
    data_id = await api.create()
    said = await api.refused(400, "GET", "/csv", params={"dataId": data_id})
    assert said == f"dataId: data set {data_id} has no file yet (upload one)"
    await api.send(data_id, cut(TABLE), 0)
    async with api.service.database.read() as session:
        with pytest.raises(InvalidInput, match="wait until its dataStatus is 3"):
            await data_sets.readable(session, api.service.settings, data_id)
        with pytest.raises(NotFound):
            await data_sets.readable(session, api.service.settings, 17)


async def test_given_a_value_of_another_type_far_below_then_the_column_is_text_and_the_row_is_named(
    api: DataSets,
) -> None:
    data_id = await api.create()
    rows = [b"%d,%d\n" % (n, n) for n in range(5000)]
    rows[3000] = b"3000,unknown\n"
    await api.send(data_id, [b"a,b\n" + b"".join(rows)])
    assert (await api.page(data_id))["columns"] == [
        {"name": "a", "type": "int", "exception": None},
        {"name": "b", "type": "text", "exception": "row 3001 has 'unknown', the rows before it int"},
    ]


# Images


async def test_given_folders_of_images_then_they_are_counted_and_what_is_none_is_named(api: DataSets) -> None:
    data_id = await api.create(IMAGES)
    content = archive(
        {
            "set/cats/1.png": PNG, "set/cats/2.jpg": JPEG, "set/dogs/1.gif": b"GIF89a" + PNG, "set/dogs/x/2.bmp": b"BM",
            "set/dogs/3.webp": b"RIFF\0\0\0\0WEBP", "set/dogs/notes.txt": b"good dogs", "set/cats/fake.png": b"no",
            "__MACOSX/set/._1.png": b"x", "set/.DS_Store": b"x",
        }
    )  # fmt: skip
    await api.send(data_id, cut(content, 200), name="pets.zip")
    found = await api.detail(data_id)
    assert (found["dataStatus"], found["classes"]) == (UPLOADED, {"cats": 2, "dogs": 3})
    assert found["problems"] == [
        f"{name} is no image (PNG, JPEG, GIF, BMP, WebP)" for name in ("set/dogs/notes.txt", "set/cats/fake.png")
    ]
    assert "has images, not rows" in await api.refused(400, "GET", "/csv", params={"dataId": data_id})


def _link() -> bytes:
    entry = zipfile.ZipInfo("a/1.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr(entry, "/etc/passwd")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (archive({"../../1.png": PNG}), "leads out of the archive"),
        (archive({"/etc/1.png": PNG}), "leads out of the archive"),
        (_link(), "is a symbolic link"),
        (archive({"a/1.png": PNG + b"\0" * 30 * 1024**2}), "expands to more than"),
        (b"no archive", "is not a jar or zip file"),
        pytest.param(archive({"a/1.png": PNG})[:-30], "is not a jar or zip file", id="an archive cut off"),
        (archive({"readme.txt": b"x"}), "has no image"),
    ],
)
async def test_given_an_archive_that_is_none_or_does_harm_then_it_is_refused(
    api: DataSets, content: bytes, said: str
) -> None:
    data_id = await api.create(IMAGES)
    assert said in await api.refused(400, "POST", "/file", **api.form(data_id, [content], 0, name="a.zip"))
    found = await api.detail(data_id)
    assert found["dataStatus"] == NOT_UPLOADED
    assert said in found["problems"][0]
    assert api.files(data_id) == []


# Presets and lists


async def test_given_presets_then_they_are_there_and_stay_as_they_are(api: DataSets) -> None:
    for preset in (PRESETS[0], PRESETS[3]):  # what all of them have is held against their libraries by the steps' tests
        made = await api.ok("POST", json={"dataType": 2, "dataSource": 0, "preset": preset.name})
        assert made == {"dataId": preset.id}
        found = await api.detail(preset.id)
        assert (found["dataName"], found["dataStatus"], found["dataSource"]) == (preset.name, UPLOADED, 0)
        page = await api.page(preset.id, limit=500)
        assert (page["total"], len(page["data"])) == (preset.rows, min(preset.rows, 500))
        assert page["columns"][-1]["name"] == found["target"] == "target"
        async with api.service.database.read() as session:
            readable = await data_sets.readable(session, api.service.settings, preset.id)
        assert (readable.target, readable.digest) == ("target", preset.digest)
        assert readable.path.stat().st_size == preset.size
    assert await api.ok("POST", json={"dataType": "2", "dataSource": "0"}) == {"dataId": 1}
    for method, path, request in (
        ("DELETE", "/1", {}),
        ("POST", "/clear", {"json": {"dataId": 1}}),
        ("POST", "/file", api.form(1, [TABLE], 0)),
    ):
        assert "is the preset iris" in await api.refused(409, method, path, **request)
    assert "use one of iris, wine" in await api.refused(
        400, "POST", json={"dataType": 2, "dataSource": 0, "preset": "mnist"}
    )
    assert "no preset set of images" in await api.refused(400, "POST", json={"dataType": 1, "dataSource": 0})


async def test_given_data_sets_then_lists_have_presets_first_and_are_filtered(api: DataSets) -> None:
    ids = [await api.create(kind, dataName=f"Set {kind} 50%") for kind in (IMAGES, CSV, CSV)]
    everything = await api.ok("GET", "/list", params={"limit": 500})
    assert [one["dataId"] for one in everything["data"]] == [*range(1, 7), *reversed(ids)]
    assert everything["total"] == 9
    across = await api.ok("GET", "/list", params={"page": 2, "limit": 5})
    assert [one["dataId"] for one in across["data"]] == [6, *reversed(ids)]
    for query, found in (
        ({"dataName": "set"}, ids), ({"dataName": "50%"}, ids), ({"dataName": "5_%"}, []), ({"dataName": "WINE"}, [2]),
        ({"dataType": 1}, ids[:1]), ({"dataSource": 1, "dataType": 2}, ids[1:]), ({"dataSource": 0}, [*range(1, 7)]),
    ):  # fmt: skip
        listed = await api.ok("GET", "/list", params=query)
        assert sorted(one["dataId"] for one in listed["data"]) == sorted(found), query
        assert listed["total"] == len(found)


async def test_the_choices_are_those_of_the_document(api: DataSets) -> None:
    for path, code, label, names in (
        ("status", "dataStatus", "statusName", {1: "未上传", 2: "上传中", 3: "已上传", 4: "处理中"}),
        ("type", "dataType", "typeName", {1: "图片", 2: "CSV"}),
        ("source", "dataSource", "sourceName", {0: "预置", 1: "自定义"}),
    ):
        listed = await api.ok("GET", f"/{path}/list")
        assert listed == {"data": [{code: number, label: name} for number, name in names.items()]}


# What is wrong with a request

_WRONG = ("", "x", "-1", "9" * 30, "1.5", "\0", "null", "é")


@pytest.mark.parametrize(
    "field",
    ["dataId", "fileMd5", "fileName", "fragmentMd5", "fragmentName", "fragmentIndex", "fragmentCount"],
)
async def test_given_a_field_of_the_form_that_is_missing_or_wrong_then_it_is_named(api: DataSets, field: str) -> None:
    data_id = await api.create()
    said = await api.refused(400, "POST", "/file", **api.form(data_id, [TABLE], 0, **{field: None}))
    assert said == f"{field}: is missing"
    for value in _WRONG:
        if field in ("fileName", "fragmentName") and value not in ("", "\0"):
            continue
        envelope = await api.ask("POST", "/file", **api.form(data_id, [TABLE], 0, **{field: value}))
        assert envelope["status"] in ((400, 404) if field == "dataId" else (400,)), (value, envelope)
    assert (await api.detail(data_id))["dataStatus"] == NOT_UPLOADED


async def test_given_requests_that_are_wrong_then_they_are_refused_in_the_envelope(api: DataSets) -> None:
    data_id = await api.create()
    for fields in (
        {"fragmentIndex": 1}, {"fragmentIndex": -1}, {"fragmentCount": 0}, {"fragmentCount": 10_001},
    ):  # fmt: skip
        await api.refused(400, "POST", "/file", **api.form(data_id, [TABLE], 0, **fields))
    whole = api.form(data_id, [TABLE], 0)
    await api.refused(400, "POST", "/file", data=whole["data"])
    await api.refused(400, "POST", "/file", json=whole["data"])
    await api.refused(400, "POST", "/file", data=whole["data"], files={"other": ("t.csv", TABLE)})
    await api.refused(400, "POST", "/file", data=whole["data"], files={"file": ("t.csv", b"")})
    await api.refused(400, "POST", "/file", content=b"--x\r\n", headers={"content-type": "multipart/form-data"})
    for wrong in _WRONG:
        for field in ("dataType", "dataSource", "dataId"):
            body = {"dataType": 2, "dataSource": 1, "dataId": data_id, field: wrong}
            assert (await api.ask("POST", "/clear" if field == "dataId" else "", json=body))["status"] in (400, 404)
        assert (await api.ask("GET", "/csv", params={"dataId": wrong}))["status"] in (400, 404)
        await api.ask("GET", "/csv", params={"dataId": 1, "page": wrong, "limit": wrong})
        await api.ask("GET", "/list", params={"page": wrong, "limit": wrong, "dataType": wrong, "dataName": wrong})
        query = {"dataId": data_id, "fileMd5": wrong}
        await api.refused(400, "GET", "/file/nextIndex", params=query)
    for body in ({}, [], "x", {"dataType": 3, "dataSource": 1}, {"dataType": None, "dataSource": None}):
        await api.refused(400, "POST", json=body)
    for name in ("\0", "x" * 201, {"a": 1}):
        await api.refused(400, "POST", json={"dataType": 2, "dataSource": 1, "dataName": name})
    for path in ("/x", "/9999999999999999999999", "/-1", "/1.5"):
        for method in ("GET", "DELETE"):
            assert (await api.ask(method, path))["status"] in (400, 404)
