"""The stored table: a definition, never SQL text."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Text
from sqlmodel import Field, SQLModel

from app.database import Audited
from app.encryption import Encrypted
from app.ids import new_id

LONGEST_NAME = 200


class StoredTable(Audited, SQLModel, table=True):
    """A table as its owner defined it (wire: 数据源, "ds").

    ``columns`` is the flat list as it came, each a :class:`StoredColumn`'s mapping; ``fields`` the connector's values,
    credentials masked; ``secrets`` the credentials, in a column of their own that no wire model reads.
    """

    __tablename__ = "hlink_table"

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    name: str = Field(max_length=LONGEST_NAME, index=True)
    alias: str = Field(max_length=LONGEST_NAME, unique=True)
    """What SQL calls the table; unique over all tables."""
    role: str = Field(max_length=16, index=True)
    kind: str = Field(max_length=32)
    schema_type: int = 0
    """0 JSON, 1 Avro."""
    structure: int = 0
    """0 flat, 1 nested."""
    version: int = 0
    ddl_disabled: int = 0
    schema_file: str = Field(default="", sa_column=Column(Text, nullable=False))
    columns: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    fields: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    secrets: dict[str, str] = Field(default_factory=dict, sa_column=Column(Encrypted, nullable=False), repr=False)
