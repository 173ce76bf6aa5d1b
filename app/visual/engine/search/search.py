"""The search itself: which pipeline is tried next, on how many rows, and which one leads."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from app.visual.engine.figures import Figures
from app.visual.engine.plan import Drawn
from app.visual.engine.search import pipelines
from app.visual.engine.search.attempts import Attempt, Attempts
from app.visual.engine.search.rows import FACTOR, Fold
from app.visual.engine.search.space import ESTIMATOR, Space
from app.visual.engine.steps import evaluating
from app.visual.engine.values import NodeFailure

MOST_SHOWN = 100
"""So many trials are listed, the best ones."""
SHOWN_EVERY_S = 0.5
OVERRUN = 0.25
"""A trial whose first stage takes more than this share of the budget is given up, once there is one that leads."""

log = logging.getLogger("engine")


@dataclass
class Tried:
    """A pipeline, and what is known of it."""

    trial: Trial
    nodes: Sequence[Drawn]
    estimator: str
    stage: int = 0
    """Which one it is in, or was in last."""
    rows: int = 0
    """So many it has learnt from when it came to ``score``."""
    score: float | None = None
    at: float = 0.0
    """When it came to the score, in seconds since the search began."""
    seconds: float = 0.0
    """How long it has taken so far."""
    state: str = "running"
    reason: str | None = None
    ranked: tuple[int, float] | None = None
    """The stage of the score, and the score turned so that more is better: the greatest leads."""

    @property
    def number(self) -> int:
        """Counts from 1."""
        return int(self.trial.number) + 1

    @property
    def said(self) -> str:
        """Its estimator and parameters, for people."""
        values = {name.partition(".")[2]: value for name, value in self.trial.params.items() if name != ESTIMATOR}
        return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


@dataclass
class Limits:
    """How far a search may go."""

    began: float
    """On the monotonic clock."""
    budget_s: float
    processors: int
    most_trials: int

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """What is left of the budget, in seconds."""
        return self.budget_s - self.seconds


@dataclass
class Search:
    """Trials of one space, on the same rows.

    A trial goes from stage to stage, each with more rows, as long as it is among the best of its stage: successive
    halving, with proposals by TPE. A score from more rows counts before one from fewer.
    """

    space: Space
    folds: Sequence[Fold]
    stages: Sequence[int]
    metric: str
    limits: Limits
    figures: Figures
    tried: list[Tried] = field(default_factory=list)
    leader: Tried | None = None

    def __post_init__(self) -> None:
        self._study = self._made()
        self._course: list[tuple[float, float]] = []
        self._shown = 0.0

    def run(self) -> Tried:
        """Search until the budget is used up; the pipeline that leads then. Raises :class:`NodeFailure`."""
        with Attempts[Tried]() as running:
            while self.limits.left > 0 and (self._may_begin() or len(running)) and not self._is_hopeless():
                while len(running) < self.limits.processors and self._may_begin():
                    self._begin(running)
                for attempt in running.ended(min(self.limits.left, SHOWN_EVERY_S)):
                    self._close(attempt, running)
                self._give_up(running)
                self._show()
            for attempt in running:
                self._stop(attempt.of, "out of time")
        self._show(last=True)
        if self.leader is None:
            raise NodeFailure(self._why_none())
        return self.leader

    def _made(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=self.space.seed,
                n_startup_trials=2 * len(self.space.estimators),
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=FACTOR)
        direction = "minimize" if self.metric in evaluating.ERRORS else "maximize"
        study = optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)
        for chosen in self.space.first():
            study.enqueue_trial(chosen)
        return study

    def _may_begin(self) -> bool:
        return len(self.tried) < self.limits.most_trials

    def _is_hopeless(self) -> bool:
        """Whether nothing but failures came of every algorithm, tried twice."""
        failed = sum(tried.state == "failed" for tried in self.tried) if self.leader is None else 0
        return failed >= 2 * len(self.space.estimators)

    def _begin(self, running: Attempts[Tried]) -> None:
        trial = self._study.ask()
        nodes = self.space.suggest(trial)
        tried = Tried(trial, nodes, trial.params[ESTIMATOR])
        self.tried.append(tried)
        self._go_on(tried, running)

    def _go_on(self, tried: Tried, running: Attempts[Tried]) -> None:
        rows = self.stages[tried.stage]
        log.info("trial %d: %s on %s rows (%s)", tried.number, tried.estimator, f"{rows:,}", tried.said)
        running.begin(tried, partial(_score, tried.nodes, self.folds, rows, self.metric, self.space.seed))

    def _close(self, attempt: Attempt[Tried], running: Attempts[Tried]) -> None:
        tried, took = attempt.of, attempt.seconds
        outcome = attempt.outcome()
        tried.seconds += took
        if outcome.value is None:
            undefined = (
                f"The score '{self.metric}' is not defined on the rows that are compared on: bring in more rows of "
                f"every class, or choose another metric"
            )
            tried.reason = outcome.reason or undefined
            self._stop(tried, "failed")
            log.warning("trial %d: %s", tried.number, tried.reason)
            return
        self._note(tried, outcome.value)
        log.info("trial %d: %s %.6g in %.2f s", tried.number, self.metric, outcome.value, took)
        tried.trial.report(outcome.value, FACTOR**tried.stage)
        if tried.stage == len(self.stages) - 1:
            tried.state = "complete"
            self._study.tell(tried.trial, outcome.value)
        elif tried.trial.should_prune():
            self._stop(tried, "pruned")
        elif took * self.stages[tried.stage + 1] / self.stages[tried.stage] > self.limits.left:
            self._stop(tried, "out of time")
        else:
            tried.stage += 1
            self._go_on(tried, running)

    def _note(self, tried: Tried, score: float) -> None:
        better = -score if self.metric in evaluating.ERRORS else score
        tried.score, tried.at, tried.rows = score, self.limits.seconds, self.stages[tried.stage]
        tried.ranked = (tried.stage, better)
        if self.leader is None or _rank(tried) > _rank(self.leader):
            self.leader = tried
            self._course.append((tried.at, score))

    def _give_up(self, running: Attempts[Tried]) -> None:
        """Once something leads, what takes too long has to make way; what was promoted may take what is left."""
        if self.leader is None:
            return
        for attempt in running:
            tried = attempt.of
            if tried.stage == 0 and attempt.seconds > OVERRUN * self.limits.budget_s:
                running.give_up(attempt)
                tried.seconds += attempt.seconds
                self._stop(tried, "too slow")
                log.info("trial %d: given up after %.1f s", tried.number, tried.seconds)

    def _stop(self, tried: Tried, state: str) -> None:
        """The rest of a trial is not wanted; without any score it counts as the worst."""
        tried.state = state
        self._study.tell(tried.trial, state=TrialState.PRUNED)

    def _why_none(self) -> str:
        if failed := Counter(tried.reason for tried in self.tried if tried.reason is not None):
            return f"No pipeline came to a score: {failed.most_common(1)[0][0]}"
        return (
            f"No pipeline came to a score within {self.limits.budget_s:g} s: raise time_budget, sample rows or drop "
            f"columns before, or choose estimators that are quicker"
        )

    # What is seen of it

    def _show(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._shown < SHOWN_EVERY_S:
            return
        self._shown = now
        with self.figures.replaced():
            # The line goes on to where the search is now.
            course = [*self._course, *((self.limits.seconds, score) for _, score in self._course[-1:])]
            seconds, scores = [round(at, 3) for at, _ in course], [score for _, score in course]
            self.figures.curve("best score so far", seconds, scores, "seconds", self.metric)
            self._cloud()
            self.figures.table(self._by_estimator())
            self.figures.table(self._listed())

    def _cloud(self) -> None:
        some = [one for one in self.tried if one.ranked][-evaluating.MOST_POINTS :]
        when, scores = [round(one.at, 3) for one in some], [one.score for one in some]
        self.figures.scatter("trials", when, scores, "seconds", self.metric, [one.estimator for one in some])

    def _by_estimator(self) -> Mapping[str, Sequence[Any]]:
        of = {name: [one for one in self.tried if one.estimator == name] for name in self.space.estimators}
        best = {name: max((one for one in some if one.ranked), key=_rank, default=None) for name, some in of.items()}
        return {
            "estimator": list(of),
            "trials": [len(some) for some in of.values()],
            "best score": [one.score if one is not None else None for one in best.values()],
            "rows": [one.rows if one is not None else None for one in best.values()],
            "failed": [sum(one.state == "failed" for one in some) for some in of.values()],
            "seconds": [round(sum(one.seconds for one in some), 3) for some in of.values()],
        }

    def _listed(self) -> Mapping[str, Sequence[Any]]:
        best = sorted((one for one in self.tried if one.ranked), key=_rank, reverse=True)
        others = [one for one in reversed(self.tried) if not one.ranked]
        shown = [*best, *others][:MOST_SHOWN]
        columns: Mapping[str, Callable[[Tried], Any]] = {
            "trial": lambda one: one.number,
            "estimator": lambda one: one.estimator,
            "parameters": lambda one: one.said,
            "rows": lambda one: one.rows or self.stages[one.stage],
            "score": lambda one: one.score,
            "seconds": lambda one: round(one.seconds, 3),
            "state": lambda one: one.state,
            "reason": lambda one: one.reason,
        }
        return {name: [value(one) for one in shown] for name, value in columns.items()}


def _score(nodes: Sequence[Drawn], folds: Sequence[Fold], rows: int, metric: str, seed: int) -> float | None:
    """The mean of a pipeline's scores over the folds in which it is defined. In a process of its own."""
    scores = []
    for fold in folds:
        split = {"train": fold.first(rows), "test": fold.checked}
        brought = pipelines.carry_out([node for node in nodes if node.name != pipelines.JUDGE], _known(split), seed)
        score = evaluating.score(metric, *pipelines.judged(nodes, brought))
        if score is not None and math.isfinite(score):
            scores.append(score)
    return sum(scores) / len(scores) if scores else None


def _known(split: Mapping[str, Any]) -> pipelines.Brought:
    return {pipelines.SPLIT: split}


def _rank(tried: Tried) -> tuple[int, float]:
    assert tried.ranked is not None
    return tried.ranked


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
