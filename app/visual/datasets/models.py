"""The data sets, and the fragments of files that are being uploaded."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Text
from sqlmodel import Field, SQLModel

from app.database import Audited
from app.ids import new_id
from app.visual.choices import DataStatus, DataType
from app.visual.datasets.contents import Contents


class DataSet(Audited, SQLModel, table=True):
    """A data set of somebody's own. It has a whole file (``kept_id``), one that comes in (``upload_id``), or both.

    What comes in is sent in fragments, or copied from a table. Each upload has an id and a folder of that name.
    When it is whole, its id becomes ``kept_id``: what was kept before is in use up to that moment.
    """

    __tablename__ = "visual_dataset"

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    name: str = Field(default="", max_length=200)
    type: int
    """A :class:`~app.visual.choices.DataType` (wire: ``dataType``)."""

    upload_id: int | None = Field(default=None, sa_type=BigInteger)
    upload_md5: str = Field(default="", max_length=32)
    upload_name: str = Field(default="", max_length=255)
    upload_count: int = 0
    """How many fragments it has."""
    worker: str = Field(default="", max_length=32)
    """Who puts the upload together; empty while fragments are missing."""
    worker_until: int = Field(default=0, sa_type=BigInteger)
    """Until when nobody else does (epoch ms, the database's clock)."""
    refusal: str = Field(default="", sa_type=Text)
    """Why the last upload was dropped."""
    order: dict[str, Any] | None = Field(default=None, sa_column=Column("extract_order", JSON(none_as_null=True)))
    """Of what comes in, where it is copied from a table (:class:`~app.visual.datasets.copying.Wanted`)."""
    progress: dict[str, Any] | None = Field(default=None, sa_column=Column("progress", JSON(none_as_null=True)))
    """How far the copy is (:class:`~app.hlink.extracts.rows.Progress`)."""

    kept_id: int | None = Field(default=None, sa_type=BigInteger)
    md5: str = Field(default="", max_length=32)
    file_name: str = Field(default="", max_length=255)
    size: int = Field(default=0, sa_type=BigInteger)
    stored_contents: dict[str, Any] | None = Field(default=None, sa_column=Column("contents", JSON(none_as_null=True)))
    origin: dict[str, Any] | None = Field(default=None, sa_column=Column("origin", JSON(none_as_null=True)))
    """What the whole file was copied from, as ``order``; None where it was uploaded."""

    @property
    def kind(self) -> DataType:
        """What its file has."""
        return DataType(self.type)

    @property
    def status(self) -> DataStatus:
        """How far it is; of a file that comes in, where there is one."""
        if self.upload_id is not None:
            return DataStatus.PROCESSING if self.worker or self.order is not None else DataStatus.UPLOADING
        return DataStatus.NOT_UPLOADED if self.kept_id is None else DataStatus.UPLOADED

    @property
    def contents(self) -> Contents:
        """What is in the whole file."""
        return Contents.model_validate(self.stored_contents or {})

    def forget_upload(self) -> None:
        """Have no file that comes in."""
        self.upload_id, self.upload_md5, self.upload_name, self.upload_count = None, "", "", 0
        self.order = self.progress = None
        self.worker, self.worker_until = "", 0

    def forget_file(self) -> None:
        """Have no whole file."""
        self.kept_id, self.md5, self.file_name, self.size, self.stored_contents = None, "", "", 0, None
        self.origin = None


class Fragment(SQLModel, table=True):
    """A fragment that is on disk, and was as its MD5 says."""

    __tablename__ = "visual_fragment"

    upload_id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    """From 0 (wire: ``fragmentIndex``)."""
    md5: str = Field(max_length=32)
    size: int = Field(sa_type=BigInteger)
