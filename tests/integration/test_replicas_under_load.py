"""Two replicas under load, one of them killed: the short form of ``python -m tests.replicas_under_load``."""

from __future__ import annotations

import json
from pathlib import Path

from stream_jobs.local.endpoints import Endpoints
from tests.replicas_under_load import TAKEOVER_S, load


def test_given_two_replicas_when_one_is_killed_under_load_then_nothing_is_doubled_and_every_answer_is_true(
    endpoints: Endpoints, tmp_path: Path
) -> None:
    found = load(endpoints.postgres, tmp_path, seconds=25, kill_every_s=20)

    print(json.dumps(found))
    assert found["violations"] == []
    assert found["doubled"] == []
    assert (found["kills"], found["takeovers"]) == (1, 1), "the one that is killed holds runs"
    assert found["slowest_takeover_s"] <= TAKEOVER_S
    assert found["submissions"] > 0
