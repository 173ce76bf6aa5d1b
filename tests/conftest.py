"""What all tests share."""

import os

import pytest

# The names by which tests call a service in their own process. Without a token a service answers to known names only.
os.environ.setdefault("HLINK_ALLOWED_HOSTS", "hlink, service, s")

# Servers that live for minutes: the thorough compiler would not pay in that time what it costs.
os.environ.setdefault("HLINK_STACK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

_LONGEST_FIRST = (
    "test_edits",
    "test_submission_faults",
    "test_chaos",
    "test_state_machine_on_postgresql",
    "test_lost_and_queued_jobs",
    "test_stack",
    "test_functions",
    "test_watch",
    "test_replicas_under_load",
    "test_state_machine",
    "test_hostile",
    "test_messages",
    "test_connectors",
    "test_impact",
    "test_state",
)
"""Files that take minutes come first, so that none is begun when the other workers have nothing left to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
