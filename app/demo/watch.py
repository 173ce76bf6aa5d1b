"""The demo while the job runs: what is shown, when the stream has gone through, and whether its result is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
from rich.console import Console
from rich.live import Live

from app.demo import check, show, stage
from app.demo.check import Comparison
from app.demo.data import Year
from app.demo.errors import DemoError
from app.demo.features import FEATURES
from app.demo.service import Service
from app.demo.show import Figures, Scene
from app.demo.stage import Places, Player, TopicReader
from stream_jobs.local.endpoints import Endpoints

_LOOK_EVERY_S = 1.0
_LINE_EVERY_S = 5.0
_QUIET_S = 3.0
"""How long no row must have come until the sinks are taken to hold everything: three times their flush interval."""
_STUCK_S = 180.0
"""How long nothing at all may move before the demo gives up."""
_UNANSWERED_S = 30.0
"""How long service and database may give no answer."""
_ENDED_BADLY = ("FAILED", "LOST", "CANCELED")


@dataclass(frozen=True)
class Running:
    """All that there is once the job runs.

    :param started_at: when the stream was started, on the monotonic clock.
    """

    endpoints: Endpoints
    places: Places
    service: Service
    year: Year
    player: Player
    reader: TopicReader
    job_id: int
    started_at: float


@dataclass
class _Seen:
    """What was seen last, when that was, and when it last changed (monotonic clock)."""

    figures: Figures = field(default_factory=Figures)
    in_topic: int = 0
    in_table: int = 0
    at: float = field(default_factory=time.monotonic)
    rows_changed_at: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)


class Watch:
    """Watches a running demo.

    :param began: when the demo began, on the monotonic clock.
    :param once: end after the check.
    """

    def __init__(self, running: Running, console: Console, began: float, *, once: bool) -> None:
        self.running, self.console, self.once = running, console, once
        self.status = 0
        self._began = began
        self._seen = _Seen()
        self._verdict = ""
        self._event_times = running.year.flights["scheduled"].to_numpy("datetime64[ms]").astype("int64")

    def run(self) -> int:
        """Show until the end: of the check, or for ever. The exit status.

        :raises DemoError: the job, the service or the stream does not go on.
        """
        with self._shown() as show_now:
            while not self._complete():
                self._look()
                show_now()
                time.sleep(_LOOK_EVERY_S)
            outcome = self._check()
            show_now()
            while not self.once:
                self._look()
                show_now()
                time.sleep(_LOOK_EVERY_S)
        self._summarise(outcome)
        return self.status

    def _look(self) -> None:
        """See how far everything is."""
        running, seen = self.running, self._seen
        for error in (running.player.error, running.reader.error):
            if error is not None:
                raise DemoError(error)
        try:
            figures = Figures.of(running.service.client.overview(running.job_id))
            in_table = stage.rows_written(running.endpoints.postgres, running.places)
        except DemoError as error:
            self._bear(error)
            return
        if figures.state in _ENDED_BADLY:
            raise DemoError(f"The job is {figures.state.lower()}: {figures.reason or 'no reason is known'}")
        in_topic = len(running.reader.rows)
        seen.at = now = time.monotonic()
        if (in_topic, in_table) != (seen.in_topic, seen.in_table):
            seen.rows_changed_at = now
        if in_topic != seen.in_topic or figures.watermark != seen.figures.watermark or not running.player.done:
            seen.moved_at = now
        seen.figures, seen.in_topic, seen.in_table = figures, in_topic, in_table
        if not self._verdict and now - seen.moved_at > _STUCK_S:
            raise DemoError(
                f"Nothing has moved for {_STUCK_S:.0f} s: {in_topic:,} feature rows in Kafka, {in_table:,} in "
                f"PostgreSQL, the job is {figures.state.lower()} ({figures.reason or 'no error is known'})"
            )

    def _bear(self, error: DemoError) -> None:
        """A single question that is not answered ends nothing; raises when none has been answered for a while."""
        service = self.running.service
        if not service.alive or time.monotonic() - self._seen.at > _UNANSWERED_S:
            raise DemoError(f"{error}{service.last_words()}") from error

    def _complete(self) -> bool:
        """Whether all went through, and no row has come for a while.

        That is so when each window has its row, or else when event time has come to the last flight; Flink tells
        its event time up to ten seconds late.
        """
        seen = self._seen
        if not self.running.player.done:
            return False
        all_there = min(seen.in_topic, seen.in_table) >= len(self._truth)
        passed = seen.figures.watermark is not None and seen.figures.watermark >= self._event_times[-1]
        return (all_there or passed) and seen.at - seen.rows_changed_at >= _QUIET_S

    @cached_property
    def _truth(self) -> pd.DataFrame:
        return check.expected(self.running.year)

    def _check(self) -> dict[str, Comparison]:
        running = self.running
        truth = self._truth
        in_table = stage.rows_of_table(running.endpoints.postgres, running.places, FEATURES)
        outcome = {
            "Kafka": check.compare(truth, running.reader.rows),
            "PostgreSQL": check.compare(truth, in_table),
        }
        equal = all(one.equal for one in outcome.values())
        self.status = 0 if equal else 1
        problems = ", ".join(f"{one.problems:,} differences in {name}" for name, one in outcome.items())
        self._verdict = f"{len(truth):,} windows compared, " + ("all equal in both sinks" if equal else problems)
        return outcome

    def _summarise(self, outcome: dict[str, Comparison]) -> None:
        running, seen = self.running, self._seen
        if not self.console.is_terminal:
            show.print_features(list(running.reader.newest)[-4:], self.console)
        for name, one in outcome.items():
            for difference in one.differences:
                self.console.print(f"{name}: {difference}", style="red", markup=False, soft_wrap=True)
        seconds = seen.rows_changed_at - running.started_at
        first = (running.reader.first_at or seen.rows_changed_at) - self._began
        self.console.print(
            f"{running.player.total:,} flights through the job in {seconds:.1f} s "
            f"({running.player.total / seconds:,.0f} a second), first features {first:.1f} s after the start",
            soft_wrap=True,
        )
        self.console.print(
            f"{self._verdict} ({time.monotonic() - self._began:.0f} s)",
            style="bold red" if self.status else "bold green",
            soft_wrap=True,
        )

    @contextmanager
    def _shown(self) -> Iterator[Callable[[], None]]:
        if self.console.is_terminal:
            with Live(show.view(self._scene()), console=self.console, refresh_per_second=4) as live:
                yield lambda: live.update(show.view(self._scene()))
            return
        for name, address in self._addresses().items():
            self.console.print(f"{name:<20} {address}", markup=False, soft_wrap=True)
        yield self._lines()

    def _lines(self) -> Callable[[], None]:
        last_at, last_seen = 0.0, None

        def show_now() -> None:
            nonlocal last_at, last_seen
            scene = self._scene()
            # The first features and the verdict are told at once, everything else now and then, if it is new.
            urgent = (scene.in_topic > 0, scene.verdict)
            seen = (urgent, scene.figures.state, scene.processed, scene.in_topic, scene.in_table)
            waited = time.monotonic() - last_at >= _LINE_EVERY_S
            if seen != last_seen and (waited or last_seen is None or urgent != last_seen[0]):
                last_at, last_seen = time.monotonic(), seen
                told = f"{scene.seconds:6.1f}s  {'job':<12} {show.line(scene)}"
                self.console.print(told, markup=False, soft_wrap=True)

        return show_now

    def _scene(self) -> Scene:
        running, seen = self.running, self._seen
        return Scene(
            seconds=time.monotonic() - self._began,
            figures=seen.figures,
            sent=running.player.sent,
            total=running.player.total,
            processed=int(self._event_times.searchsorted(seen.figures.watermark or 0, side="right")),
            in_topic=seen.in_topic,
            in_table=seen.in_table,
            newest=list(running.reader.newest),
            addresses=self._addresses(),
            verdict=self._verdict,
        )

    def _addresses(self) -> dict[str, str]:
        running = self.running
        database, places = running.endpoints.postgres, running.places
        return {
            "API docs": f"{running.service.url}/docs",
            "Flink": running.endpoints.flink_url,
            "Features in Kafka": f"{running.endpoints.kafka_bootstrap}, topic {places.features_topic}",
            "... in PostgreSQL": f"{database.host}:{database.port}/{database.database} as {database.user}, "
            f"table {places.table('features')}",
            "Service's log": str(running.service.log),
        }
