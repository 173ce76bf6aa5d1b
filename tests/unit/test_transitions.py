"""The table of transitions, and the two decisions that are made from it."""

from __future__ import annotations

import pytest

from app.supervisor.transitions import (
    ALLOWED,
    ENDED,
    MAX_ATTEMPTS,
    MAX_ATTEMPTS_TO_GO_ON,
    Desired,
    Seen,
    State,
    Verdict,
    backoff_s,
    following,
    on_unknown_submission,
    sources,
)


def test_every_state_has_its_row_in_the_table() -> None:
    assert set(ALLOWED) == set(State)


def test_nothing_follows_an_end() -> None:
    assert all(not ALLOWED[state] for state in ENDED)


def test_every_other_state_can_come_to_each_end_once_it_was_submitted() -> None:
    assert all(ALLOWED[state] >= ENDED for state in State if state not in ENDED | {State.CREATED})


def test_what_was_never_submitted_cannot_have_run() -> None:
    assert ALLOWED[State.CREATED].isdisjoint({State.RUNNING, State.FINISHED, State.LOST})


def test_sources_are_the_table_read_backwards() -> None:
    assert sources(State.SUBMITTING) == {State.CREATED}
    assert all((state in sources(target)) == (target in ALLOWED[state]) for state in State for target in State)


@pytest.mark.parametrize(
    ("state", "seen", "target"),
    [
        (State.SUBMITTING, Seen.STARTING, None),
        (State.SUBMITTING, Seen.RUNNING, State.RUNNING),
        (State.SUBMITTING, Seen.FAILED, State.FAILED),
        (State.RUNNING, Seen.RUNNING, None),
        (State.RUNNING, Seen.STARTING, State.RESTARTING),
        (State.RUNNING, Seen.RESTARTING, State.RESTARTING),
        (State.RESTARTING, Seen.STARTING, None),
        (State.RESTARTING, Seen.RUNNING, State.RUNNING),
        (State.RUNNING, Seen.STOPPING, State.STOPPING),
        (State.RUNNING, Seen.UNCLEAR, None),
        (State.RUNNING, Seen.UNKNOWN, None),
    ],
)
def test_given_a_state_when_something_is_seen_then_this_follows(state: State, seen: Seen, target: State | None) -> None:
    assert following(state, seen) is target


@pytest.mark.parametrize("seen", [Seen.RUNNING, Seen.RESTARTING, Seen.STARTING])
def test_given_a_stop_under_way_when_the_job_still_runs_then_the_stop_goes_on(seen: Seen) -> None:
    assert following(State.STOPPING, seen) is None


@pytest.mark.parametrize("state", sorted(ENDED))
@pytest.mark.parametrize("seen", list(Seen))
def test_given_an_end_when_anything_is_seen_then_it_stays(state: State, seen: Seen) -> None:
    assert following(state, seen) is None


def _verdict(
    desired: Desired = Desired.RUNNING,
    attempts: int = 1,
    since_attempt_s: float = 100.0,
    same_incarnation: bool = True,
    goes_on: bool = False,
) -> Verdict:
    return on_unknown_submission(
        desired=desired,
        attempts=attempts,
        since_attempt_s=since_attempt_s,
        same_incarnation=same_incarnation,
        goes_on=goes_on,
        grace_s=30.0,
    )


def test_given_no_attempt_when_the_cluster_does_not_know_the_run_then_it_is_submitted() -> None:
    assert _verdict(attempts=0, since_attempt_s=0) is Verdict.SUBMIT


def test_given_no_attempt_and_a_stop_request_then_it_ends_without_being_started() -> None:
    assert _verdict(Desired.STOPPED, attempts=0, since_attempt_s=0) is Verdict.CANCELED


def test_given_an_attempt_when_the_cluster_does_not_know_the_run_then_it_is_submitted_again() -> None:
    assert _verdict(attempts=1, since_attempt_s=2.0) is Verdict.SUBMIT


def test_given_an_attempt_of_a_moment_ago_then_the_next_one_waits() -> None:
    assert _verdict(attempts=2, since_attempt_s=0.5) is Verdict.WAIT


def test_given_an_attempt_when_the_cluster_was_restarted_since_then_it_is_not_run_a_second_time() -> None:
    assert _verdict(same_incarnation=False) is Verdict.LOST


def test_given_a_stop_request_then_a_submission_that_may_still_arrive_is_waited_for() -> None:
    assert _verdict(Desired.STOPPED, since_attempt_s=29.0) is Verdict.WAIT
    assert _verdict(Desired.STOPPED, since_attempt_s=30.0) is Verdict.CANCELED


def test_given_attempts_that_all_led_to_nothing_then_the_run_fails_at_last() -> None:
    assert _verdict(attempts=MAX_ATTEMPTS, since_attempt_s=29.0) is Verdict.WAIT
    assert _verdict(attempts=MAX_ATTEMPTS, since_attempt_s=30.0) is Verdict.FAILED


def test_given_a_run_that_goes_on_from_another_then_it_is_tried_for_longer() -> None:
    assert _verdict(attempts=MAX_ATTEMPTS, goes_on=True) is Verdict.SUBMIT
    assert _verdict(attempts=MAX_ATTEMPTS_TO_GO_ON, since_attempt_s=30.0, goes_on=True) is Verdict.FAILED


def test_waiting_doubles_up_to_a_minute() -> None:
    assert [backoff_s(n) for n in (0, 1, 2, 3, 7, 50)] == [0, 1, 2, 4, 60, 60]
