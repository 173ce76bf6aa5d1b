"""The audit log for administrators (ours: ``/audit``)."""
