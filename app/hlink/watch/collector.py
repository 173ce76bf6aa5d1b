"""Figures of the jobs whose runs this replica holds, collected in the background, never by a scrape.

Each cluster is asked one request at a time and no faster than the settings allow, whatever that makes of the round; a
cluster that does not answer is left alone until the next one. What the supervisor sees of its runs does not wait for
this: it has connections' turns of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app import metrics
from app.background import repeated
from app.hlink.watch.figures import Figures, Names, figures_of, names_of
from app.hlink.watch.jobs import Jobs, Watched, watched
from app.metrics import Sample
from app.service import Service
from app.supervisor import State
from stream_jobs.rest import Clusters, ClusterUnreachable, FlinkRestError

logger = logging.getLogger(__name__)

Judge = Callable[[Watched, Figures, "Clusters"], Awaitable[None]]
"""Is told of each job's figures as they come."""

_MEASURED = (State.RUNNING, State.RESTARTING, State.STOPPING)


_SETTLING_S = 60.0
_KNOWN_FOR_S = 600.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """The names of a run's metrics, when they were asked for first and last (monotonic seconds)."""

    names: Names
    first: float
    last: float

    def is_new(self, now: float) -> bool:
        """Whether they need not be asked for again: an operator has some metrics only when it has something to do."""
        return now - self.last < (_KNOWN_FOR_S if self.last - self.first > _SETTLING_S else 0)


class _Over(Exception):
    """The service ends."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one run, and when they came, in seconds since 1970."""

    figures: Figures
    at: float


class Collector:
    """Collects figures round by round; :attr:`known` has the newest of each run."""

    def __init__(self, service: Service, clusters: Clusters, judge: Judge | None = None) -> None:
        self._service = service
        self._clusters = clusters
        self._judge = judge
        self._names: dict[str, _Asked] = {}
        self._rounds: dict[str, asyncio.Task[None]] = {}
        self.known: dict[int, Measured] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Collect while the block lasts; not at all when the settings say so."""
        every_s = self._service.settings.figures_s
        if every_s == 0:
            yield
            return
        try:
            async with repeated("figures of jobs", every_s, self.step):
                yield
        finally:
            if self._rounds:
                await asyncio.wait(self._rounds.values())
            metrics.JOBS.replace(())

    async def step(self, over: asyncio.Event) -> None:
        """Begin a round at each cluster whose last one has ended, wait a while for their ends, and publish."""
        settings = self._service.settings
        async with self._service.database.read() as session:
            jobs = await watched(session, self._service.supervisor.owner, settings.figures_jobs)
        places: dict[str, list[Watched]] = {}
        for job in jobs.held:
            if job.state in _MEASURED:
                places.setdefault(job.address, []).append(job)
        self._forget(jobs.held)
        for address, there in places.items():
            if address not in self._rounds:
                task = asyncio.create_task(self._round(address, there, over), name=f"figures of {address}")
                self._rounds[address] = task
                task.add_done_callback(lambda _, address=address: self._rounds.pop(address, None))  # type: ignore[misc]
        if self._rounds:
            await asyncio.wait(self._rounds.values(), timeout=settings.figures_s)
        metrics.JOBS_LEFT_OUT.set(jobs.left_out)
        metrics.JOBS.replace(samples(jobs, self.known))

    async def _round(self, address: str, jobs: Sequence[Watched], over: asyncio.Event) -> None:
        turn = self._turns(over)
        for job in jobs:
            try:
                await self._look_at(job, turn)
            except _Over:
                return
            except ClusterUnreachable:
                metrics.FIGURE_REQUESTS.labels("unreachable").inc()
                return
            except FlinkRestError as error:  # it has ended, or its graph is another one: asked anew next time
                metrics.FIGURE_REQUESTS.labels("refused").inc()
                self._names.pop(job.flink_job_id, None)
                logger.debug("no figures of %s: %s", job.flink_job_id, error)
            except Exception:
                logger.exception("no figures of job %s", job.job_id)

    async def _look_at(self, job: Watched, turn: Callable[[], Awaitable[None]]) -> None:
        cluster = self._clusters.at(job.address)
        known, now = self._names.get(job.flink_job_id), time.monotonic()
        if known is None or not known.is_new(now):
            names = await names_of(cluster, job.flink_job_id, turn)
            known = self._names[job.flink_job_id] = _Asked(names, known.first if known else now, now)
        figures, complete = await figures_of(cluster, job.flink_job_id, known.names, turn)
        if not complete:
            del self._names[job.flink_job_id]
        self.known[job.run_id] = Measured(figures, time.time())
        if self._judge is not None:
            await self._judge(job, figures, self._clusters)

    def _turns(self, over: asyncio.Event) -> Callable[[], Awaitable[None]]:
        pause = 1 / self._service.settings.figures_requests_s
        last = time.monotonic() - pause

        async def turn() -> None:
            nonlocal last
            await asyncio.sleep(max(0.0, last + pause - time.monotonic()))
            if over.is_set():
                raise _Over
            last = time.monotonic()
            metrics.FIGURE_REQUESTS.labels("sent").inc()

        return turn

    def _forget(self, held: Iterable[Watched]) -> None:
        kept = {job.run_id: job.flink_job_id for job in held}
        self.known = {run_id: one for run_id, one in self.known.items() if run_id in kept}
        ids = set(kept.values())
        self._names = {job_id: asked for job_id, asked in self._names.items() if job_id in ids}


def samples(jobs: Jobs, known: Mapping[int, Measured]) -> list[Sample]:
    """What ``/metrics`` shows of the jobs."""
    found: list[Sample] = []
    for job in (*jobs.held, *jobs.unwell):
        found.append(Sample("hlink_job_state", (*job.labels, job.state), 1.0))
    for job in jobs.held:
        measured = known.get(job.run_id)
        values: dict[str, float | None] = {
            "hlink_job_observation_age_seconds": job.observed_age_s,
            "hlink_job_slots": job.slots,
            "hlink_job_restarts": job.restarts,
        }
        if measured is not None:
            figures = measured.figures
            values |= {
                "hlink_job_checkpoint_seconds": _seconds(figures.checkpoint_ms),
                "hlink_job_checkpoint_bytes": figures.checkpoint_bytes,
                "hlink_job_checkpoint_age_seconds": _since(figures.checkpoint_at, measured.at),
                "hlink_job_checkpoints_completed": figures.checkpoints_completed,
                "hlink_job_checkpoints_failed": figures.checkpoints_failed,
                "hlink_job_back_pressure_ratio": figures.back_pressure,
                "hlink_job_records_in_per_second": figures.records_in,
                "hlink_job_records_out_per_second": figures.records_out,
                "hlink_job_watermark_lag_seconds": _since(figures.watermark, measured.at),
                "hlink_job_figures_timestamp_seconds": measured.at,
            }
            if figures.restarts is not None:
                values["hlink_job_restarts"] = figures.restarts
            found += [
                Sample("hlink_job_lag_records", (*job.labels, source), count) for source, count in figures.lag.items()
            ]
        found += [Sample(gauge, job.labels, value) for gauge, value in values.items() if value is not None]
    return found


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _since(moment_ms: int | None, now_s: float) -> float | None:
    # The cluster's clock may be ahead of ours.
    return None if moment_ms is None else max(0.0, now_s - moment_ms / 1000)
