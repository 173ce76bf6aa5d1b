"""Functions and their versions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from app.database import Audited, now_ms
from app.ids import new_id
from stream_jobs.definitions import Function, FunctionKind

LONGEST_NAME = 100
LONGEST_IMPLEMENTATION = 500
LONGEST_DESCRIPTION = 2000


class StoredFunction(Audited, SQLModel, table=True):
    """A function (wire: 自定义函数, "udf") in its newest version; deleted ones are not kept."""

    __tablename__ = "hlink_function"

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    name: str = Field(max_length=LONGEST_NAME)
    key: str = Field(max_length=LONGEST_NAME, unique=True)
    """The name in small letters: SQL does not tell functions apart by case."""
    description: str = Field(default="", max_length=LONGEST_DESCRIPTION)
    kind: str = Field(max_length=16)
    implementation: str = Field(max_length=LONGEST_IMPLEMENTATION)
    file_name: str = Field(max_length=200)
    sha256: str = Field(max_length=64)
    suffix: str = Field(max_length=8)
    version: int = 1

    def definition(self) -> Function:
        """The function as the plain value that is planned with."""
        return Function(self.name, FunctionKind(self.kind), self.implementation, self.sha256, self.suffix)


class FunctionVersion(SQLModel, table=True):
    """What a function was, version by version. Never changed."""

    __tablename__ = "hlink_function_version"
    __table_args__ = (Index("hlink_function_version_number", "function_id", "number", unique=True),)

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    function_id: int = Field(sa_type=BigInteger)
    number: int
    kind: str = Field(max_length=16)
    implementation: str = Field(max_length=LONGEST_IMPLEMENTATION)
    file_name: str = Field(max_length=200)
    sha256: str = Field(max_length=64)
    created_at: int | None = Field(
        default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()}
    )
