"""The Flink clusters that jobs run on, with what each last said of itself."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel

from app.database import Audited
from app.encryption import Encrypted
from app.ids import new_id

LONGEST_NAME = 200
LONGEST_ADDRESS = 500
LONGEST_REMARK = 2000

OFF, ON, DELETED = 0, 1, -1
"""``del_flag`` of a cluster: 集群 publishes three states."""

_KEPT = text(f"del_flag <> {DELETED}")


class Cluster(Audited, SQLModel, table=True):
    """A Flink cluster (wire: 集群). A deleted one stays, for its jobs' history, and gives its name and address free."""

    __tablename__ = "hlink_cluster"
    __table_args__ = (
        Index("hlink_cluster_name", "name", unique=True, sqlite_where=_KEPT, postgresql_where=_KEPT),
        Index("hlink_cluster_address", "address", unique=True, sqlite_where=_KEPT, postgresql_where=_KEPT),
    )

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    name: str = Field(max_length=LONGEST_NAME)
    address: str = Field(max_length=LONGEST_ADDRESS)
    """Of Flink's REST API, normalised: ``http://host:port``, or with the path of a proxy."""
    type: int
    """Dictionary ``cluster_type``: 1 standalone; 0 is what the API's job view calls standalone."""
    remark: str = Field(default="", max_length=LONGEST_REMARK)
    overview: dict[str, int | str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """The last known figures, a :class:`~stream_jobs.rest.ClusterOverview` as a mapping."""
    observed_at: int | None = Field(default=None, sa_type=BigInteger)
    """When the cluster gave them: milliseconds since 1970 by the database's clock."""
    login: dict[str, str] | None = Field(default=None, sa_column=Column(Encrypted, nullable=True), repr=False)
    """``username`` and ``password``, or ``token``, for the proxy before it; see :mod:`app.hlink.clusters.login`."""
