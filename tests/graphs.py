"""The API of visual experiments, with the few words that tests need to draw a graph and to run it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

Json = dict[str, Any]

WITHIN_S = 120.0


class Experiments:
    """Asks over HTTP; what is not a success fails."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def ok(self, method: str, path: str, **request: Any) -> Any:
        """The answer's ``obj``."""
        answer = await self.client.request(method, f"/visualmodule{path}", timeout=120, **request)
        body = answer.json()
        assert (answer.status_code, body["status"]) == (200, 200), body
        return body["obj"]

    async def refused(self, method: str, path: str, **request: Any) -> tuple[int, str]:
        """The status and the message of an answer that is no success."""
        answer = await self.client.request(method, f"/visualmodule{path}", timeout=120, **request)
        body = answer.json()
        assert answer.status_code == body["status"] != 200, body
        return answer.status_code, body["msg"]

    async def experiment(self, name: str, **fields: Any) -> int:
        body = {"expName": name, "expPattern": 1, "learnType": 1, "frameId": 1, **fields}
        return int((await self.ok("POST", "/experiment", json=body))["expId"])

    async def job(self, experiment: int, graph: Sequence[Json], **fields: Any) -> tuple[int, dict[str, int]]:
        """A new job; its id, and the ids of its nodes by their names."""
        added = await self.ok("POST", "/job", json={"expId": experiment, "jobPattern": 1, "graph": graph, **fields})
        return int(added["jobId"]), added["nodeIds"]

    async def run(self, job: int, **fields: Any) -> Json:
        """Run a job to its end; its status then."""
        await self.ok("POST", "/job/run", json={"jobId": job, **fields})
        return await self.until(job, lambda status: status["jobStatus"] in (3, 4, 5))

    async def until(self, job: int, holds: Any) -> Json:
        """The status of a job as soon as it is so."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            status: Json = await self.ok("GET", f"/job/status/{job}")
            if holds(status):
                return status
            assert time.monotonic() < deadline, status
            await asyncio.sleep(0.1)

    async def data_set(self, content: str | bytes, name: str = "data.csv") -> int:
        """A table of one's own, which is whole and looked into; its id."""
        content = content.encode() if isinstance(content, str) else content
        data_id = int((await self.ok("POST", "/dataset", json={"dataType": 2, "dataSource": 1}))["dataId"])
        digest = hashlib.md5(content).hexdigest()
        form = {"dataId": data_id, "fileMd5": digest, "fileName": name, "fragmentMd5": digest}
        form |= {"fragmentName": f"{name}.0", "fragmentIndex": 0, "fragmentCount": 1}
        sent = {key: str(value) for key, value in form.items()}
        await self.ok("POST", "/dataset/file", data=sent, files={"file": (name, content)})
        deadline = time.monotonic() + WITHIN_S
        while (await self.ok("GET", f"/dataset/{data_id}"))["dataStatus"] != 3:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        return data_id

    async def file(self, path: str, **query: Any) -> bytes:
        """What a download brings."""
        answer = await self.client.get(f"/visualmodule{path}", params=query, timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.content

    async def rows(self, job: int, node: int, port: str = "data", **query: Any) -> Json:
        """A page of a table that a node brought out."""
        asked = {"jobId": job, "nodeId": node, "portName": port, **query}
        found: Json = await self.ok("GET", "/job/rows", params=asked)
        return found

    async def figures(self, job: int, node: int, port: str) -> Mapping[str, list[Json]]:
        """What is drawn of an output, by the way it is drawn."""
        found: dict[str, list[Json]] = {}
        for one in await self.ok("GET", "/job/index", params={"jobId": job, "nodeId": node, "portName": port}):
            found.setdefault(one["front"], []).append(one["data"])
        return found


def node(name: str, component: str, parameters: Mapping[str, Any] | None = None, **inputs: str) -> Json:
    """A node as a client sends it. ``inputs`` are input port -> ``name.port`` of the node that it is tied to."""
    edges = [
        {"from_id": source.partition(".")[0], "from_port": source.partition(".")[2], "to_id": name, "to_port": port}
        for port, source in inputs.items()
    ]
    return {
        "nodeId": name,
        "topPx": 10,
        "leftPx": 20,
        "nodeEdge": edges,
        "nodeAttr": [{"key": key, "value": value} for key, value in (parameters or {}).items()],
        "cpntInfo": {"uuid": component},
    }
