"""Tables (wire: 数据源, ``/ds``): definitions of what a job reads, looks up and writes."""

from app.hlink.tables.definition import to_definition
from app.hlink.tables.models import StoredTable

__all__ = ["StoredTable", "to_definition"]
