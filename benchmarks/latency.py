"""Validation and submission, ours and the gateway's in one loop: what disturbs one disturbs the other.

Which of the two goes first changes with each round. A submitted job is cancelled, and the cluster idle again, before
the next measurement begins; neither counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks import sql_client
from benchmarks.cluster import Cluster
from benchmarks.distribution import Distribution
from benchmarks.gateway import Gateway
from benchmarks.ours import Service
from benchmarks.report import latencies, p50, pooled_ratio
from benchmarks.statements import MISTAKES, Statement

WARM_UP_STATEMENTS = 25
_SQL_CLIENT_ROUNDS = 2

Samples = dict[str, list[float]]
Figures = dict[str, float | int]


@dataclass
class Sides:
    """Both sides, the statements, and the source of literals: none is used twice."""

    service: Service
    gateway: Gateway
    cluster: Cluster
    distribution: Distribution
    statements: Sequence[Statement]
    scratch: Path

    def __post_init__(self) -> None:
        self._literals = count(1)

    def literal(self) -> int:
        return next(self._literals)

    def submit_ours(self, statement: Statement, number: int) -> tuple[float, float, float]:
        """Milliseconds to store, to run and to cancel a job."""
        added, job = self.service.add(statement, number)
        ran, flink_id = self.service.run(job)
        self.cluster.check_accepted(flink_id)
        cancelled = self.service.cancel(job)
        self.cluster.wait_until_idle()
        return added, ran, cancelled

    def submit_by_gateway(self, statement: Statement, number: int) -> float:
        """Milliseconds to run a job by the gateway."""
        took, flink_id = self.gateway.submit(statement, number)
        self._check_and_cancel(flink_id)
        return took

    def submit_by_sql_client(self, statement: Statement, number: int) -> float:
        """Milliseconds to run a job by the SQL client."""
        took, flink_id = sql_client.submit(self.distribution, statement, number, self.scratch / "script.sql")
        self._check_and_cancel(flink_id)
        return took

    def _check_and_cancel(self, flink_id: str) -> None:
        self.cluster.check_accepted(flink_id)
        self.cluster.cancel(flink_id)
        self.cluster.wait_until_idle()


def validation(sides: Sides, rounds: int) -> Figures:
    """Validate over HTTP against session, tables and EXPLAIN at the gateway."""
    for statement, number in _warm_up(sides):
        sides.service.validate(statement, number)
        sides.gateway.explain(statement, number)
    ours, theirs = _samples(sides.statements), _samples(sides.statements)
    for round_ in range(rounds):
        for statement in sides.statements:
            number = sides.literal()

            def validate_ours(statement: Statement = statement, number: int = number) -> None:
                ours[statement.name].append(sides.service.validate(statement, number))

            def explain_theirs(statement: Statement = statement, number: int = number) -> None:
                theirs[statement.name].append(sides.gateway.explain(statement, number))

            _in_turn(round_, validate_ours, explain_theirs)
    return {
        **latencies("validate", ours),
        **latencies("gateway_validate", theirs),
        "validate_vs_gateway": pooled_ratio(ours, theirs),
    }


def mistakes(sides: Sides, rounds: int) -> Figures:
    """A syntax error and a name that does not exist, until they are told with their place."""
    statement = sides.statements[0]
    samples: Samples = {name: [] for name in MISTAKES}
    for number in (sides.literal() for _ in range(WARM_UP_STATEMENTS)):
        sides.service.refused(statement, number, list(MISTAKES.values())[number % len(MISTAKES)])
    for _ in range(rounds):
        for name, mistake in MISTAKES.items():
            samples[name].append(sides.service.refused(statement, sides.literal(), mistake))
    # The two differ, and a median between them would be neither: the slower kind is the figure.
    return latencies("error", samples) | {"error_p50_ms": max(map(p50, samples.values()))}


def submission(sides: Sides, rounds: int) -> Figures:
    """Run a stored job over HTTP against session, tables and INSERT at the gateway, and against the SQL client."""
    for statement, number in _warm_up(sides):
        sides.submit_ours(statement, number)
        sides.submit_by_gateway(statement, number)
    added, ran, both, cancelled, theirs = (_samples(sides.statements) for _ in range(5))
    for round_ in range(rounds):
        for statement in sides.statements:
            number = sides.literal()

            def submit_ours(statement: Statement = statement, number: int = number) -> None:
                add, run, cancel = sides.submit_ours(statement, number)
                for samples, took in ((added, add), (ran, run), (both, add + run), (cancelled, cancel)):
                    samples[statement.name].append(took)

            def submit_theirs(statement: Statement = statement, number: int = number) -> None:
                theirs[statement.name].append(sides.submit_by_gateway(statement, number))

            _in_turn(round_, submit_ours, submit_theirs)
    by_client = _samples(sides.statements)
    for _ in range(_SQL_CLIENT_ROUNDS):
        for statement in sides.statements:
            by_client[statement.name].append(sides.submit_by_sql_client(statement, sides.literal()))
    return {
        **latencies("submit", ran),
        **latencies("gateway_submit", theirs),
        "submit_vs_gateway": pooled_ratio(ran, theirs),
        "sql_client_submit_p50_ms": p50([sample for one in by_client.values() for sample in one]),
        "sql_client_submit_samples": sum(map(len, by_client.values())),
        "submit_vs_sql_client": pooled_ratio(ran, by_client),
        **latencies("add", added),
        **latencies("add_and_run", both),
        "add_and_run_vs_gateway": pooled_ratio(both, theirs),
        **latencies("cancel", cancelled),
    }


def _warm_up(sides: Sides) -> list[tuple[Statement, int]]:
    """The statements that both sides get before anything counts."""
    return [(sides.statements[i % len(sides.statements)], sides.literal()) for i in range(WARM_UP_STATEMENTS)]


def _samples(statements: Sequence[Statement]) -> Samples:
    return {statement.name: [] for statement in statements}


def _in_turn(round_: int, one: Callable[[], None], other: Callable[[], None]) -> None:
    first, second = (one, other) if round_ % 2 == 0 else (other, one)
    first()
    second()
