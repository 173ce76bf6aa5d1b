"""The service as users run it: ``hlink serve`` in a process of its own, spoken to over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx

from app.service import Service
from stream_jobs.local import ports
from stream_jobs.local.endpoints import Endpoints
from tests.stack import shared_artifacts

Json = dict[str, Any]
Serve = Callable[..., Awaitable[tuple[httpx.AsyncClient, Service]]]
"""Starts the service with one family's routes only, in the test's own process: the fixture ``serve``."""
START_S = 180.0


class ServiceProcess:
    """One replica; :meth:`start` may be called again after it has ended."""

    program: ClassVar[Sequence[str]] = ("-m", "app.cli", "serve")
    """What Python runs."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.port = ports.choose(set())
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "service.log"
        self._environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> ServiceProcess:
        """Start it and wait until it answers; ``more`` are environment variables of this start only."""
        self.begin(**more)
        self.wait_until_it_answers()
        return self

    def begin(self, **more: str) -> None:
        """Start it, as :meth:`start`, without waiting."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "HLINK_HOME": str(self.home),
            "HLINK_ARTIFACTS": str(shared_artifacts()),
            "HLINK_PORT": str(self.port),
            # Most services of tests are asked for little, and end soon.
            "HLINK_PLANNER_WARM_UP": "false",
            **self._environment,
            **more,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *self.program], env=environment, stdout=log, stderr=log)

    def wait_until_it_answers(self, timeout_s: float = START_S) -> None:
        """Raises ``AssertionError`` with the end of its log when it ends, or does not answer in time."""
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                httpx.get(f"{self.url}/health", timeout=5)
                return
            except httpx.TransportError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the service did not start:\n{self.log.read_text()[-4000:]}") from None
                time.sleep(0.1)

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def wait_for_death(self, timeout_s: float = 60.0) -> int:
        """The exit status of a process that is to end by itself."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """End it as an operator does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


@contextmanager
def running_service(home: Path, **environment: str) -> Iterator[ServiceProcess]:
    service = ServiceProcess(home, environment)
    try:
        yield service.start()
    finally:
        service.stop()


class Api:
    """The Hlink API, with the few words that tests need to define a job."""

    def __init__(self, url: str, endpoints: Endpoints) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)
        self.endpoints = endpoints

    def call(self, method: str, path: str, **request: Any) -> Json:
        """The envelope of the answer."""
        answer: Json = self.http.request(method, path, **request).json()
        return answer

    def ok(self, method: str, path: str, **request: Any) -> Any:
        """The answer's data; fails unless it is a success."""
        answer = self.call(method, path, **request)
        assert (answer["code"], answer["success"]) == (200, True), json.dumps(answer, ensure_ascii=False)
        return answer["data"]

    def refused(self, method: str, path: str, **request: Any) -> Json:
        """The envelope of a refusal; fails when it is a success."""
        answer = self.call(method, path, **request)
        assert answer["success"] is False, json.dumps(answer, ensure_ascii=False)
        return answer

    def cluster(self) -> int:
        """The stack's Flink; added when it is not there yet."""
        for known in self.ok("GET", "/cluster/check/list"):
            if known["address"] == self.endpoints.flink_url:
                return int(known["id"])
        added = self.ok(
            "POST", "/cluster/add", params={"name": "main", "address": self.endpoints.flink_url, "type": "1"}
        )
        return int(added["id"])

    def table(self, alias: str, role: str, kind: str, columns: Mapping[str, Any], **fields: str) -> int:
        """A table; a column's value is its type, or a mapping of wire attributes."""
        body = {
            "dsName": alias,
            "tableName": alias,
            "dsType": role,
            "tableType": kind,
            "schemaType": 0,
            "dsSchemaColumnVOS": [
                {"name": name, **({"flinkType": what} if isinstance(what, str) else what)}
                for name, what in columns.items()
            ],
            "jsonFieldVO": {"jsonValue": [{"fieldName": k, "fieldValue": v} for k, v in fields.items()]},
        }
        return int(self.ok("POST", "/ds/addDO", json=body)["id"])

    def kafka_source(self, alias: str, topic: str, columns: Mapping[str, Any], **fields: str) -> int:
        values = {
            "bootstrap_servers": self.endpoints.kafka_bootstrap,
            "connector_topic": topic,
            "group_id": "tests",
            "startup_mode": "earliest-offset",
        }
        return self.table(alias, "source", "kafka", columns, **(values | fields))

    def kafka_sink(self, alias: str, topic: str, columns: Mapping[str, Any], **fields: str) -> int:
        values = {"bootstrap_servers": self.endpoints.kafka_bootstrap, "connector_topic": topic}
        return self.table(alias, "sink", "kafka", columns, **(values | fields))

    def postgresql(self, alias: str, role: str, table: str, columns: Mapping[str, Any], **fields: str) -> int:
        database = self.endpoints.postgres
        values = {
            "connector_url": database.jdbc_url,
            "table_name": table,
            "connector_username": database.user,
            "connector_password": database.password,
        }
        return self.table(alias, role, "postgresql", columns, **(values | fields))

    def job(self, name: str, tables: list[int], sinks: Mapping[int, str], **settings: Any) -> Json:
        """The body of a job: tables without a statement, and sinks with theirs."""
        links = [{"dsId": table} for table in tables] + [{"dsId": sink, "runSql": sql} for sink, sql in sinks.items()]
        return {"jobName": name, "clusterId": self.cluster(), "jobType": 0, "jobDsVOS": links, **settings}

    def run(self, job_id: int, timeout_s: float = 60) -> Json:
        """The answer to ``/jobs/run``, once the job runs: on a busy machine the answer may come before that."""
        answer: Json = self.ok("POST", f"/jobs/run/{job_id}")
        assert answer["jobStatus"] in (1, 9), answer
        self.wait_for(job_id, 1, timeout_s)
        return answer

    def cancel(self, job_id: int, timeout_s: float = 60, **how: Any) -> None:
        """Returns once the job is canceled: on a busy machine the answer may come before that."""
        self.ok("POST", f"/jobs/cancel/{job_id}", params=how)
        self.wait_for(job_id, 2, timeout_s)

    def wait_for(self, job_id: int, status: int, timeout_s: float = 60) -> None:
        """Returns once the job has that published status."""
        self.wait_until(job_id, lambda shown: shown == status, timeout_s)

    def wait_until(self, job_id: int, holds: Callable[[int], bool], timeout_s: float) -> None:
        """Returns once the job's published status is one that ``holds``."""
        deadline = time.monotonic() + timeout_s
        while not holds(self.status(job_id)):
            assert time.monotonic() < deadline, self.ok("GET", f"/jobs/overview/{job_id}")
            time.sleep(0.2)

    def status(self, job_id: int) -> int:
        return int(self.ok("GET", f"/jobs/{job_id}")["jobStatus"])

    def flink_jobs(self, name: str) -> list[Json]:
        """What Flink itself knows of jobs of that name, in any state."""
        jobs = httpx.get(f"{self.endpoints.flink_url}/jobs/overview", timeout=30).json()["jobs"]
        return [job for job in jobs if job["name"] == name]
