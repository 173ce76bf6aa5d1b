"""Runners: one for each kind of place where something can run. Nothing else differs between kinds of work."""
