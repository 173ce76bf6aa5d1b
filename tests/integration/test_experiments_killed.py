"""Graph runs killed at random moments: the short form of ``python -m tests.experiments_killed``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.experiments_killed import prove


# Of the two databases the one that replicas share; the long form takes both.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_given_runs_that_are_killed_at_random_then_their_status_is_true_and_each_can_be_run_to_its_end(
    tmp_path: Path, database_url: str
) -> None:
    found = await prove(tmp_path / "service", database_url, 4, 2, print)

    print(json.dumps(found.summary()))
    assert found.all == []
    assert found.runs >= 4
