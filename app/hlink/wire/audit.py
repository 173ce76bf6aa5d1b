"""Wire models of the audit log (``/audit``, ours)."""

from __future__ import annotations

from pydantic import Field

from app.hlink.wire.envelope import Paging
from app.wire import Int32, Int64, OptionalDateTime, TextFilter, TimeFilter, Wire


class AuditRecord(Wire):
    """One request that changed something, or was refused; never what was in it."""

    id: Int64
    at: OptionalDateTime = Field(None, alias="time")
    who: str = Field(description="the token's name; local for a service that runs without tokens")
    role: str
    method: str
    path: str
    subjects: str = Field(description="the ids that it was about")
    success: bool
    code: Int32 = Field(description="the answer's code")


class AuditQuery(Paging):
    """Filters: text by substring, times as dates (whole days) or times (to the second), UTC without an offset."""

    who: TextFilter = None
    path: TextFilter = None
    since: TimeFilter = Field(None, alias="from", description="from then on")
    until: TimeFilter = Field(None, alias="to", description="until then, that day or second included")
