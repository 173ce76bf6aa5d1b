"""Runs that were lost are started again: whether, when, and from which state.

A run whose ``spec`` has ``recovery`` takes part: ``{"of": ["LOST", "FAILED"], "without_state": false}``. The run that
goes on is written in the transaction in which the old one ends, and what it starts from is looked for when it has its
turn. There are never two copies: a run counts as lost only when its place has lost its memory, and before anything is
started the place is asked once more for all the runs that it stands in for (a cluster that was behind a broken
address may be there again).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.supervisor.models import Run, Savepoint
from app.supervisor.queue import successor_of
from app.supervisor.transitions import Desired, SavepointProgress, State

_OF_THE_FIRST_STATE = ("restore", "restore_exactly", "restore_others")
"""What a spec says of the state that its run goes on from: a run that stands in for it looks for that itself."""
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How often runs of one subject are started again by themselves."""

    most: int = 5
    """Within ``window_s``; 0: never."""
    window_s: float = 600.0
    pause_s: float = 5.0
    """Before the second attempt within the window; it doubles with each further one, up to a minute."""
    grace_s: float = 30.0
    """How long a submission whose submitter died may still arrive."""

    def pause_before(self, attempt: int) -> float:
        """Seconds that attempt number ``attempt`` (from 1) waits."""
        return 0.0 if attempt <= 1 else min(self.pause_s * 2.0 ** min(attempt - 2, 32), _LONGEST_PAUSE_S)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is to become of a run that ended although nobody asked for it."""

    of: frozenset[State]
    """The ends after which it is started again."""
    without_state: bool
    """Also when there is no state that it could go on from."""

    @classmethod
    def in_spec(cls, spec: Mapping[str, Any]) -> Policy:
        asked = spec.get("recovery") or {}
        return cls(frozenset(map(State, asked.get("of", ()))), bool(asked.get("without_state", False)))


def applies_to(run: Run, *, certain: bool) -> bool:
    """Whether a run that has just ended is to be started again.

    ``certain``: it is known that it does not run any more. A lost run of a place that kept its memory has ended in
    one way or another, perhaps because somebody wanted that. A run that failed before it ran was refused, which is
    for whoever wanted it to mend; one that stood in for a run that had run is an attempt that came to nothing.
    """
    if run.desired is not Desired.RUNNING:
        return False
    if run.state is State.FAILED and run.started_at is None:
        return run.recovery is not None and run.submitted_at is not None
    return run.state in Policy.in_spec(run.spec).of and (certain or run.state is not State.LOST)


async def next_run(session: AsyncSession, ended: Run, budget: Budget) -> tuple[Run | None, str]:
    """The run that goes on from one that has ended, not yet added, and words for both; None when that was too often."""
    since = (ended.ended_at or 0) - int(budget.window_s * 1000)
    recent = await session.exec(
        select(func.count()).where(
            Run.subject == ended.subject, col(Run.recovery).is_not(None), col(Run.created_at) > since
        )
    )
    attempt = recent.one() + 1
    window = f"{budget.window_s / 60:g} min"
    if attempt > budget.most:
        tried = f"that was done {budget.most} times within {window}" if budget.most else "that is switched off"
        return None, f"Not started again: {tried}. Find out what ends it, then restart the job"
    pause_s = budget.pause_before(attempt)
    not_before = (ended.ended_at or 0) + int(pause_s * 1000)
    if ended.started_at is None and ended.submitted_at is not None:  # its submission may still be under way
        not_before = max(not_before, ended.submitted_at + int(budget.grace_s * 1000))
    spec = {name: value for name, value in ended.spec.items() if name not in _OF_THE_FIRST_STATE}
    following = successor_of(ended, spec, recovery=attempt, not_before=not_before)
    pause = f", after a pause of {pause_s:g} s" if pause_s else ""
    return following, f"attempt {attempt} of {budget.most} within {window}{pause}"


async def stood_in_for(session: AsyncSession, run: Run) -> Sequence[Run]:
    """The runs in whose place this one is started, the last one first; also a lost one that was to be restarted."""
    found: list[Run] = []
    current = run
    while current.predecessor_id is not None:
        before = await session.get(Run, current.predecessor_id)
        if before is None or (current.recovery is None and before.state is not State.LOST):
            break
        found.append(before)
        current = before
    return found


@dataclass(frozen=True, slots=True)
class Source:
    """A state that a run may have left behind; ``path`` None: its newest checkpoint, wherever that is."""

    run: Run
    path: str | None


async def sources(session: AsyncSession, run: Run) -> Sequence[Source]:
    """What a run that goes on from others may begin with, the best first: those it stands in for, or the one before.

    Of each of those runs the newest checkpoint, then its savepoints, then what it went on from itself. A checkpoint
    comes before a savepoint: its transactions were committed, and what comes before it would be written twice.
    """
    found: list[Source] = []
    runs = list(await stood_in_for(session, run))
    if (first := runs[-1] if runs else run).predecessor_id is not None:
        restarted = await session.get(Run, first.predecessor_id)
        runs += [restarted] if restarted is not None else []
    for one in runs:
        found.append(Source(one, one.checkpoint))
        made = await session.exec(
            select(Savepoint.path)
            .where(Savepoint.run_id == one.id, Savepoint.state == SavepointProgress.COMPLETED)
            .where(col(Savepoint.verified).is_not(False), col(Savepoint.path).is_not(None))
            .order_by(col(Savepoint.id).desc())
        )
        found += [Source(one, path) for path in made]
        began_with = [one.spec.get("restore"), *one.spec.get("restore_others", ())]
        found += [Source(one, path) for path in began_with if path]
    return found


def is_hidden(path: str) -> bool:
    """Whether state that cannot be seen from here may be there all the same: the cluster has file systems of its own.

    A path on this machine's own file system that is not there is gone.
    """
    return "://" in path and not path.startswith("file:")
