"""Data sets that are copied from tables of stream jobs: what is wanted, kept without credentials."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict
from sqlmodel.ext.asyncio.session import AsyncSession

from app.hlink.extracts.orders import Order, Selection
from app.hlink.extracts.reaching import order_of
from app.visual.datasets.models import DataSet


class Wanted(BaseModel):
    """Which rows of which table; it is stored as JSON. Times are epoch milliseconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    table_id: int
    table: str = ""
    """What SQL calls it; for people."""
    from_ms: int | None = None
    to_ms: int | None = None
    most_rows: int | None = None
    columns: tuple[str, ...] = ()
    time_column: str = ""

    @classmethod
    def of(cls, data_set: DataSet) -> Self | None:
        """What is being copied to a data set; None when nothing is."""
        return None if data_set.order is None else cls.model_validate(data_set.order)

    async def order(self, session: AsyncSession, most_bytes: int) -> Order:
        """What it takes to copy them. Raises as :func:`~app.hlink.extracts.reaching.order_of`."""
        selection = Selection(most_bytes, self.from_ms, self.to_ms, self.most_rows, self.columns, self.time_column)
        return await order_of(session, self.table_id, selection)
