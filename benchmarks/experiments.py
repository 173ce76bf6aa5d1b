"""What experiments cost beyond what they compute, and whether they do no more than they must.

A graph over HTTP is held against the same pipeline as a plain script (``plain_pipeline.py``), a whole process with the
same libraries, run in turn; each time with a seed of its own, so that no run before has done the same. Both have to
come to the same figures. The service is the real one, ``hlink serve``, on SQLite.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import psutil

from benchmarks import ours
from benchmarks.http import Failed
from benchmarks.processes import wait_until
from benchmarks.report import p50, p99
from stream_jobs.local import processes

Figures = dict[str, float | int]
Graph = Sequence[Mapping[str, Any]]

_POLL_S = 0.05
_WITHIN_S = 300.0
_STOPPED, _SUCCEEDED, _FAILED = 3, 4, 5
_RUNNING, _UPLOADED = 2, 3
_BREAST_CANCER = 3
"""The data set's id."""
_SCRIPT = Path(__file__).with_name("plain_pipeline.py")
_ROUNDS = 9
_BRANCH_ROUNDS = 3
_RUNNING_AT_ONCE, _WAITING = 2, 50
_WAITED_S = 40.0
_MIB = 1024**2
_FRAGMENT = 64 * _MIB
_UPLOADED_FRAGMENTS, _CSV_FRAGMENTS = 16, 80
_PAGE, _ROWS = 1_000_000, 20
_PAGES = 50


def _node(name: str, component: str, parameters: Mapping[str, Any] | None = None, **inputs: str) -> dict[str, Any]:
    """A node; ``inputs`` are input port -> ``name.port`` of the node that it is tied to."""
    edges = [
        dict(zip(("from_id", "from_port", "to_id", "to_port"), (*source.split("."), name, port), strict=True))
        for port, source in inputs.items()
    ]
    attributes = [{"key": key, "value": value} for key, value in (parameters or {}).items()]
    return {"nodeId": name, "nodeEdge": edges, "nodeAttr": attributes, "cpntInfo": {"uuid": component}}


PIPELINE: Graph = (
    _node("read", "sklearn.dataset", {"dataset": _BREAST_CANCER}),
    _node("split", "sklearn.train_test_split", {"test_size": 0.3}, data="read.data"),
    _node("fill", "sklearn.simple_imputer", data="split.train", test="split.test"),
    _node("scale", "sklearn.standard_scaler", data="fill.data", test="fill.test"),
    _node("select", "sklearn.select_k_best", {"k": 20}, data="scale.data", test="scale.test"),
    _node("learn", "sklearn.logistic_regression", data="select.data"),
    _node("trees", "sklearn.random_forest_classifier", data="select.data"),
    _node("judge", "sklearn.evaluate_classification", model="learn.model", data="select.test"),
    _node("judge trees", "sklearn.evaluate_classification", model="trees.model", data="select.test"),
    _node("folds", "sklearn.cross_validation", pipeline="learn.pipeline", data="split.train"),
)
"""Ten nodes."""


def _work(branches: int) -> Graph:
    """Branches that compute for several seconds each, on one processor, and have little to bring out."""
    return (
        _node("read", "sklearn.dataset", {"dataset": _BREAST_CANCER}),
        _node("scale", "sklearn.standard_scaler", data="read.data"),
        _node("learn", "sklearn.k_neighbors_classifier", data="scale.data"),
        *(
            _node(
                f"branch {number}",
                "sklearn.permutation_importance",
                {"n_repeats": 25, "random_state": number},
                model="learn.model",
                data="scale.data",
            )
            for number in range(branches)
        ),
    )


class _Client:
    """The API of experiments, with one of them."""

    def __init__(self, service: ours.Service) -> None:
        self.service = service
        self.ok = service.visual
        wanted = {"expName": "bench", "expPattern": 1, "learnType": 1, "frameId": 1}
        self.experiment = self.ok("POST", "/experiment", wanted)["expId"]

    def job(self, graph: Graph) -> tuple[str, dict[str, Any]]:
        """A new job; its id, and the ids of its nodes by their names."""
        added = self.ok("POST", "/job", {"expId": self.experiment, "jobPattern": 1, "graph": list(graph)})
        return added["jobId"], added["nodeIds"]

    def begin(self, job: str, seed: int) -> None:
        self.ok("POST", "/job/run", {"jobId": job, "seed": seed})

    def status(self, job: str) -> int:
        return int(self.ok("GET", f"/job/status/{job}")["jobStatus"])

    def run(self, job: str, seed: int) -> float:
        """Seconds from the call until it is seen to have succeeded."""
        began = time.perf_counter()
        self.begin(job, seed)
        while (status := self.status(job)) != _SUCCEEDED:
            if status in (_STOPPED, _FAILED) or time.perf_counter() - began > _WITHIN_S:
                raise Failed(f"a graph has not succeeded: {self.ok('GET', f'/job/status/{job}')}")
            time.sleep(_POLL_S)
        return time.perf_counter() - began

    def ran(self, job: str) -> set[Any]:
        """The nodes that the newest run did not take from an earlier one."""
        return {node["nodeId"] for node in self.ok("GET", f"/job/{job}")["graph"] if not node["reused"]}

    def table(self, job: str, node: Any) -> dict[str, list[Any]]:
        """The first table among a node's metrics."""
        query = urlencode({"jobId": job, "nodeId": node, "portName": "metrics"})
        found = self.ok("GET", f"/job/index?{query}")
        table: dict[str, list[Any]] = next(one["data"] for one in found if one["front"] == "table")
        return table


def experiments(environment: Mapping[str, str], home: Path, say: Callable[[str], None]) -> Figures:
    """All figures; nothing of it is left in ``home`` but logs."""
    figures: Figures = {}
    with _served(environment, home / "experiments") as client:
        say(f"a graph of {len(PIPELINE)} nodes and the same as a script, {_ROUNDS} times each")
        figures |= _against_script(client)
        figures |= _rerun(client)
        with _served({**environment, "HLINK_VISUAL_PROCESSORS": "1"}, home / "experiments-1") as one:
            say(f"two branches on two processors and on one, {_BRANCH_ROUNDS} times each")
            figures |= _branches(client, one)
        say(f"{_RUNNING_AT_ONCE} experiments that run and {_WAITING} that wait, {_WAITED_S:.0f} s")
        figures |= _waiting(client)
        say(f"a file of {_UPLOADED_FRAGMENTS * _FRAGMENT // _MIB} MiB in fragments")
        figures |= _upload(client)
        say(f"page {_PAGE} of a CSV file of {_CSV_FRAGMENTS * _FRAGMENT // _MIB} MiB")
        figures |= _pages(client)
    return figures


@contextmanager
def _served(environment: Mapping[str, str], home: Path) -> Iterator[_Client]:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    try:
        with ours.started({**environment, "HLINK_HOME": str(home)}, home.with_suffix(".log")) as service:
            yield _Client(service)
    finally:
        # Runs outlive the service that started them.
        for left in processes.mentioning(home / "visual"):
            with suppress(psutil.NoSuchProcess):
                left.kill()
        shutil.rmtree(home, ignore_errors=True)


def _against_script(client: _Client) -> Figures:
    job, nodes = client.job(PIPELINE)
    graphs: list[float] = []
    scripts: list[float] = []
    for seed in range(_ROUNDS + 1):
        if seed % 2:
            took, (script_took, plain) = client.run(job, seed), _script(seed)
        else:
            (script_took, plain), took = _script(seed), client.run(job, seed)
        _compare(client, job, nodes, plain)
        if seed:  # the first of each side finds its files not yet read
            graphs.append(took)
            scripts.append(script_took)
    return {
        "graph_s": p50(graphs),
        "script_s": p50(scripts),
        "graph_over_script_s": median(ours - theirs for ours, theirs in zip(graphs, scripts, strict=True)),
        "graph_samples": len(graphs),
    }


def _script(seed: int) -> tuple[float, dict[str, float]]:
    """Seconds of the whole process, and what it came to."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-P", str(_SCRIPT), str(seed)], capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise Failed(f"the script fails: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return took, found


def _compare(client: _Client, job: str, nodes: Mapping[str, Any], plain: Mapping[str, float]) -> None:
    def area(node: str) -> float:
        table = client.table(job, nodes[node])
        return float(table["value"][table["metric"].index("ROC AUC")])

    ours = {"learnt": area("judge"), "trees": area("judge trees")}
    ours["folds"] = float(sum(client.table(job, nodes["folds"])["accuracy"])) / 5
    if wrong := [name for name, value in ours.items() if not math.isclose(value, plain[name], abs_tol=1e-9)]:
        raise Failed(f"the graph and the script come to different figures ({wrong}): {ours}, {dict(plain)}")


def _rerun(client: _Client) -> Figures:
    """How many nodes run again when one was changed that one other needs."""
    job, nodes = client.job(PIPELINE)
    client.run(job, 0)
    changed = _node("trees", "sklearn.random_forest_classifier", {"n_estimators": 50}, data="select.data")
    edge = {**changed["nodeEdge"][0], "from_id": nodes["select"], "to_id": nodes["trees"]}
    client.ok("PUT", "/job", {"jobId": job, "graph": [{**changed, "nodeId": nodes["trees"], "nodeEdge": [edge]}]})
    client.run(job, 0)
    ran = client.ran(job)
    if not {nodes["trees"], nodes["judge trees"]} <= ran:
        raise Failed(f"a changed node, or what needs it, was not run again: {ran} of {nodes}")
    return {"rerun_nodes": len(ran)}


def _branches(two: _Client, one: _Client) -> Figures:
    jobs = [(client, client.job(_work(2))[0]) for client in (two, one)]
    took: tuple[list[float], list[float]] = ([], [])
    for seed in range(_BRANCH_ROUNDS):
        for which in (0, 1) if seed % 2 else (1, 0):
            client, job = jobs[which]
            took[which].append(client.run(job, seed))
    return {
        "branches_s": p50(took[0]),
        "branches_one_by_one_s": p50(took[1]),
        "branches_speedup": p50(took[1]) / p50(took[0]),
    }


def _waiting(client: _Client) -> Figures:
    # More than can be done meanwhile: those that run are stopped in the end, and must not have ended by themselves.
    jobs = [client.job(_work(24))[0] for _ in range(_RUNNING_AT_ONCE + _WAITING)]
    for number, job in enumerate(jobs):
        client.begin(job, number)

    def at_once() -> bool:
        return [client.status(job) for job in jobs].count(_RUNNING) == _RUNNING_AT_ONCE

    wait_until(f"{_RUNNING_AT_ONCE} experiments that run", at_once, _WITHIN_S)
    time.sleep(5.0)
    service = psutil.Process(client.service.pid)
    before, began = service.cpu_times(), time.monotonic()
    time.sleep(_WAITED_S)
    after, lasted = service.cpu_times(), time.monotonic() - began
    if not at_once():
        raise Failed(f"not {_RUNNING_AT_ONCE} experiments run any more")
    for job in reversed(jobs):
        client.ok("POST", "/job/stop", {"jobId": job})
    wait_until("their end", lambda: all(client.status(job) == _STOPPED for job in jobs), _WITHIN_S)
    return {"waiting_cores": (after.user + after.system - before.user - before.system) / lasted}


class _File:
    """A CSV file that is one block of rows, again and again, so that a fragment is made once."""

    def __init__(self, fragments: int) -> None:
        row = b"%08d,UA,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z,this row is one of very many,%08d.5\n"
        self.rows = _FRAGMENT // len(row % (0, 0))
        self.header = b"id,carrier,tail,origin,dest,air_time,distance,hour,minute,time,note,value\n"
        self.block = b"".join(row % (number, number) for number in range(self.rows))
        self.fragments = fragments
        whole = hashlib.md5(self.header, usedforsecurity=False)
        first = hashlib.md5(self.header + self.block, usedforsecurity=False).hexdigest()
        block = hashlib.md5(self.block, usedforsecurity=False).hexdigest()
        for _ in range(fragments):
            whole.update(self.block)
        self.md5 = whole.hexdigest()
        self.digests = [first, *[block] * (fragments - 1)]

    @property
    def size(self) -> int:
        return len(self.header) + self.fragments * len(self.block)

    def send(self, client: _Client) -> tuple[str, float]:
        """Upload it; the data set's id, and the seconds until the last fragment is answered."""
        made = client.ok("POST", "/dataset", {"dataType": 2, "dataSource": 1})["dataId"]
        began = time.perf_counter()
        connection = http.client.HTTPConnection(*client.service.address, timeout=_WITHIN_S)
        try:
            for number, digest in enumerate(self.digests):
                self._send(connection, made, number, digest)
        finally:
            connection.close()
        took = time.perf_counter() - began
        wait_until("the whole file", lambda: self._is_whole(client, made), _WITHIN_S)
        return made, took

    def _is_whole(self, client: _Client, data_id: str) -> bool:
        return bool(client.ok("GET", f"/dataset/{data_id}")["dataStatus"] == _UPLOADED)

    def _send(self, connection: http.client.HTTPConnection, data_id: str, number: int, digest: str) -> None:
        boundary = "bench-of-fragments"
        fields = {
            "dataId": data_id, "fileMd5": self.md5, "fileName": "rows.csv", "fragmentMd5": digest,
            "fragmentName": f"rows.csv.{number}", "fragmentIndex": number, "fragmentCount": self.fragments,
        }  # fmt: skip
        part = f'--{boundary}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
        head = "".join(f"{part.format(name, '')}{value}\r\n" for name, value in fields.items())
        head += part.format("file", '; filename="rows.csv"')
        pieces = [
            head.encode(),
            *([self.header] if number == 0 else []),
            self.block,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
        connection.request(
            "POST",
            "/visualmodule/dataset/file",
            iter(pieces),
            {
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(sum(map(len, pieces))),
            },
        )
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise Failed(f"fragment {number}: {answer.status} {said[:2000].decode()}")


def _upload(client: _Client) -> Figures:
    file = _File(_UPLOADED_FRAGMENTS)
    data_id, took = file.send(client)
    client.ok("DELETE", f"/dataset/{data_id}")
    return {"upload_mb_s": file.size / 1e6 / took}


def _pages(client: _Client) -> Figures:
    file = _File(_CSV_FRAGMENTS)
    data_id, _ = file.send(client)
    took: list[float] = []
    for page in range(_PAGE, _PAGE + _PAGES):
        began = time.perf_counter()
        found = client.ok("GET", f"/dataset/csv?{urlencode({'dataId': data_id, 'page': page, 'limit': _ROWS})}")
        took.append((time.perf_counter() - began) * 1000)
        first = (page - 1) * _ROWS % file.rows
        if [row[0] for row in found["data"]] != [f"{(first + row) % file.rows:08d}" for row in range(_ROWS)]:
            raise Failed(f"page {page} has other rows than the file: {found['data']}")
    client.ok("DELETE", f"/dataset/{data_id}")
    return {"csv_mib": file.size // _MIB, "csv_page_ms": p50(took), "csv_page_p99_ms": p99(took)}
