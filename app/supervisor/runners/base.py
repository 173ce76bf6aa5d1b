"""What the supervisor asks of a runner, and what a runner may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.supervisor.models import Run
from app.supervisor.transitions import Seen, StopMode


class SubmissionRefused(Exception):
    """Definite: nothing was started, and the same submission would be refused again. The message says why."""


class AlreadySubmitted(Exception):
    """The outside system has had a submission with this external id; ours, because ids are chosen by us."""


class SubmissionUncertain(Exception):
    """It is not known whether something was started: a time-out, or whoever submitted died half way."""


class Unreachable(Exception):
    """The outside system did not answer. Nothing follows from that about its runs."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the outside system said of one run. None means "not looked at", never "nothing there"."""

    seen: Seen
    raw: str
    """Its own word, for people."""
    incarnation: str | None = None
    """Which life of the outside system said so; at least given with UNKNOWN, if it can be had at all."""
    exception: str | None = None
    checkpoint: str | None = None
    checkpoint_at: int | None = None
    savepoint: str | None = None
    restarts: int | None = None
    tasks_running: int | None = None
    tasks_total: int | None = None
    latest_savepoint: str | None = None
    """Where the newest savepoint is, whoever asked for it."""
    stopped_by_savepoint: bool = False
    """Whether the run ended by that savepoint."""


class Outcome(StrEnum):
    UNDER_WAY = "UNDER_WAY"
    """Accepted; asking again, or observing, will show its end."""
    DONE = "DONE"
    """The savepoint is complete."""
    FAILED = "FAILED"
    """This attempt came to nothing and the run goes on: the next attempt needs a new token."""


@dataclass(frozen=True, slots=True)
class Report:
    """How far one attempt to stop, or to make a savepoint, has come."""

    outcome: Outcome
    savepoint: str | None = None
    cause: str | None = None
    passing: bool = False
    """Whether a failure was one of the moment only: the run was not yet fully there."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a savepoint's or checkpoint's own files say of it."""

    complete: bool | None
    """Whether its metadata can be read and all files that it names are there; None when that cannot be told here."""
    reason: str | None = None
    """Why it is not, or cannot be told to be, complete."""
    size: int | None = None
    """Bytes of state."""
    checkpoint_id: int | None = None
    """Its place in the order of all checkpoints and savepoints of its run."""
    made_with: str | None = None
    """The version of the outside system; None where that was not to be learnt."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many slots a place has, as it said at ``asked_at`` (monotonic seconds, before it was asked)."""

    free: int
    total: int
    asked_at: float
    holders: Mapping[str, str] | None = None
    """External id -> name of what holds slots there; None when that was not asked for."""


@dataclass(frozen=True, slots=True)
class LeftState:
    """A state that a run left behind."""

    path: str
    complete: bool | None
    """As in :class:`Inspection`."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """A piece of a run's log, and the offset at which the next piece begins."""

    text: str
    next_offset: int


class Runner(Protocol):
    """All calls may be repeated, and by another replica: each must have the same effect as once.

    All raise :class:`Unreachable` when the outside system does not answer.
    """

    def place(self, run: Run) -> str:
        """The outside system that answers for this run, for instance a cluster's address. Pure."""

    async def start(self, run: Run) -> None:
        """Start it under ``run.external_id``, which makes a second start of the same run harmless.

        Raises :class:`SubmissionRefused`, :class:`AlreadySubmitted` or :class:`SubmissionUncertain`;
        :class:`Unreachable` when nothing was sent.
        """

    async def incarnation(self, run: Run) -> str | None:
        """Which life of the outside system answers for this run now; None where that cannot be told."""

    async def observe(self, runs: Sequence[Run]) -> Mapping[int, Observation]:
        """Look at runs of one place with one request. Run id -> observation; a run left out is looked at next time."""

    async def stop(self, run: Run, mode: StopMode) -> Report:
        """Begin the attempt named ``run.stop_token``, or say how far it has come."""

    async def savepoint(self, run: Run, token: str, *, native: bool) -> Report:
        """Begin the savepoint of that token, after which the run goes on, or say how far it has come."""

    async def inspect(self, run: Run, path: str) -> Inspection:
        """Look into the files of a savepoint or checkpoint. Never raises for what is wrong with them."""

    async def find_savepoint(self, run: Run, token: str) -> str | None:
        """Where the whole savepoint of that token is, found without the outside system's memory; None without one."""

    async def dispose(self, run: Run, path: str, token: str) -> Report:
        """Delete the files of the savepoint of that token; DONE also when they are not there."""

    async def room(self, run: Run) -> Room | None:
        """The room at the run's place, with who holds the slots if the run has none; None where nothing is counted."""

    async def left_state(self, run: Run, path: str | None) -> LeftState | None:
        """What is at ``path``: for a checkpoint the newest whole one of the same run.

        ``path`` None: the newest whole checkpoint of the run, or None without one.
        """

    async def tail(self, run: Run, offset: int) -> Tail:
        """The run's log from ``offset`` on."""
