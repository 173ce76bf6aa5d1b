"""What a running job's figures say: whether it lags, flaps, or makes no checkpoints."""

from __future__ import annotations

import time

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from app.database import Database, now_ms
from app.hlink.notifications import troubles
from app.hlink.notifications.models import Kind, Target, Trouble
from app.hlink.notifications.troubles import News
from app.hlink.watch.figures import Figures
from app.hlink.watch.jobs import Watched
from app.settings import Settings
from stream_jobs.rest import Checkpoints, Clusters

_READ_FOR_S = 10.0


class Judge:
    """Begins and ends troubles as figures come. What it knows stands in the database: another replica goes on from it.

    Most figures are in order, and those cost neither a transaction nor a request.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._open: set[tuple[int, Kind]] = set()
        self._anybody = False
        self._read_at = float("-inf")
        self._restarts: dict[int, int] = {}
        """Run -> Flink's count of its restarts when it was looked at last."""
        self._failed: dict[int, int] = {}
        """Run -> Flink's count of its failed checkpoints when its checkpoints were looked at last."""

    async def __call__(self, job: Watched, figures: Figures, clusters: Clusters) -> None:
        """Judge figures that have just come. Raises :class:`~stream_jobs.rest.FlinkRestError`."""
        await self._read()
        if self._anybody:
            await self._judge_lag(job, figures)
            await self._judge_restarts(job, figures)
            await self._judge_checkpoints(job, figures, clusters)

    async def _read(self) -> None:
        if time.monotonic() - self._read_at < _READ_FOR_S:
            return
        async with self._database.read() as session:
            targets = await session.exec(select(Target.id).where(Target.del_flag == 1).limit(1))
            self._anybody = targets.first() is not None
            lasting = await session.exec(select(Trouble.job_id, Trouble.kind).where(col(Trouble.over_at).is_(None)))
            self._open = {(job_id, Kind(kind)) for job_id, kind in lasting}
        self._read_at = time.monotonic()

    async def _judge_lag(self, job: Watched, figures: Figures) -> None:
        behind = {source: count for source, count in figures.lag.items() if count > self._settings.lag_records}
        if not behind:
            if figures.lag:
                await self._end(job, Kind.LAGGING)
            return
        shown = ", ".join(f"{count:,} records of {source}" for source, count in sorted(behind.items()))
        await self._begin(
            job,
            Kind.LAGGING,
            f"It has not read {shown} yet, and had more than {self._settings.lag_records:,} before it for "
            f"{self._settings.lag_for_s:g} s: raise its parallelism, look at its back-pressure, or feed it less.",
            after_s=self._settings.lag_for_s,
        )

    async def _judge_restarts(self, job: Watched, figures: Figures) -> None:
        count = figures.restarts
        if count is None:
            return
        before = self._restarts.get(job.run_id, count)
        self._restarts[job.run_id] = count
        if count == before and (job.job_id, Kind.FLAPPING) not in self._open:
            return
        window_s = self._settings.flapping_window_s
        within = await self._restarts_within(job, before, count, window_s)
        if within >= self._settings.flapping_restarts:
            await self._begin(
                job,
                Kind.FLAPPING,
                f"Flink has restarted it {within} times within {window_s:g} s: the last exceptions are in its log "
                f"(/jobs/{job.job_id}/log).",
            )
        elif within == 0:
            await self._end(job, Kind.FLAPPING)

    async def _restarts_within(self, job: Watched, before: int, count: int, window_s: float) -> int:
        """How often it was restarted within the window, by the counts that were noted, in which this one is now."""
        async with self._database.write() as session:
            now = (await session.exec(select(now_ms()))).one()
            row = await troubles.suspect(session, Kind.FLAPPING, job.job_id, job.run_id, now)
            noted = [tuple(one) for one in row.restarts] or [(0, before)]
            if count < noted[-1][1]:  # another run, which counts anew
                noted = [(0, 0)]
            if count > noted[-1][1]:
                noted.append((now, count))
            begins = now - int(window_s * 1000)
            base = max((one for one in noted if one[0] < begins), default=noted[0])
            # The count before the window is kept, as its beginning.
            row.restarts = [[0, base[1]], *([at, seen] for at, seen in noted if at >= begins)]
            self._open.add((job.job_id, Kind.FLAPPING))
            return count - base[1]

    async def _judge_checkpoints(self, job: Watched, figures: Figures, clusters: Clusters) -> None:
        failed = figures.checkpoints_failed
        open_ = (job.job_id, Kind.CHECKPOINTS_FAILING) in self._open
        if failed is None or (not open_ and failed == self._failed.get(job.run_id, 0)):
            return
        found = await clusters.at(job.address).checkpoints(job.flink_job_id)
        self._failed[job.run_id] = failed
        in_a_row, why = failed_in_a_row(found)
        if in_a_row >= self._settings.failed_checkpoints:
            await self._begin(
                job,
                Kind.CHECKPOINTS_FAILING,
                f"The last {in_a_row} checkpoints failed: {why or 'Flink gives no reason'}. Were it to fail now, it "
                "would go on from an older state: look at its back-pressure, at checkpointTimeout, and at the folder "
                "of the checkpoints.",
            )
        elif in_a_row == 0 and open_:
            await self._end(job, Kind.CHECKPOINTS_FAILING)

    async def _begin(self, job: Watched, kind: Kind, text: str, after_s: float = 0.0) -> None:
        again_ms = int(self._settings.notify_again_s * 1000)
        try:
            async with self._database.write() as session:
                now = (await session.exec(select(now_ms()))).one()
                trouble = await troubles.suspect(session, kind, job.job_id, job.run_id, now)
                if now - trouble.since >= after_s * 1000 and troubles.is_to_be_told(trouble, now, again_ms):
                    await troubles.write(session, [News(kind, kind, job.job_id, job.name, text, now)])
        except IntegrityError:
            return  # the replica that held the run before began it at the same moment
        self._open.add((job.job_id, kind))

    async def _end(self, job: Watched, kind: Kind) -> None:
        if (job.job_id, kind) not in self._open:
            return
        async with self._database.write() as session:
            now = (await session.exec(select(now_ms()))).one()
            over = await troubles.end(session, job.job_id, [kind], now)
            await troubles.write(session, [troubles.recovered(one, job.job_id, job.name, now) for one in over])
        self._open.discard((job.job_id, kind))


def failed_in_a_row(checkpoints: Checkpoints) -> tuple[int, str | None]:
    """How many of the newest checkpoints failed, up to the newest complete one; and why the last of them did.

    Flink remembers ten (``web.checkpoints.history``). Savepoints do not count, and neither does one under way.
    """
    count, why = 0, None
    for one in sorted(checkpoints.history, key=lambda one: one.id, reverse=True):
        if one.is_savepoint or one.status == "IN_PROGRESS":
            continue
        if one.status != "FAILED":
            break
        count += 1
        why = why or one.failure_message
    return count, why
