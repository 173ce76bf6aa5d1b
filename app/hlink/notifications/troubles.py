"""When a trouble is told of, when it is over, and to whom both are written. In the caller's transaction.

A trouble is told of once until it is over; one that lasts, or comes back before it is over, again after a while.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.hlink.notifications.models import Kind, Notification, Target, Trouble

_TOGETHER = 5
"""So many of a kind at once become one message: a cluster that is lost takes all of its jobs with it."""
_NAMED_TOGETHER = 50
_LONGEST_TEXT = 4000

_HEADLINES = {
    Kind.FAILED: ("failed", "failed"),
    Kind.LOST: ("was lost", "were lost"),
    Kind.FLAPPING: ("is restarted again and again", "are restarted again and again"),
    Kind.LAGGING: ("is lagging", "are lagging"),
    Kind.CHECKPOINTS_FAILING: ("makes no checkpoints", "make no checkpoints"),
    Kind.RECOVERED: ("has recovered", "have recovered"),
}
"""What is said of one job, and of several."""
_OVER = {
    Kind.FAILED: "It runs again, after it had failed.",
    Kind.LOST: "It runs again, after it had been lost.",
    Kind.FLAPPING: "It has not been restarted for a while.",
    Kind.LAGGING: "It has come up with its sources.",
    Kind.CHECKPOINTS_FAILING: "Its checkpoints are complete again.",
}


@dataclass(frozen=True, slots=True)
class News:
    """Something to tell of a job. ``of`` is the trouble: ``kind``, or what a RECOVERED job has recovered from."""

    kind: Kind
    of: Kind
    job_id: int
    job: str
    text: str
    at: int
    """Milliseconds since 1970."""

    @property
    def title(self) -> str:
        return f"Job '{self.job}' {_HEADLINES[self.kind][0]}"

    @property
    def body(self) -> str:
        return f"{self.text[:_LONGEST_TEXT]}\n\nJob {self.job_id}"


def recovered(of: Kind, job_id: int, job: str, at: int) -> News:
    """The news that a trouble is over."""
    return News(Kind.RECOVERED, of, job_id, job, _OVER[of], at)


async def suspect(session: AsyncSession, kind: Kind, job_id: int, run_id: int, now: int) -> Trouble:
    """The job's row of this kind, as it is or begun now; held against other changes until the transaction ends."""
    row = await session.get(Trouble, (job_id, kind), with_for_update=True)
    if row is None:
        row = Trouble(job_id=job_id, kind=kind, run_id=run_id, since=now, restarts=[])
        session.add(row)
        await session.flush()
    elif row.over_at is not None:
        row.since, row.told_at, row.over_at = now, None, None
    row.run_id = run_id
    return row


def is_to_be_told(trouble: Trouble, now: int, again_ms: int) -> bool:
    """Whether it is told of now; noted on the row."""
    if trouble.told_at is not None and now - trouble.told_at < again_ms:
        return False
    trouble.told_at = now
    return True


async def end(session: AsyncSession, job_id: int, kinds: Iterable[Kind], now: int) -> list[Kind]:
    """End the job's troubles of these kinds; those that had been told of."""
    rows = await session.exec(
        select(Trouble)
        .where(Trouble.job_id == job_id, col(Trouble.kind).in_(list(kinds)), col(Trouble.over_at).is_(None))
        .with_for_update()
    )
    told = []
    for row in rows:
        row.over_at = now
        row.restarts = []
        if row.told_at is not None:
            told.append(row.kind)
    return told


async def write(session: AsyncSession, news: Sequence[News]) -> None:
    """Write down what is to be sent to whom."""
    if not news:
        return
    for target in (await session.exec(select(Target).where(Target.del_flag == 1))).all():
        by_kind: defaultdict[Kind, list[News]] = defaultdict(list)
        for one in news:
            if wants(target, one):
                by_kind[one.kind].append(one)
        for kind, those in by_kind.items():
            for title, body, job_ids in _messages(kind, those):
                session.add(Notification(target_id=target.id, kind=kind, job_ids=job_ids, title=title, body=body))


def wants(target: Target, news: News) -> bool:
    """Whether a target is told of it. One that is not told of a trouble is not told that it is over, either."""
    return (
        news.at >= (target.since or 0)
        and (not target.jobs or news.job_id in target.jobs)
        and (not target.kinds or {news.kind, news.of} <= set(target.kinds))
    )


def _messages(kind: Kind, news: Sequence[News]) -> Iterable[tuple[str, str, list[int]]]:
    if len(news) <= _TOGETHER:
        return [(one.title, one.body, [one.job_id]) for one in news]
    lines = [f"{one.job}: {one.text.splitlines()[0][:200] if one.text else ''}" for one in news[:_NAMED_TOGETHER]]
    if len(news) > len(lines):
        lines.append(f"and {len(news) - len(lines)} more")
    return [(f"{len(news)} jobs {_HEADLINES[kind][1]}", "\n".join(lines), [one.job_id for one in news])]
