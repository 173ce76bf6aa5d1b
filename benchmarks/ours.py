"""Our service, as a client of its published API uses it."""

from __future__ import annotations

import http.client
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.http import Failed, Http
from benchmarks.processes import running, wait_until
from benchmarks.statements import Statement, Table
from stream_jobs.local import ports

_READY_WITHIN_S = 120.0
_QUIET_S = 2.0
_RUNNING = 1


class Service:
    """A running service with one cluster, and the ids of the tables that were added."""

    def __init__(self, api: Http, pid: int) -> None:
        self.pid = pid
        self.address = api.address
        self.tables: dict[str, int] = {}
        self.cluster_id = 0
        self._http = api

    def add_cluster(self, flink_url: str) -> None:
        """Make the cluster known; jobs go to it from then on."""
        query = urlencode({"name": "bench", "address": flink_url, "type": "1"})
        self.cluster_id = int(self._data("POST", f"/cluster/add?{query}")["id"])

    def add_tables(self, tables: Sequence[Table]) -> None:
        """Define those tables that are not there yet; equal names are equal tables."""
        for table in tables:
            if table.name not in self.tables:
                self.tables[table.name] = int(self._data("POST", "/ds/addDO", table.wire)["id"])

    def validate(self, statement: Statement, number: int) -> float:
        """Validate a job; milliseconds."""
        body = self._job(statement, number)
        began = time.perf_counter()
        answer = self._http.json("POST", "/jobs/validate", body)
        took = time.perf_counter() - began
        if answer["success"] is not True or answer["data"]["valid"] is not True:
            raise Failed(f"the service refuses the statement {statement.name}: {answer['msg']}")
        return took * 1000

    def refused(self, statement: Statement, number: int, mistake: str) -> float:
        """Validate a job whose feature statement is wrong; milliseconds until that is told with its place."""
        body = self._job(statement, number)
        body["jobDsVOS"][-1]["runSql"] = mistake.format(n=number)
        began = time.perf_counter()
        answer = self._http.json("POST", "/jobs/validate", body)
        took = time.perf_counter() - began
        if answer["success"] is not False or not answer["problems"][0]["line"]:
            raise Failed(f"the service does not place the mistake in {mistake!r}: {answer}")
        return took * 1000

    def add(self, statement: Statement, number: int) -> tuple[float, int]:
        """Store a job; milliseconds, and its id."""
        body = self._job(statement, number)
        began = time.perf_counter()
        data = self._data("POST", "/jobs/addDO", body)
        return (time.perf_counter() - began) * 1000, int(data["id"])

    def run(self, job_id: int) -> tuple[float, str]:
        """Start a stored job; milliseconds until Flink has accepted it, and Flink's id of it."""
        began = time.perf_counter()
        data = self._data("POST", f"/jobs/run/{job_id}")
        took = time.perf_counter() - began
        if data["jobStatus"] != _RUNNING:
            raise Failed(f"the service answers before Flink has accepted the job: {data}")
        return took * 1000, str(data["flinkJobId"])

    def restart(self, job_id: int) -> str:
        """Restart a running job with its state; Flink's id of the run that goes on."""
        data = self._data("POST", f"/jobs/restart/{job_id}")
        if data["jobStatus"] != _RUNNING or not data["restoredFrom"]:
            raise Failed(f"the job was not restarted from its state: {data}")
        return str(data["flinkJobId"])

    def cancel(self, job_id: int) -> float:
        """Cancel a job; milliseconds until it has ended."""
        began = time.perf_counter()
        data = self._data("POST", f"/jobs/cancel/{job_id}?mode=none")
        took = time.perf_counter() - began
        if data["state"] != "CANCELED":
            raise Failed(f"the job was not cancelled: {data}")
        return took * 1000

    def planned(self) -> float:
        """How many requests the planner has answered."""
        found = re.findall(r"^hlink_planner_requests_total\{.*\} (\S+)$", self._http.text("GET", "/metrics"), re.M)
        return sum(map(float, found))

    def ready(self) -> bool:
        """Whether the planner takes requests."""
        try:
            return bool(self._http.json("GET", "/health")["parts"]["planner"]["ok"])
        except (OSError, http.client.HTTPException, Failed):
            return False

    def visual(self, method: str, path: str, body: object = None) -> Any:
        """Ask the API of visual experiments; the answer's ``obj``."""
        return self._http.json(method, f"/visualmodule{path}", body)["obj"]

    def _job(self, statement: Statement, number: int) -> dict[str, Any]:
        return statement.job(f"{statement.name}-{number}", self.cluster_id, self.tables, number)

    def _data(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = self._http.json(method, path, body)
        if answer["success"] is not True:
            raise Failed(f"{method} {path}: {answer['msg']}")
        data: dict[str, Any] = answer["data"]
        return data


@contextmanager
def started(environment: Mapping[str, str], log: Path) -> Iterator[Service]:
    """The service by ``hlink serve``, from when its planner has done the warm-up that every start does."""
    port = ports.choose(set())
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    with (
        running(command, environment=environment, log=log) as process,
        Http(f"http://{ports.LOOPBACK}:{port}") as api,
    ):
        service = Service(api, process.pid)

        def answers() -> bool:
            if process.poll() is not None:
                raise Failed(f"the service did not start; its log is {log}")
            return service.ready()

        wait_until("the service with its planner", answers, _READY_WITHIN_S)
        _wait_for_warm_up(service)
        yield service


def _wait_for_warm_up(service: Service) -> None:
    """The warm-up goes on behind the first answers: it has ended when the planner is asked nothing more."""
    last = (-1.0, time.monotonic())

    def quiet() -> bool:
        nonlocal last
        asked = service.planned()
        if asked != last[0]:
            last = (asked, time.monotonic())
        return time.monotonic() - last[1] > _QUIET_S

    wait_until("the end of the planner's warm-up", quiet, _READY_WITHIN_S)
