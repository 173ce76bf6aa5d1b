"""Named faults on a stack of their own, while jobs run: afterwards all runs, once, and every row has counted once.

``make chaos`` does the same at random, for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.chaos import faults
from tests.chaos.stage import Stage, prepared

_PATIENCE_S = 60.0
"""How long the API may contradict Flink: here the machine is busy with other tests."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("chaos") / "home"
    with prepared(home, 1, print, replicas=1, patience_s=_PATIENCE_S) as made:
        yield made


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "fault",
    [
        faults.kill_taskmanager,
        faults.kill_jobmanager,
        faults.kill_broker,
        lambda stage: faults.crash_service(stage, "stop.asked"),
    ],
    ids=["taskmanager", "jobmanager", "broker", "service at stop.asked"],
)
def test_given_jobs_that_run_when_something_is_killed_then_all_runs_again_with_right_results(
    stage: Stage, fault: Callable[[Stage], str]
) -> None:
    print(fault(stage))
    stage.until_all_is_well()
    stage.check()

    assert stage.watcher.findings.all == []


@pytest.mark.timeout(900)
def test_given_all_those_faults_then_every_row_has_counted_once_in_the_end(stage: Stage) -> None:
    stage.check_at_the_end()

    assert len(stage.works.rows.rows) > 0
    assert stage.watcher.findings.all == []
