"""The jars that somebody uploaded."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field, SQLModel

from app.database import Audited
from app.ids import new_id

JAR = 0
"""``kind`` of the only resource there is (wire: ``resType``)."""
NO_CLUSTER = 0

_KEPT = text("del_flag = 1")


class StoredJar(Audited, SQLModel, table=True):
    """A jar (wire: jar包资源). Its contents are in the store of uploaded files, under their SHA-256."""

    __tablename__ = "hlink_jar"
    __table_args__ = (
        Index(
            "hlink_jar_once", "cluster_id", "sha256", unique=True, sqlite_where=_KEPT, postgresql_where=_KEPT
        ),
    )  # fmt: skip

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    cluster_id: int = Field(default=NO_CLUSTER, sa_type=BigInteger)
    """The cluster that it was uploaded for; a job on another one brings it there as well."""
    name: str = Field(max_length=200)
    sha256: str = Field(max_length=64)
    size: int = Field(sa_type=BigInteger)
    entry_class: str = Field(default="", max_length=500)
    kind: int = JAR
    on_cluster: bool = False
    """Whether its cluster has had it."""

    @property
    def unique_name(self) -> str:
        """What clusters have it as: the same contents are the same name, so that they get it once."""
        return f"{self.sha256[:16]}-{self.name}"
