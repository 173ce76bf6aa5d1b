"""Who is told when something is wrong with a job (ours: ``/notifications``)."""
