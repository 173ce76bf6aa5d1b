"""A run's states and what may follow what: data and pure functions, no input or output."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a run is, as far as the service has committed it."""

    CREATED = "CREATED"
    """Written down; nothing has been started."""
    SUBMITTING = "SUBMITTING"
    """Its submission may have begun, or the outside system has it and is still setting it up."""
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    """The outside system is recovering it from a failure by itself."""
    STOPPING = "STOPPING"
    """A stop is under way; it is repeated until it is true."""
    FINISHED = "FINISHED"
    """Ended by itself, or by a stop with savepoint."""
    FAILED = "FAILED"
    """Ended with an error, or refused; there is evidence for it."""
    CANCELED = "CANCELED"
    LOST = "LOST"
    """The outside system answers and does not know it: how it ended cannot be found out."""

    @property
    def ended(self) -> bool:
        return self in ENDED


class Desired(StrEnum):
    """What somebody asked for."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


class StopMode(StrEnum):
    """How to stop, from the gentlest to the hardest."""

    DRAIN = "DRAIN"
    """With a savepoint, after the sources were told that no more will come: windows fire, the job cannot go on."""
    SAVEPOINT = "SAVEPOINT"
    """With a savepoint from which a new run goes on."""
    CANCEL = "CANCEL"
    """At once, without a savepoint."""


class Purpose(StrEnum):
    """Why a savepoint is made."""

    REQUEST = "REQUEST"
    """Somebody asked for one; the run goes on."""
    SCHEDULE = "SCHEDULE"
    """Its time had come; the run goes on."""
    STOP = "STOP"
    RESTART = "RESTART"
    OUTSIDE = "OUTSIDE"
    """Somebody made it without the service: on Flink's own page, or by its command line."""


class SavepointProgress(StrEnum):
    PENDING = "PENDING"
    """It is to be made, or being made."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    REMOVING = "REMOVING"
    """Its files are to be deleted, and may be deleted already: nothing starts from it any more."""
    REMOVED = "REMOVED"


class Seen(StrEnum):
    """What an outside system says of a run, in words that all kinds share."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    STOPPING = "STOPPING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"
    """It answers and does not know the run."""
    UNCLEAR = "UNCLEAR"
    """It answers with a word that we do not know: nothing follows from that."""


_ENDS = frozenset({State.FINISHED, State.FAILED, State.CANCELED, State.LOST})

ENDED: frozenset[State] = _ENDS
"""The states that nothing follows."""

ALLOWED: Mapping[State, frozenset[State]] = {
    # FAILED without submission: what is to be run was refused. CANCELED: stopped before anything was started.
    State.CREATED: frozenset({State.SUBMITTING, State.FAILED, State.CANCELED}),
    State.SUBMITTING: frozenset({State.RUNNING, State.RESTARTING, State.STOPPING}) | _ENDS,
    State.RUNNING: frozenset({State.RESTARTING, State.STOPPING}) | _ENDS,
    State.RESTARTING: frozenset({State.RUNNING, State.STOPPING}) | _ENDS,
    # RUNNING only when a stop with savepoint is given up. What the job does meanwhile is `observed`: see `following`.
    State.STOPPING: _ENDS | {State.RUNNING},
    **{state: frozenset[State]() for state in _ENDS},
}
"""State -> what may follow it. Everything else is refused by the store's guarded UPDATE."""


def sources(target: State) -> frozenset[State]:
    """The states from which ``target`` may be reached."""
    return frozenset(state for state, following in ALLOWED.items() if target in following)


_FOLLOWS_SEEN: Mapping[Seen, State] = {
    Seen.RUNNING: State.RUNNING,
    Seen.RESTARTING: State.RESTARTING,
    Seen.STOPPING: State.STOPPING,
    Seen.FINISHED: State.FINISHED,
    Seen.FAILED: State.FAILED,
    Seen.CANCELED: State.CANCELED,
}


def following(state: State, seen: Seen) -> State | None:
    """The state to go to after an outside system said ``seen``; None to stay.

    UNKNOWN is not answered here: whether it means LOST depends on how long and since which start of the outside
    system (see ``loop``). STARTING after RUNNING is a recovery: Flink sets a recovered job up anew.
    """
    if seen is Seen.STARTING:
        target = State.RESTARTING if state is State.RUNNING else None
    else:
        target = _FOLLOWS_SEEN.get(seen)
    if state is State.STOPPING and target not in ENDED:
        return None  # a stop with savepoint that failed is tried again
    return target if target in ALLOWED[state] else None


class Verdict(StrEnum):
    """What to do with a run in SUBMITTING that a reachable outside system does not know."""

    SUBMIT = "SUBMIT"
    WAIT = "WAIT"
    CANCELED = "CANCELED"
    FAILED = "FAILED"
    LOST = "LOST"


MAX_ATTEMPTS = 3
"""Submissions without a known outcome before a run is given up: a statement that kills every planner ends here."""
MAX_ATTEMPTS_TO_GO_ON = 8
"""The same of a run that goes on from another, for two minutes: it has run before, so it is the moment's fault."""


def on_unknown_submission(
    *,
    desired: Desired,
    attempts: int,
    since_attempt_s: float,
    same_incarnation: bool,
    goes_on: bool,
    grace_s: float,
) -> Verdict:
    """Decide on a run in SUBMITTING that is not known outside and is not being submitted by this process.

    Submitting again is harmless, because the outside system takes an id only once *in its life*. After a restart it
    would take the id again, and the run might be run twice: so that is LOST, and a person decides. Giving up on a
    run that was attempted waits for ``grace_s``, in which a submission of a process that died may still arrive.
    """
    if attempts == 0:
        return Verdict.CANCELED if desired is Desired.STOPPED else Verdict.SUBMIT
    if not same_incarnation:
        return Verdict.LOST
    if desired is Desired.STOPPED:
        return Verdict.CANCELED if since_attempt_s >= grace_s else Verdict.WAIT
    if attempts >= (MAX_ATTEMPTS_TO_GO_ON if goes_on else MAX_ATTEMPTS):
        return Verdict.FAILED if since_attempt_s >= grace_s else Verdict.WAIT
    return Verdict.SUBMIT if since_attempt_s >= backoff_s(attempts) else Verdict.WAIT


MAX_STOPS = 3
"""Attempts to stop a run with a savepoint before that is given up and the run goes on."""


def gives_up_stop(*, mode: StopMode, attempts: int, since_request_s: float, passing: bool, patience_s: float) -> bool:
    """Whether a stop whose latest attempt failed is given up, so that the run goes on as before.

    ``passing``: it failed because not all tasks run at the moment, which a recovery or a slow start mends by itself;
    that is waited for as long as ``patience_s`` lasts. A cancellation is never given up.
    """
    if mode is StopMode.CANCEL or attempts < MAX_STOPS:
        return False
    return not passing or since_request_s >= patience_s


def backoff_s(attempts: int, longest_s: float = 60.0) -> float:
    """How long to wait after that many attempts: 0, 1, 2, 4, ... seconds."""
    return 0.0 if attempts <= 0 else min(longest_s, 2.0 ** (attempts - 1))
