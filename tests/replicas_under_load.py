"""Two replicas under load, one of them killed again and again: ``python -m tests.replicas_under_load``.

Two ``hlink serve`` share one PostgreSQL. Clients send runs, cancels, restarts, new jobs and lists to both in turn, for
programs in jars on simulated clusters, which know every submission. Every twenty seconds one replica is killed
(``kill -9``) and started again.

What is held: a request succeeds, or says that it did not happen; one whose connection broke is sent again, to the
other replica, and then it is one of the two. What a client was told is what the clusters show. No job runs twice, no
id goes to two clusters. The dead replica's runs have another holder within ``TAKEOVER_S``.

Prints what happened; the last line is JSON. Exit status 0 when nothing was violated.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg

from benchmarks.simulation import Simulation, simulated
from stream_jobs.local.endpoints import PostgresEndpoint
from tests.databases import postgres_schema
from tests.services import Json, ServiceProcess
from tests.stack import shared_stack

TAKEOVER_S = 15.0
KILL_EVERY_S = 20.0
_CLIENTS = 4
_JOBS_OF_A_CLIENT = 3
_CONTESTED = 2
_CLUSTERS = 2
_SETTLES_WITHIN_S = 60.0
_ANSWER_S = 60.0
_STARTS_WITHIN_S = 180.0
_LIVE = {"CREATED", "SUBMITTING", "RUNNING", "RESTARTING", "STOPPING"}


@dataclass
class Report:
    """What happened. Clients write into it from their threads."""

    answers: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    takeovers_s: list[float] = field(default_factory=list)
    kills: int = 0

    def summary(self, doubled: Sequence[str], submissions: int) -> dict[str, Any]:
        """The last line's figures."""
        return {
            "requests": sum(self.answers.values()),
            "answers": dict(sorted(self.answers.items())),
            "kills": self.kills,
            "takeovers": len(self.takeovers_s),
            "slowest_takeover_s": round(max(self.takeovers_s, default=0.0), 1),
            "submissions": submissions,
            "doubled": list(doubled),
            "violations": self.violations,
        }


class Replicas:
    """Both services, and a round robin before them."""

    def __init__(self, services: Sequence[ServiceProcess]) -> None:
        self.services = services

    def ask(self, client: httpx.Client, first: int, method: str, path: str, **request: Any) -> tuple[Json, bool]:
        """The answer's envelope, and whether the request was sent again after its connection had broken.

        Raises ``AssertionError`` when there is no answer in time, or one that is not the service's.
        """
        deadline = time.monotonic() + _ANSWER_S
        again = False
        number = first
        while True:
            number += 1
            url = self.services[number % len(self.services)].url
            try:
                answer = client.request(method, f"{url}{path}", **request)
            except httpx.ConnectError:
                pass  # it never reached anybody
            except httpx.TransportError:
                again = True
            else:
                try:
                    envelope: Json = answer.json()
                except ValueError:
                    raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text[:300]!r}") from None
                if "success" not in envelope or not (envelope["success"] or envelope.get("msg")):
                    raise AssertionError(f"{method} {path}: neither a success nor a reason: {envelope}")
                if answer.status_code >= 500 and answer.status_code != 503:
                    raise AssertionError(f"{method} {path}: {answer.status_code} {envelope['msg']}")
                return envelope, again
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {path}: no answer within {_ANSWER_S:.0f} s")
            time.sleep(0.05)


class Client(threading.Thread):
    """Drives jobs of its own, whose state it knows from what it was told, and jobs that all clients drive."""

    def __init__(self, number: int, world: World, until: float) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._world = world
        self._until = until
        self._random = random.Random(number)
        self._number = number
        self._http = httpx.Client(timeout=_ANSWER_S)
        self._asked = number
        self._own: dict[int, str] = {}
        """Job id -> its name."""
        self._runs: dict[int, bool] = {}

    def run(self) -> None:
        with self._http:
            while time.monotonic() < self._until:
                try:
                    self._do_something()
                except AssertionError as violation:
                    self._world.report.violations.append(f"{self.name}: {violation}")
            for job_id in self._own:
                try:
                    self._compare(job_id)
                except AssertionError as violation:
                    self._world.report.violations.append(f"{self.name} at the end: {violation}")

    def _do_something(self) -> None:
        if len(self._own) < _JOBS_OF_A_CLIENT:
            self._add()
        elif self._random.random() < 0.2:
            self._list()
        elif self._random.random() < 0.25:
            job_id = self._random.choice(self._world.contested)
            self._send(self._random.choice(("run", "cancel", "restart")), job_id)
        else:
            job_id = self._random.choice(list(self._own))
            self._compare(job_id)
            self._change(job_id)

    def _add(self) -> None:
        name = f"job {self._number} {len(self._own)}"
        body = self._world.job(name, self._number)
        answer, again = self._ask("add", "POST", "/jobs/addDO", json=body)
        if answer["success"]:
            job_id = int(answer["data"]["id"])
        else:
            assert again, f"a new job was refused: {answer['msg']}"
            assert "There is a job called" in answer["msg"], answer["msg"]
            found, _ = self._ask("list", "GET", "/jobs/list", params={"jobName": name})
            job_id = int(found["data"]["records"][0]["id"])
        self._own[job_id], self._runs[job_id] = name, False

    def _list(self) -> None:
        answer, _ = self._ask("list", "GET", "/jobs/list", params={"pageSize": 100})
        assert answer["success"], answer["msg"]
        listed = {int(one["id"]) for one in answer["data"]["records"]}
        assert listed >= self._own.keys(), "a job that was stored is not in the list"

    def _change(self, job_id: int) -> None:
        runs = self._runs[job_id]
        what = self._random.choice(("cancel", "restart")) if runs else "run"
        answer, again = self._send(what, job_id)
        if answer["success"]:
            self._runs[job_id] = what != "cancel"
        elif again and ("already" in answer["msg"] or "not running" in answer["msg"] or "being" in answer["msg"]):
            # The first time it happened: what it asked for is so, or comes to be so.
            self._runs[job_id] = what != "cancel"
        self._settled(job_id)

    def _send(self, what: str, job_id: int) -> tuple[Json, bool]:
        return self._ask(what, "POST", f"/jobs/{what}/{job_id}")

    def _ask(self, what: str, method: str, path: str, **request: Any) -> tuple[Json, bool]:
        self._asked += 1
        answer, again = self._world.replicas.ask(self._http, self._asked, method, path, **request)
        outcome = "done" if answer["success"] else "refused"
        self._world.report.answers[f"{what} {outcome}{' when asked again' if again else ''}"] += 1
        return answer, again

    def _settled(self, job_id: int) -> Json:
        """The run, once it is where it was to go."""
        deadline = time.monotonic() + _SETTLES_WITHIN_S
        while True:
            answer, _ = self._ask("overview", "GET", f"/jobs/overview/{job_id}")
            run = answer["data"]["run"]
            if run is None or run["state"] not in _LIVE or _is_settled(run):
                return run or {}
            assert time.monotonic() < deadline, f"{self._own[job_id]} is still {run['state']}: {run['reason']}"
            time.sleep(0.2)

    def _compare(self, job_id: int) -> None:
        """What the client was told against what the clusters show."""
        run = self._settled(job_id)
        name = self._own[job_id]
        alive = self._world.alive(name)
        wanted = self._runs[job_id]
        told = "runs" if wanted else "was stopped"
        assert len(alive) == wanted, f"the client was told that {name} {told}, and {alive} run; {run}"
        if wanted:
            assert alive == [run["flinkJobId"]], f"{name} runs as {alive}, the service says {run}"


def _is_settled(run: Json) -> bool:
    return bool(run["state"] == "RUNNING" and run["desired"] == "RUNNING")


@dataclass
class World:
    """All that the clients work on."""

    flink: Simulation
    replicas: Replicas
    report: Report = field(default_factory=Report)
    clusters: list[int] = field(default_factory=list)
    contested: list[int] = field(default_factory=list)
    jar: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self) -> None:
        """Clusters, a jar, and the jobs that all clients drive."""
        with httpx.Client(base_url=self.replicas.services[0].url, timeout=_ANSWER_S) as api:
            for number, address in enumerate(self.flink.addresses):
                query = {"name": f"cluster {number}", "address": address, "type": "1"}
                self.clusters.append(int(_data(api.post("/cluster/add", params=query))["id"]))
            uploaded = api.post("/jars/upload", files={"jarfile": ("program.jar", _program())})
            self.jar = str(_data(uploaded)["id"])
            for number in range(_CONTESTED):
                added = api.post("/jobs/addDO", json=self.job(f"contested {number}", number))
                self.contested.append(int(_data(added)["id"]))

    def job(self, name: str, number: int) -> Json:
        """The body of a new job."""
        cluster = self.clusters[number % len(self.clusters)]
        return {"jobName": name, "jobType": 1, "clusterId": cluster, "useJar": self.jar, "parallelism": 1}

    def known(self) -> dict[str, Any]:
        """What the clusters know; one client at a time asks."""
        with self.lock:
            return self.flink.known()

    def alive(self, name: str) -> list[str]:
        """The ids under which a job runs, on any cluster."""
        ended = ("FINISHED", "FAILED", "CANCELED")
        return [one["id"] for one in self.known()["jobs"] if one["name"] == name and one["state"] not in ended]


def _data(answer: httpx.Response) -> Json:
    envelope = answer.json()
    assert envelope["success"], envelope
    data: Json = envelope["data"]
    return data


def _program() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nMain-Class: a.Program\r\n")
        archive.writestr("a/Program.class", b"\xca\xfe\xba\xbe")
    return buffer.getvalue()


def _holders(database: psycopg.Connection[Any]) -> Counter[str]:
    found = database.execute(
        "SELECT lease_owner, count(*) FROM run WHERE ended_at IS NULL AND lease_owner IS NOT NULL GROUP BY lease_owner"
    )
    return Counter({str(owner): int(count) for owner, count in found.fetchall()})


def _held(service: ServiceProcess, database: psycopg.Connection[Any]) -> int:
    """How many runs it holds; every replica has its process id in its name."""
    assert service.process is not None
    return sum(count for owner, count in _holders(database).items() if f":{service.process.pid}:" in owner)


def _start(service: ServiceProcess) -> None:
    """Start it and wait until it answers, also on a machine that has much else to do."""
    try:
        service.start()
    except AssertionError:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while service.process is not None and service.process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                httpx.get(f"{service.url}/health", timeout=5)
                return
            time.sleep(0.5)
        raise


def _kill_and_measure(services: Sequence[ServiceProcess], database: psycopg.Connection[Any], report: Report) -> None:
    """Kill the one that holds most, and wait until nothing is its own any more; then start it again."""
    held, victim = max(((_held(service, database), service) for service in services), key=lambda entry: entry[0])
    assert victim.process is not None
    mark = f":{victim.process.pid}:"
    victim.kill()
    report.kills += 1
    began = time.monotonic()
    starting = threading.Thread(target=_start, args=(victim,))
    starting.start()
    while any(mark in owner for owner in _holders(database)):
        if time.monotonic() - began > 4 * TAKEOVER_S:
            break
        time.sleep(0.1)
    took = time.monotonic() - began
    if held:
        report.takeovers_s.append(took)
        if took > TAKEOVER_S:
            report.violations.append(f"the runs of a killed replica were taken over after {took:.1f} s")
    starting.join()
    print(f"killed a replica that held {held} runs; they were taken over after {took:.1f} s", flush=True)


def load(postgres: PostgresEndpoint, folder: Path, seconds: float, kill_every_s: float = KILL_EVERY_S) -> Json:
    """Two replicas under load for that long; answers what happened (:meth:`Report.summary`)."""
    with ExitStack() as stack:
        url = stack.enter_context(postgres_schema(postgres))
        flink = stack.enter_context(simulated(folder / "savepoints", _CLUSTERS))
        services = [ServiceProcess(folder / "service", {"HLINK_DATABASE_URL": url}) for _ in range(2)]
        world = World(flink, Replicas(services))
        for service in services:
            stack.callback(service.kill)
            _start(service)
        world.prepare()
        schema = url.rpartition("%3D")[2]
        database = stack.enter_context(
            psycopg.connect(**postgres.parameters(), autocommit=True, options=f"-csearch_path={schema}")
        )
        began = time.monotonic()
        clients = [Client(number, world, began + seconds) for number in range(_CLIENTS)]
        for client in clients:
            client.start()
        for number in range(int(seconds // kill_every_s)):
            time.sleep(max(0.0, began + (number + 0.75) * kill_every_s - time.monotonic()))
            if time.monotonic() > began + seconds:
                break
            _kill_and_measure(services, database, world.report)
        for client in clients:
            client.join(seconds + 4 * _ANSWER_S)
            if client.is_alive():
                world.report.violations.append(f"{client.name} does not end")
        known = world.known()
        return world.report.summary(known["doubled"], len(known["submissions"]))


def main() -> int:
    reader = argparse.ArgumentParser(prog="python -m tests.replicas_under_load", description="Two replicas under load.")
    reader.add_argument("--seconds", type=float, default=300.0, help="how long (default 300)")
    given = reader.parse_args()
    with shared_stack() as endpoints, TemporaryDirectory(prefix="hlink-replicas-") as folder:
        found = load(endpoints.postgres, Path(folder), given.seconds)
    for violation in (*found["violations"], *found["doubled"]):
        print(f"violated: {violation}")
    print(json.dumps(found))
    return 1 if found["violations"] or found["doubled"] else 0


if __name__ == "__main__":
    sys.exit(main())
