"""What comes in to data sets: fragments in any order, and copies of tables; made into files once, and looked into.

What is under way is in the database; files follow it. An upload is written down before its folder is made, a fragment
when it is on disk. The whole file is made by the holder of a lease (``worker``), so that two last fragments, or two
replicas, do it once; when its holder dies, the next request after the lease, or :meth:`Uploads.look_after`, does it
again. A copy of a table is an upload without fragments, whose file a process writes: begun again it has another id, so
that no two write to one folder. A folder that no row names is removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from sqlalchemy import ColumnElement, func, or_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.background import repeated
from app.database import Database, now_ms
from app.errors import Conflict, DatabaseFailure, HlinkError, InvalidInput, NotFound, Problem, Unavailable
from app.hlink.extracts.orders import Order
from app.hlink.extracts.process import Extract, extract
from app.hlink.extracts.rows import Progress
from app.ids import new_id
from app.settings import Settings
from app.uploads import incoming
from app.visual.choices import DataType
from app.visual.datasets.contents import Contents, look_into
from app.visual.datasets.copying import Wanted
from app.visual.datasets.folders import Folders, FragmentsGone, UploadFolder, WrongDigest
from app.visual.datasets.models import DataSet, Fragment
from app.visual.datasets.presets import BY_ID
from app.visual.datasets.wire import FILE, FragmentForm

logger = logging.getLogger(__name__)

LEASE_S = 30.0
PATIENCE_S = 20.0
"""How long the request with the last fragment waits for the whole file; what comes later is in the record."""
LOOK_AFTER_S = 30.0

_TOGETHER = 2
"""How many files are put together or looked into at once, and how many tables are copied."""
_LOOK_S, _PROGRESS_S = 0.5, 2.0
"""How often it is looked whether a copy is still wanted, and its progress written down."""

Guard = Callable[[AsyncSession, int], Awaitable[str | None]]
"""Who needs a data set, in words (``job 12, which is running``); None when nobody does."""


class Ended(Exception):
    """The work on an upload is not to go on: the service ends, or the upload was cleared."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make the file of an upload."""

    data_id: int
    upload_id: int
    worker: str


@dataclass(frozen=True, slots=True)
class _Made:
    """A file that is whole, and what is in it."""

    size: int
    md5: str
    contents: Contents


class Uploads:
    """What comes in, what is being made of it, and what may be removed, while the service runs."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._folders = Folders.of(settings)
        self._fragment_limit = settings.upload_limit_mib * 1024**2
        self._file_limit = settings.dataset_limit_gib * 1024**3
        self._guards: list[Guard] = []
        self._work: dict[int, asyncio.Task[None]] = {}
        self._wanted: dict[Claim, threading.Event] = {}
        """What is made here: cleared when it is not to be made any more."""
        self._copies = asyncio.Semaphore(_TOGETHER)
        self._over = threading.Event()
        self._threads = ThreadPoolExecutor(_TOGETHER, "data sets")

    def guard(self, guard: Guard) -> None:
        """Let a part of the family say which data sets it needs: those are not cleared, deleted or overwritten."""
        self._guards.append(guard)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after uploads for as long as the block lasts."""
        try:
            async with repeated("data sets", LOOK_AFTER_S, self.look_after):
                yield
        finally:
            self._over.set()
            if self._work:
                await asyncio.wait(self._work.values())
            self._threads.shutdown()

    async def refuse_needed(self, session: AsyncSession, data_id: int) -> None:
        """Raises :class:`~app.errors.Conflict` when somebody needs the data set."""
        for guard in self._guards:
            if needed := await guard(session, data_id):
                raise Conflict(f"Data set {data_id} is used by {needed}: wait until it has ended, or stop it")

    # Fragments

    async def receive(self, request: Request) -> DataSet:
        """Take in a fragment; with the last one the file is made, and the answer waits for it for a while.

        Raises:
            InvalidInput, NotFound: the form, the fragment or the whole file is not as it is said to be; no data set.
            Conflict: another file is being uploaded to the data set.
            Unavailable: the disk is full.
        """
        try:
            async with incoming(
                request, self._folders.incoming, FILE, self._fragment_limit, _md5, durable=False
            ) as received:
                form = _checked(received.fields)
                if received.digest != form.fragment_md5:
                    raise InvalidInput(
                        Problem(
                            f"fragment {form.fragment_index} has the MD5 {received.digest}, "
                            f"where {form.fragment_md5} is given",
                            field="fragmentMd5",
                            remedy="send it again",
                        )
                    )
                upload = await self._upload_of(form)
                if upload is None:  # the file is there already
                    return await self.find(form.data_id)
                try:
                    await asyncio.to_thread(upload.take, received.path, form.fragment_index, form.fragment_md5)
                except FileNotFoundError:
                    raise _cleared(form.data_id) from None
            claim = await self._note(form, int(upload.path.name), upload, received.size)
        except OSError as error:
            raise Unavailable(f"The fragment could not be kept: {error.strerror or error}") from error
        if claim is not None:
            self._begin(claim)
        await self._finished(int(upload.path.name))
        return await self.find(form.data_id)

    async def next_index(self, data_id: int, md5: str) -> int:
        """The smallest fragment that the file with this MD5 lacks; 0 when nothing is known of it, -1 when it is whole.

        Where all fragments are there and nobody makes the file of them, it is made.
        """
        missing = await self._missing(data_id, md5)
        if missing is not None:
            return missing
        upload_id = (await self.find(data_id)).upload_id
        if upload_id is not None:
            await self._resume(data_id, upload_id)
            with suppress(InvalidInput):  # which the record tells of; the fragments that it takes are missing now
                await self._finished(upload_id)
        missing = await self._missing(data_id, md5)
        return -1 if missing is None else missing

    async def _missing(self, data_id: int, md5: str) -> int | None:
        """The smallest fragment that the file with this MD5 lacks, -1 when it is whole, None when only work is left."""
        data_set = await self.find(data_id)
        upload_id = data_set.upload_id
        if upload_id is None or data_set.upload_md5 != md5:
            return -1 if data_set.kept_id is not None and data_set.md5 == md5 else 0
        if data_set.worker:
            return None
        async with self._database.read() as session:
            fragments = await _fragments(session, upload_id)
        folder = self._folders.of_upload(data_id, upload_id, data_set.kind)
        lost = set(await asyncio.to_thread(folder.missing, fragments))
        there = {one.number for one in fragments} - lost
        return next((number for number in range(data_set.upload_count) if number not in there), None)

    async def find(self, data_id: int) -> DataSet:
        """The data set. Raises NotFound."""
        async with self._database.read() as session:
            return await own(session, data_id)

    # Copies

    async def copy(self, name: str, wanted: Wanted) -> int:
        """Make a data set of rows of a stream job's table, and begin to copy them. Its id.

        Raises:
            NotFound, InvalidInput: there is no such table, or its rows cannot be copied so.
        """
        async with self._database.write() as session:
            table = (await wanted.order(session, self._file_limit)).name
            data_set = DataSet(name=name or table, type=DataType.CSV, upload_name=f"{table}.csv", upload_id=new_id())
            data_set.order = wanted.model_copy(update={"table": table}).model_dump(mode="json")
            session.add(data_set)
            await session.flush()
            assert data_set.upload_id is not None
            claim = await _claim(session, data_set.id, data_set.upload_id)
        assert claim is not None
        self._begin(claim)
        return data_set.id

    # Removal

    async def forget(self, data_id: int) -> None:
        """Remove the files that a data set does not have any more."""
        # Listed before the row is read: what is begun meanwhile is not among them.
        there = await asyncio.to_thread(self._folders.uploads_of, data_id)
        async with self._database.read() as session:
            found = (await session.exec(_IN_USE.where(DataSet.id == data_id))).first()
            for claim, ours in self._wanted.items():
                if claim.data_id == data_id and (found is None or claim.upload_id not in found[1:]):
                    ours.clear()
            await self._remove_others(session, data_id, there, found)

    async def look_after(self, _over: asyncio.Event | None = None) -> None:
        """Go on with uploads whose worker died, and remove what no row names."""
        folders = await asyncio.to_thread(self._folders.uploads)
        async with self._database.read() as session:
            rows = {row[0]: row for row in await session.exec(_IN_USE)}
            for data_id, there in folders.items():
                await self._remove_others(session, data_id, there, rows.get(data_id))
        for data_id, upload_id, _ in rows.values():
            if upload_id is not None:
                await self._resume(data_id, upload_id)

    async def _remove_others(
        self, session: AsyncSession, data_id: int, there: Sequence[int], row: Sequence[int | None] | None
    ) -> None:
        """Remove a data set's uploads but those of its row; all of it without one."""
        others = [upload_id for upload_id in there if row is None or upload_id not in row[1:]]
        if row is not None and not others:
            return
        for guard in self._guards:
            if await guard(session, data_id):
                return  # it may be reading what is replaced: removed later
        await asyncio.to_thread(self._folders.remove, data_id, others, row is None)

    # The way of one fragment

    async def _upload_of(self, form: FragmentForm) -> UploadFolder | None:
        """The folder of the upload that the fragment belongs to, which is begun if need be; None: it is done."""
        data_set = await self.find(form.data_id)
        if wanted := Wanted.of(data_set):
            raise Conflict(
                f"Data set {data_set.id} is being copied from the table '{wanted.table}': wait until its dataStatus is "
                f"3, or {_give_up(data_set.id)}"
            )
        if data_set.upload_id is None:
            async with self._database.write() as session:
                data_set = await own(session, form.data_id, lock=True)
                if data_set.upload_id is None:
                    if data_set.kept_id is not None and data_set.md5 == form.file_md5:
                        return None
                    data_set.upload_id, data_set.upload_md5 = new_id(), form.file_md5
                    data_set.upload_name, data_set.upload_count = form.file_name, form.fragment_count
                    data_set.refusal = ""
                    session.add(data_set)
        assert data_set.upload_id is not None
        if data_set.upload_md5 != form.file_md5:
            async with self._database.read() as session:
                there, _ = await _number_and_size(session, data_set.upload_id)
            raise Conflict(
                f"{data_set.upload_name} (MD5 {data_set.upload_md5}) is being uploaded to data set {data_set.id}: "
                f"{there} of {data_set.upload_count} fragments are there. Finish it, or {_give_up(data_set.id)}"
            )
        if data_set.upload_count != form.fragment_count:
            raise Conflict(
                f"The upload of {data_set.upload_name} has {data_set.upload_count} fragments, not "
                f"{form.fragment_count}: cut it as before, or {_give_up(data_set.id)}"
            )
        return self._folders.of_upload(data_set.id, data_set.upload_id, data_set.kind)

    async def _note(self, form: FragmentForm, upload_id: int, folder: UploadFolder, size: int) -> Claim | None:
        """Write down that a fragment is on disk; the right to make the file, when it was the last one."""
        refused: HlinkError | None = None
        superfluous, claim = False, None
        async with self._database.write() as session:
            data_set = await own(session, form.data_id, lock=True)
            known = await session.get(Fragment, (upload_id, form.fragment_index))
            if data_set.upload_id != upload_id:
                superfluous = True
                if data_set.kept_id != upload_id:  # else a repeated fragment came when all was done
                    refused = _cleared(form.data_id)
            elif known is not None and known.md5 != form.fragment_md5:
                superfluous = True
                refused = Conflict(
                    f"Fragment {form.fragment_index} is there with the MD5 {known.md5}, and this one has "
                    f"{form.fragment_md5}: cut the file as before, or {_give_up(data_set.id)}"
                )
            else:
                if known is None:
                    session.add(
                        Fragment(upload_id=upload_id, number=form.fragment_index, md5=form.fragment_md5, size=size)
                    )
                    await session.flush()
                number, total = await _number_and_size(session, upload_id)
                if total > self._file_limit:
                    raise InvalidInput(
                        Problem(
                            f"the fragments have more than {self._file_limit // 1024**3} GiB together",
                            field=FILE,
                            remedy="send a smaller file, or raise HLINK_DATASET_LIMIT_GIB",
                        )
                    )
                if number == data_set.upload_count:
                    claim = await _claim(session, form.data_id, upload_id)
        if superfluous:
            await asyncio.to_thread(folder.drop, form.fragment_index, form.fragment_md5)
        if refused is not None:
            raise refused
        return claim

    # The way to the whole file

    async def _resume(self, data_id: int, upload_id: int) -> None:
        """Go on with an upload whose fragments are all there, or begin a copy again, if nobody does."""
        async with self._database.read() as session:
            number, _ = await _number_and_size(session, upload_id)
            data_set = await session.get(DataSet, data_id)
            now = (await session.exec(select(now_ms()))).one()
        if data_set is None or data_set.upload_id != upload_id or number < data_set.upload_count:
            return
        if data_set.worker and data_set.worker_until > now:
            return
        async with self._database.write() as session:
            claim = await _claim(session, data_id, upload_id, anew=data_set.order is not None)
        if claim is not None:
            self._begin(claim)

    def _begin(self, claim: Claim) -> None:
        task = asyncio.create_task(self._make(claim), name=f"data set {claim.data_id}")
        self._work[claim.upload_id] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._work.get(claim.upload_id) is task:
                del self._work[claim.upload_id]
            if not task.cancelled() and (error := task.exception()) and not isinstance(error, HlinkError):
                logger.error("data set %s was not made: it is tried again", claim.data_id, exc_info=error)

        task.add_done_callback(ended)

    async def _finished(self, upload_id: int) -> None:
        """Wait a while for what this process makes of an upload; raises what it was refused for."""
        if task := self._work.get(upload_id):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await asyncio.shield(task)
            except TimeoutError:
                pass  # it goes on
            except OSError as error:
                raise Unavailable(
                    f"The file could not be made: {error.strerror or error}; it is tried again"
                ) from error

    async def _make(self, claim: Claim) -> None:
        ours = self._wanted[claim] = threading.Event()
        ours.set()
        renewing = asyncio.create_task(self._renew(claim, ours), name=f"lease on data set {claim.data_id}")
        try:
            async with self._database.read() as session:
                data_set = await own(session, claim.data_id)
                fragments = await _fragments(session, claim.upload_id)
            folder = self._folders.of_upload(claim.data_id, claim.upload_id, data_set.kind)
            try:
                if wanted := Wanted.of(data_set):
                    made = await self._copied(claim, folder, data_set.upload_name, wanted, ours)
                else:
                    made = await self._in_thread(self._put_together, folder, fragments, data_set, ours)
            except FragmentsGone as gone:
                await self._send_again(claim, gone.numbers)
                raise InvalidInput(
                    Problem(
                        f"fragments {', '.join(map(str, gone.numbers[:10]))} are not on disk any more",
                        field="fragmentIndex",
                        remedy="send them again",
                    )
                ) from None
            except InvalidInput as refused:
                await self._drop(claim, refused.message)
                raise
            await self._keep(claim, made)
        except (Ended, NotFound):
            await self._release(claim, "")
        except OSError as error:
            await self._release(claim, f"The file could not be made: {error.strerror or error}; it is tried again")
            raise
        finally:
            del self._wanted[claim]
            renewing.cancel()
            await asyncio.wait([renewing])

    def _in_thread(self, work: Callable[..., _Made], *given: object) -> Awaitable[_Made]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def _go_on(self, ours: threading.Event) -> None:
        """Raises :class:`Ended` when what is made is not to be made any more."""
        if self._over.is_set() or not ours.is_set():
            raise Ended

    async def _copied(
        self, claim: Claim, folder: UploadFolder, name: str, wanted: Wanted, ours: threading.Event
    ) -> _Made:
        async with self._copies:
            self._go_on(ours)
            try:
                async with self._database.read() as session:
                    order = await wanted.order(session, self._file_limit)
            except NotFound as gone:  # the table, not the data set
                raise InvalidInput(gone.message) from None
            part = await asyncio.to_thread(folder.begin)
            copied = await self._extract(claim, order, part, ours)
        await asyncio.to_thread(folder.keep, part)

        def looked_into() -> _Made:
            contents = look_into(
                folder.file, name, DataType.CSV, folder.index, lambda: self._go_on(ours), written_here=True
            )
            if copied.skipped:
                said = f"{copied.skipped} messages could not be read and are left out"
                contents = contents.model_copy(
                    update={"problems": [said, *contents.problems], "all_problems": contents.all_problems + 1}
                )
            return _Made(copied.size, copied.md5, contents)

        return await self._in_thread(looked_into)

    async def _extract(self, claim: Claim, order: Order, part: Path, ours: threading.Event) -> Extract:
        """Have an order's rows copied for as long as they are wanted, and write down how far that is."""
        progress = noted = Progress()
        noted_at = time.monotonic()

        def told(new: Progress) -> None:
            nonlocal progress
            progress = new

        copying = asyncio.create_task(extract(order, part, told), name=f"copy to data set {claim.data_id}")
        try:
            while not (await asyncio.wait([copying], timeout=_LOOK_S))[0]:
                self._go_on(ours)
                if progress != noted and time.monotonic() - noted_at >= _PROGRESS_S:
                    noted, noted_at = progress, time.monotonic()
                    if await self._update(claim, progress=asdict(progress)) is False:
                        ours.clear()
        finally:
            copying.cancel()
            await asyncio.wait([copying])
        return copying.result()

    def _put_together(
        self, folder: UploadFolder, fragments: Sequence[Fragment], data_set: DataSet, ours: threading.Event
    ) -> _Made:
        def go_on() -> None:
            self._go_on(ours)

        def look(path: Path) -> Contents:
            return look_into(path, data_set.upload_name, data_set.kind, folder.index, go_on)

        try:
            size, contents = folder.put_together(fragments, data_set.upload_md5, go_on, look)
        except WrongDigest as wrong:
            raise InvalidInput(
                Problem(
                    f"the fragments of {data_set.upload_name} come to the MD5 {wrong.found}, where "
                    f"{data_set.upload_md5} is given; they are dropped",
                    field="fileMd5",
                    remedy="send the file again",
                )
            ) from None
        return _Made(size, data_set.upload_md5, contents)

    async def _renew(self, claim: Claim, ours: threading.Event) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            if await self._update(claim, worker_until=now_ms() + int(LEASE_S * 1000)) is False:
                ours.clear()
                return

    async def _update(self, claim: Claim, **values: Any) -> bool | None:
        """Change the row of what is made here; False when it is not ours any more, None when that is not known."""
        try:
            async with self._database.write() as session:
                updated = await session.exec(
                    update(DataSet).where(*_held(claim)).values(**values).execution_options(synchronize_session=False)
                )
        except (SQLAlchemyError, DatabaseFailure) as error:
            logger.warning("data set %s was not written to: %s", claim.data_id, type(error).__name__)
            return None
        return bool(updated.rowcount)

    async def _keep(self, claim: Claim, made: _Made) -> None:
        async with self._database.write() as session:
            data_set = await _ours(session, claim)
            if data_set is None:
                raise Ended
            data_set.kept_id, data_set.md5 = claim.upload_id, made.md5
            data_set.file_name, data_set.size = data_set.upload_name, made.size
            data_set.stored_contents = made.contents.model_dump(mode="json")
            data_set.origin = data_set.order
            data_set.forget_upload()
            session.add(data_set)
            await forget_fragments(session, claim.upload_id)
        await self.forget(claim.data_id)

    async def _drop(self, claim: Claim, why: str) -> None:
        async with self._database.write() as session:
            data_set = await _ours(session, claim)
            if data_set is None:
                return
            data_set.forget_upload()
            data_set.refusal = why
            session.add(data_set)
            await forget_fragments(session, claim.upload_id)
        await self.forget(claim.data_id)

    async def _send_again(self, claim: Claim, numbers: Sequence[int]) -> None:
        async with self._database.write() as session:
            if await _ours(session, claim) is not None:
                for number in numbers:
                    if fragment := await session.get(Fragment, (claim.upload_id, number)):
                        await session.delete(fragment)
        await self._release(claim, "")

    async def _release(self, claim: Claim, refusal: str) -> None:
        async with self._database.write() as session:
            await session.exec(
                update(DataSet)
                .where(*_held(claim))
                .values(worker="", worker_until=0, refusal=refusal)
                .execution_options(synchronize_session=False)
            )


_IN_USE = select(DataSet.id, DataSet.upload_id, DataSet.kept_id).where(DataSet.del_flag == 1)


async def own(session: AsyncSession, data_id: int, lock: bool = False) -> DataSet:
    """A data set of somebody's own.

    Raises:
        NotFound, Conflict: there is none; it is a preset, which always is as it is.
    """
    if data_id in BY_ID:
        raise Conflict(f"Data set {data_id} is the preset {BY_ID[data_id].name}, which cannot be changed")
    data_set = await session.get(DataSet, data_id, with_for_update=lock)
    if data_set is None or data_set.del_flag != 1:
        raise NotFound(f"There is no data set {data_id}: /visualmodule/dataset/list shows those there are")
    return data_set


async def forget_fragments(session: AsyncSession, upload_id: int) -> None:
    """Have no fragments of an upload."""
    await session.exec(delete(Fragment).where(col(Fragment.upload_id) == upload_id))


async def _fragments(session: AsyncSession, upload_id: int) -> Sequence[Fragment]:
    found = await session.exec(select(Fragment).where(Fragment.upload_id == upload_id).order_by(col(Fragment.number)))
    return found.all()


async def _number_and_size(session: AsyncSession, upload_id: int) -> tuple[int, int]:
    counted = select(func.count(), func.coalesce(func.sum(Fragment.size), 0)).where(Fragment.upload_id == upload_id)
    number, size = (await session.exec(counted)).one()
    return int(number), int(size)


async def _claim(session: AsyncSession, data_id: int, upload_id: int, *, anew: bool = False) -> Claim | None:
    """The right to make the file of an upload, if nobody has it; ``anew``: under another id."""
    claim = Claim(data_id, new_id() if anew else upload_id, secrets.token_hex(16))
    taken = await session.exec(
        update(DataSet)
        .where(
            col(DataSet.id) == data_id,
            col(DataSet.upload_id) == upload_id,
            col(DataSet.del_flag) == 1,
            or_(col(DataSet.worker) == "", col(DataSet.worker_until) <= now_ms()),
        )
        .values(upload_id=claim.upload_id, worker=claim.worker, worker_until=now_ms() + int(LEASE_S * 1000))
        .execution_options(synchronize_session=False)
    )
    return claim if taken.rowcount else None


def _held(claim: Claim) -> list[ColumnElement[bool]]:
    return [
        col(DataSet.id) == claim.data_id,
        col(DataSet.upload_id) == claim.upload_id,
        col(DataSet.worker) == claim.worker,
    ]


async def _ours(session: AsyncSession, claim: Claim) -> DataSet | None:
    """The data set, locked, if the claim on it still holds."""
    data_set = await session.get(DataSet, claim.data_id, with_for_update=True)
    if data_set is None or data_set.del_flag != 1:
        return None
    return data_set if (data_set.upload_id, data_set.worker) == (claim.upload_id, claim.worker) else None


def _give_up(data_id: int) -> str:
    return f'give it up with POST /visualmodule/dataset/clear {{"dataId": {data_id}, "uploadOnly": true}}'


def _cleared(data_id: int) -> Conflict:
    return Conflict(
        f"The upload to data set {data_id} was given up, or refused, while the fragment came in: begin it again"
    )


def _checked(fields: dict[str, str]) -> FragmentForm:
    try:
        return FragmentForm.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(
            *(
                Problem(
                    "is missing" if one["type"] == "missing" else one["msg"],
                    field=".".join(map(str, one["loc"])) or None,
                )
                for one in error.errors()
            )
        ) from None


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)
