"""What must hold of runs, savepoints and jobs whatever happens: each promise is one function.

``ALWAYS`` holds at every moment, under every fault. ``AT_REST`` holds a while after the last fault, when the cluster
answers and at least one replica lives. A broken one raises ``AssertionError``, which says of what and how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.supervisor import Desired, Event, Run, Savepoint, SavepointProgress, State
from app.supervisor.recovery import Policy
from app.supervisor.runners.flink import SEEN
from app.supervisor.transitions import ALLOWED, Seen
from tests.fake_flink import BACK, GONE, FakeFlink


@dataclass(frozen=True)
class Facts:
    """What the service has committed, and what is true outside, at one moment."""

    runs: Sequence[Run]
    """Oldest first."""
    events: Mapping[int, Sequence[Event]]
    """By run, oldest first."""
    savepoints: Sequence[Savepoint]
    flink: FakeFlink

    @property
    def newest(self) -> Mapping[str, Run]:
        """Subject -> its newest run."""
        return {run.subject: run for run in self.runs}


# At every moment


def never_two_live_copies(facts: Facts) -> None:
    """A subject's job starts on Flink only when its job before has ended.

    Only Flink itself may bring back one that was gone, whatever has been started meanwhile.
    """
    live: dict[str, str] = {}
    back: set[str] = set()
    for entry in facts.flink.ledger:
        job = entry.job
        if entry.what == BACK:
            back.add(job.id)
            live.setdefault(job.subject, job.id)
        elif entry.what == "started":
            assert live.get(job.subject) in (None, *back), (
                f"{job.subject}: {job.id} was started while {live[job.subject]} ran"
            )
            live[job.subject] = job.id
        elif live.get(job.subject) == job.id and entry.what in _OVER:
            del live[job.subject]


def a_run_is_run_once(facts: Facts) -> None:
    """Flink gets a run at most once, also over restarts of the cluster."""
    times = Counter(entry.job.id for entry in facts.flink.ledger if entry.what == "started")
    again = [job_id for job_id, count in times.items() if count > 1]
    assert not again, f"started more than once: {again}"


def nothing_unknown_runs(facts: Facts) -> None:
    """Every job on Flink is a run that was committed before it was submitted."""
    known = {run.external_id for run in facts.runs}
    unknown = [job.id for job in facts.flink.jobs.values() if job.id not in known]
    assert not unknown, f"Flink has jobs that the database does not know: {unknown}"


def what_has_ended_does_not_run(facts: Facts) -> None:
    """A run that the service calls ended is not live on Flink, whatever the end is called.

    One that was lost may be there again; it is looked for.
    """
    live = {job.id: job.state for job in facts.flink.live()}
    for run in facts.runs:
        if run.state.ended and not _is_looked_for(run):
            assert run.external_id not in live, (
                f"{_name(run)} is {run.state} ({run.reason}), and Flink has it as {live[run.external_id]}"
            )


def a_failure_has_evidence(facts: Facts) -> None:
    """FAILED is said of a job that Flink has running or ended otherwise, never; LOST only of one it does not know."""
    ends = {entry.job.id: entry.what for entry in facts.flink.ledger if entry.what in _OVER}
    for run in facts.runs:
        end, job = ends.get(run.external_id), facts.flink.jobs.get(run.external_id)
        if run.state is State.LOST and not _is_looked_for(run) and not _is_told(facts, run, _NOT_WANTED):
            assert job is None or job.forgotten, f"{_name(run)} is LOST ({run.reason}), Flink has it as {job.state}"
        if run.state in (State.FINISHED, State.CANCELED) and end is not None:
            assert end == run.state or end == GONE, f"{_name(run)} is {run.state}, on Flink it ended as {end}"
        if run.state is State.FAILED:
            assert end in (None, "FAILED", GONE), f"{_name(run)} is FAILED, on Flink it ended as {end}"


def states_follow_the_table(facts: Facts) -> None:
    """A run's states are those that ``transitions.ALLOWED`` lets follow each other, and its events tell each one."""
    for run in facts.runs:
        told = [event.state for event in facts.events.get(run.id, ())]
        assert told, f"{_name(run)}: no event"
        assert told[0] is State.CREATED, f"{_name(run)} begins as {told[0]}"
        for before, after in pairwise(told):
            assert before is after or after in ALLOWED[before], f"{_name(run)}: {before} -> {after}"
        assert told[-1] is run.state, f"{_name(run)} is {run.state}, its events end with {told[-1]}"


def a_subject_has_one_active_run(facts: Facts) -> None:
    active = Counter(run.subject for run in facts.runs if not run.state.ended)
    twice = [subject for subject, count in active.items() if count > 1]
    assert not twice, f"more than one active run: {twice}"


def a_complete_savepoint_is_there(facts: Facts) -> None:
    """What the service calls a complete savepoint, and does not remove, is whole and stays."""
    for savepoint in facts.savepoints:
        if savepoint.state is SavepointProgress.COMPLETED and getattr(savepoint, "removal", None) is None:
            kept = facts.flink.disk.get(savepoint.path or "")
            assert kept is not None, f"savepoint {savepoint.path} of {savepoint.subject} is not there"
            assert kept.whole, f"savepoint {savepoint.path} of {savepoint.subject} is not whole"
            assert kept.job.subject == savepoint.subject, f"savepoint {savepoint.path} is of {kept.job.subject}"


def a_restart_goes_on_from_the_last_state(facts: Facts) -> None:
    """The run that follows one that was stopped goes on from that stop's savepoint: the state in which it stopped.

    One that follows a run that failed or was lost goes on from a checkpoint of it, from a savepoint of the subject, or
    from where that run went on from.
    """
    by_id = {run.id: run for run in facts.runs}
    for run in facts.runs:
        before = by_id.get(run.predecessor_id or 0)
        if before is None:
            continue
        assert before.state.ended, f"{_name(run)} follows {_name(before)}, which is {before.state}"
        restore = run.spec.get("restore")
        if _is_told(facts, run, _ADOPTED):
            continue
        if run.recovery is not None:
            _check_recovery(facts, run, before)
            continue
        if before.state is State.FINISHED:
            assert before.savepoint, f"{_name(run)} follows {_name(before)}, which ended without a savepoint"
            assert restore == before.savepoint, f"{_name(run)} goes on from {restore}, not from {before.savepoint}"
            continue
        made = {savepoint.path for savepoint in facts.savepoints if savepoint.subject == run.subject}
        assert restore or not (before.checkpoint or before.savepoint), f"{_name(run)} begins from nothing"
        own = f"/checkpoints/{before.external_id}/"
        # Only one that made no checkpoint, noted or not, left behind what it went on from itself.
        inherited = restore == before.spec.get("restore") and not any(own in path for path in facts.flink.disk)
        assert restore is None or restore in made or inherited or own in restore, (
            f"{_name(run)} follows {_name(before)} and goes on from {restore}"
        )


def _check_recovery(facts: Facts, run: Run, before: Run) -> None:
    policy = Policy.in_spec(before.spec)
    refused = before.recovery is not None and before.state is State.FAILED and before.started_at is None
    restarted = before.successor is not None
    assert before.state in policy.of or refused or restarted, (
        f"{_name(run)} follows {_name(before)}, {before.state}, by itself"
    )
    assert before.desired is Desired.RUNNING or restarted, (
        f"{_name(run)} was started again, and {_name(before)} was to stop"
    )
    restore, begun = run.spec.get("restore"), run.state is not State.CREATED and run.attempts > 0
    if begun and restore is None:
        assert policy.without_state, f"{_name(run)} was started again without state"
    if restore is not None:
        own = {f"/checkpoints/{one.external_id}/" for one in facts.runs if one.subject == run.subject}
        made = {savepoint.path for savepoint in facts.savepoints if savepoint.subject == run.subject}
        assert restore in made or any(folder in restore for folder in own), f"{_name(run)} goes on from {restore}"


# When everything is well again


def what_is_desired_is_so(facts: Facts) -> None:
    """What is to run runs or has ended, and says why; what is to stop has stopped."""
    live = {job.id: job.state for job in facts.flink.live()}
    for run in facts.runs:
        if run.state.ended:
            assert run.reason or run.state is not State.LOST, f"{_name(run)} is {run.state} without a reason"
            continue
        assert run.desired is Desired.RUNNING, f"{_name(run)} is to stop and is {run.state}: {run.reason}"
        assert live.get(run.external_id) == "RUNNING", (
            f"{_name(run)} is to run, is {run.state} ({run.reason}), and Flink has it as {live.get(run.external_id)}"
        )


def the_status_is_flinks(facts: Facts) -> None:
    """The service says of every run what Flink says of its job."""
    jobs = {job.id: job for job in facts.flink.jobs.values() if not job.forgotten}
    for run in facts.runs:
        job = jobs.get(run.external_id)
        if job is None:
            assert run.state.ended, f"{_name(run)} is {run.state}, and Flink does not know it"
            continue
        if run.state is State.LOST and _is_told(facts, run, _NOT_WANTED):
            assert not job.is_live, f"{_name(run)} came back, is not wanted and is {job.state}"
            continue
        seen = SEEN[job.state]
        expected = State.RUNNING if seen is Seen.RUNNING else State(seen)
        assert run.state is expected, f"{_name(run)} is {run.state} ({run.reason}), on Flink it is {job.state}"


def nothing_runs_that_is_not_wanted(facts: Facts) -> None:
    """Every job on Flink is that of a run that is to run."""
    wanted = {run.external_id for run in facts.runs if not run.state.ended}
    for job in facts.flink.live():
        assert job.id in wanted, f"{job.subject}: {job.id} is {job.state} on Flink, and no run has it"


def what_was_lost_goes_on(facts: Facts) -> None:
    """A run that was lost with its JobManager has a successor when its policy says so, or says why it has none."""
    gone = {entry.job.id for entry in facts.flink.ledger if entry.what == GONE}
    for run in facts.newest.values():
        if run.state is State.LOST and run.external_id in gone and State.LOST in Policy.in_spec(run.spec).of:
            assert run.desired is Desired.STOPPED or _is_told(facts, run, _GIVEN_UP), (
                f"{_name(run)} was lost ({run.reason}) and is not started again"
            )


def every_savepoint_is_settled(facts: Facts) -> None:
    """Each has failed with a reason, or is complete and was looked into."""
    for savepoint in facts.savepoints:
        name = f"savepoint {savepoint.token} ({savepoint.purpose}) of {savepoint.subject}"
        assert savepoint.state is not SavepointProgress.PENDING, f"{name} is pending for ever"
        if savepoint.state is not SavepointProgress.FAILED:
            assert savepoint.verified is True, f"{name} is complete and verified: {savepoint.verified}"
        else:
            assert savepoint.reason, f"{name} failed without a reason"


def a_stop_with_savepoint_has_one(facts: Facts) -> None:
    """A run that ended by a stop with savepoint, under Flink's eyes, says where it is, also when a cancel came after.

    Such a stop takes the checkpoints away: the savepoint is all that is left of the state.
    """
    jobs = {job.id: job for job in facts.flink.jobs.values()}
    for run in facts.runs:
        if run.state is not State.FINISHED:
            continue
        made = [
            path
            for path, kept in facts.flink.disk.items()
            if kept.whole and kept.job.id == run.external_id and run.stop_token and run.stop_token in path
        ]
        job = jobs.get(run.external_id)
        if made and job is not None and not job.forgotten:
            assert run.savepoint in made, f"{_name(run)} was stopped with {made}, and says {run.savepoint}"


ALWAYS = (
    never_two_live_copies,
    a_run_is_run_once,
    nothing_unknown_runs,
    what_has_ended_does_not_run,
    a_failure_has_evidence,
    states_follow_the_table,
    a_subject_has_one_active_run,
    a_complete_savepoint_is_there,
    a_restart_goes_on_from_the_last_state,
)

AT_REST = (
    what_is_desired_is_so,
    the_status_is_flinks,
    nothing_runs_that_is_not_wanted,
    what_was_lost_goes_on,
    every_savepoint_is_settled,
    a_stop_with_savepoint_has_one,
)

_OVER = ("FINISHED", "FAILED", "CANCELED", GONE)
_ADOPTED = "nothing was started"
_NOT_WANTED = "is not wanted any more"
_GIVEN_UP = "Not started again"
"""Words of events."""


def _is_told(facts: Facts, run: Run, words: str) -> bool:
    return any(words in (event.message or "") for event in facts.events.get(run.id, ()))


def _is_looked_for(run: Run) -> bool:
    return run.state is State.LOST and run.look_again_at is not None


def _name(run: Run) -> str:
    return f"run {run.id} of {run.subject} ({run.external_id[:8]})"
