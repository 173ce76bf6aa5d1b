"""The components that somebody uploaded."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index, text
from sqlmodel import Field, SQLModel

from app.database import Audited
from app.ids import new_id
from app.visual.catalogue import Component, OwnFile

_KEPT = text("del_flag = 1")


class OwnComponent(Audited, SQLModel, table=True):
    """A version of a component. Its file is in the store of uploaded files, under its SHA-256.

    The newest version is in use; those before it, and what was deleted, stay for the history of runs.
    """

    __tablename__ = "visual_component"
    __table_args__ = (Index("visual_component_uuid", "uuid", unique=True, sqlite_where=_KEPT, postgresql_where=_KEPT),)

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    uuid: str = Field(max_length=200)
    number: int = 1
    """Of the version, from 1."""
    file_name: str = Field(max_length=200)
    sha256: str = Field(max_length=64)
    size: int = Field(sa_type=BigInteger)
    declared: dict[str, Any] = Field(sa_type=JSON)
    """The component as the catalogue has it, without its file."""

    @property
    def component(self) -> Component:
        """It, as a component of the catalogue."""
        own = OwnFile(sha256=self.sha256, name=self.file_name)
        return Component.model_validate(self.declared).model_copy(update={"own": own})
