"""Flink's SQL Gateway, as a client of it would use it: a session, the tables, then EXPLAIN or INSERT.

Each operation is polled every 5 ms until its result is there. Operations could be waited for in no other way: the
gateway's REST API has no call that answers when a statement has ended.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.distribution import Distribution
from benchmarks.http import Failed, Http
from benchmarks.processes import running, wait_until
from benchmarks.statements import Statement
from stream_jobs.local import ports

POLL_S = 0.005
_READY_WITHIN_S = 90.0
_STATEMENT_WITHIN_S = 60.0


class Gateway:
    """A running gateway."""

    def __init__(self, api: Http) -> None:
        self._http = api

    def explain(self, statement: Statement, number: int) -> float:
        """Plan a statement in a session of its own; milliseconds from the first request to the plan."""
        began = time.perf_counter()
        session = self._open(statement.settings("bench"))
        for ddl in statement.ddl():
            self._execute(session, ddl)
        rows = self._execute(session, f"EXPLAIN {statement.insert_with(number)}")
        took = time.perf_counter() - began
        self._close(session)
        if "Optimized Execution Plan" not in rows[0]["fields"][0]:
            raise Failed(f"the gateway's answer to EXPLAIN is not a plan: {rows}")
        return took * 1000

    def submit(self, statement: Statement, number: int) -> tuple[float, str]:
        """Start a job in a session of its own; milliseconds until its id is there, and the id."""
        return self.start(statement.ddl(), statement.insert_with(number), statement.settings("bench"))

    def start(
        self, tables: Sequence[str], insert: str, settings: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[float, str]:
        """Start a job from any SQL, as :meth:`submit` does."""
        began = time.perf_counter()
        session = self._open(settings)
        for ddl in tables:
            self._execute(session, ddl)
        rows = self._execute(session, insert)
        took = time.perf_counter() - began
        self._close(session)
        return took * 1000, str(rows[0]["fields"][0])

    def session(self, settings: Mapping[str, str]) -> Session:
        """A session that stays open until its user closes it."""
        return Session(self, self._open(settings))

    def _open(self, properties: Mapping[str, str]) -> str:
        return str(self._http.json("POST", "/v3/sessions", {"properties": dict(properties)})["sessionHandle"])

    def _close(self, session: str) -> None:
        self._http.json("DELETE", f"/v3/sessions/{session}")

    def _execute(self, session: str, sql: str) -> list[dict[str, Any]]:
        """The rows of a statement's first result."""
        asked = self._http.json("POST", f"/v3/sessions/{session}/statements", {"statement": sql})
        path = f"/v3/sessions/{session}/operations/{asked['operationHandle']}/result/0?rowFormat=JSON"
        deadline = time.monotonic() + _STATEMENT_WITHIN_S
        while True:
            answer = self._http.json("GET", path)
            if answer["resultType"] != "NOT_READY":
                return list(answer["results"]["data"])
            if time.monotonic() > deadline:
                raise Failed(f"the gateway did not end a statement within {_STATEMENT_WITHIN_S:.0f} s: {sql[:200]}")
            time.sleep(POLL_S)


class Session:
    """A session of a gateway, for one who types one statement after the other."""

    def __init__(self, gateway: Gateway, handle: str) -> None:
        self._gateway = gateway
        self._handle = handle

    def execute(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a statement's first result."""
        return self._gateway._execute(self._handle, sql)

    def close(self) -> None:
        self._gateway._close(self._handle)


@contextmanager
def started(distribution: Distribution, log: Path) -> Iterator[Gateway]:
    """A gateway by the distribution's own script, with that script's own memory settings.

    It logs warnings only, as our planner does: neither side is to spend its time on a log.
    """
    port = ports.choose(set())
    command = [
        "bash",
        str(distribution.bin / "sql-gateway.sh"),
        "start-foreground",
        f"-Dsql-gateway.endpoint.rest.address={ports.LOOPBACK}",
        f"-Dsql-gateway.endpoint.rest.bind-address={ports.LOOPBACK}",
        f"-Dsql-gateway.endpoint.rest.port={port}",
    ]
    with (
        running(command, environment={**distribution.environment, "ROOT_LOG_LEVEL": "WARN"}, log=log) as process,
        Http(f"http://{ports.LOOPBACK}:{port}") as api,
    ):

        def answers() -> bool:
            if process.poll() is not None:
                raise Failed(f"the SQL Gateway did not start; its log is {log}")
            try:
                return bool(api.json("GET", "/v3/info"))
            except (OSError, http.client.HTTPException):
                return False

        wait_until("the SQL Gateway", answers, _READY_WITHIN_S)
        yield Gateway(api)
