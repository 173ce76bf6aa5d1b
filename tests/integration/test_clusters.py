"""Clusters over HTTP, with the stack's real Flink."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlmodel import col, update

from app.access import audit, tokens
from app.errors import Conflict
from app.hlink import family
from app.hlink.answers import envelope
from app.hlink.clusters import Cluster
from app.hlink.clusters import routes as clusters
from app.service import Family, Service
from stream_jobs.local import ports
from stream_jobs.local.endpoints import Endpoints
from tests.services import Serve

Api = httpx.AsyncClient
Json = dict[str, Any]
TIMEOUT_S = 2.0


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[None]:
    known = service.parts[clusters.CONNECTIONS] = family.connected(service)
    yield
    await known.close()


@pytest.fixture
async def service(serve: Serve) -> tuple[Api, Service]:
    """The service with its clusters only: they need no planner."""
    routers, prefixes = [clusters.router, clusters.dashboard], ["/cluster", "/dashboard"]
    return await serve(Family("clusters", routers, prefixes, envelope, connected), flink_timeout_s=TIMEOUT_S)


@pytest.fixture
def api(service: tuple[Api, Service]) -> Api:
    return service[0]


@pytest.fixture
def address(endpoints: Endpoints) -> str:
    return urlsplit(endpoints.flink_url).netloc


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{ports.choose(set())}"


async def add(api: Api, **fields: str) -> Json:
    answer: Json = (await api.post("/cluster/add", params={"name": "main", "type": "1"} | fields)).json()
    return answer


async def moved(api: Api, service: Service, cluster_id: int, address: str) -> None:
    """Make a cluster unreachable without stopping the Flink that other tests use."""
    async with service.database.write() as session:
        await session.exec(update(Cluster).where(col(Cluster.id) == cluster_id).values(address=f"http://{address}"))


async def test_a_cluster_is_asked_and_taken_in(api: Api, endpoints: Endpoints) -> None:
    answer = await add(api, address=endpoints.flink_url, remark="the first")
    assert answer["success"], answer["msg"]
    assert answer["data"]["flinkVersion"].startswith("2.")
    (record,) = (await api.get("/cluster/list")).json()["data"]["records"]
    assert (record["id"], record["name"], record["address"], record["type"], record["remark"], record["delFlag"]) == (
        answer["data"]["id"],
        "main",
        endpoints.flink_url,
        1,
        "the first",
        1,
    )


@pytest.mark.parametrize("written", ["{}", "http://{}", "HTTP://{}/", " {} "])
async def test_addresses_are_normalised(api: Api, address: str, written: str) -> None:
    answer = await add(api, address=written.format(address), type="0")
    assert answer["data"]["address"] == f"http://{address}"


@pytest.mark.parametrize("body", ["json", "data"])
async def test_the_fields_may_come_in_a_body(api: Api, address: str, body: str) -> None:
    fields = {"name": "from a body", "address": address, "type": "1"}
    answer = (await api.post("/cluster/add", **{body: fields})).json()
    assert answer["success"], answer["msg"]


async def test_nothing_at_the_address_is_refused(api: Api, nowhere: str) -> None:
    answer = await add(api, address=nowhere)
    assert (answer["success"], answer["code"]) == (False, -2)
    assert answer["msg"].startswith(f"No Flink cluster answers at http://{nowhere} (")
    assert answer["msg"].endswith("start the cluster, or correct host and port of its REST API (usually 8081)")
    assert (await api.get("/cluster/list")).json()["data"]["total"] == 0


async def test_a_server_that_is_not_flink_is_refused(api: Api) -> None:
    async def answer_anything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer_anything, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        answer = await add(api, address=address)
    assert answer["msg"] == (
        f"address: what answers at http://{address} is not Flink's REST API (GET /overview: HTTP 200) "
        "(give the address of Flink's REST API, usually on port 8081)"
    )


async def test_a_server_that_never_answers_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        began = asyncio.get_running_loop().time()
        answer = await add(api, address=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        took = asyncio.get_running_loop().time() - began
    assert f"(ReadTimeout after {TIMEOUT_S:g} s" in answer["msg"]
    assert took < TIMEOUT_S + 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": " "}, "name: the cluster has no name (give it one)"),
        ({"name": "n" * 201}, "name: it has 201 characters (use at most 200 characters)"),
        (
            {"type": "2"},
            "type: '2' (YARN) is not a type of cluster that jobs run on here (use 1, a standalone cluster)",
        ),
        ({"type": ""}, "type: the type is missing (use 1, a standalone cluster)"),
        ({"address": ""}, "address: the address is missing (write http://host:8081, the address of Flink's REST API)"),
        ({"address": "flink"}, "address: 'flink' lacks its port (write http://host:8081"),
        ({"address": "ftp://h:1"}, "address: 'ftp://h:1' has the scheme ftp (write http://host:8081"),
        ({"address": "h:99999"}, "address: 'h:99999' is not an address (write"),
        (
            {"address": "http://u:s3cret@h:1"},
            "address: the address carries credentials, and addresses are shown (send them in the body",
        ),
    ],
)
async def test_what_cannot_be_a_cluster_is_refused(api: Api, fields: dict[str, str], message: str) -> None:
    answer = await add(api, **({"address": "flink:8081"} | fields))
    assert answer["success"] is False
    assert answer["msg"].startswith(message)
    assert "s3cret" not in answer["msg"]


async def test_a_name_or_an_address_is_taken_only_once(api: Api, address: str) -> None:
    await add(api, address=address)
    assert (await add(api, address="elsewhere:8081"))["msg"] == (
        f"There is a cluster named 'main' already, at http://{address}: choose another name"
    )
    assert (await add(api, name="other", address=f"HTTP://{address}/"))["msg"] == (
        f"The cluster at http://{address} is there already, as 'main': use that one"
    )


async def test_of_two_at_once_one_is_taken(api: Api, address: str) -> None:
    answers = await asyncio.gather(*(add(api, address=address) for _ in range(4)))
    assert sorted(answer["code"] for answer in answers) == [0, 0, 0, 200]


async def test_info_shows_live_figures(api: Api, address: str) -> None:
    cluster_id = (await add(api, address=address))["data"]["id"]
    answer = (await api.get("/cluster/info", params={"clusterId": cluster_id})).json()
    info = answer["data"]
    assert answer["msg"] == ""
    assert (info["name"], info["reachable"], info["observedAgeMs"]) == ("main", True, 0)
    assert info["taskManagerCount"] >= 1
    assert info["slotTotal"] == info["slotAvailableCount"] + info["slotRunningCount"] > 0
    assert min(info[name] for name in ("jobCancelCount", "jobCompleteCount", "jobFailureCount")) >= 0


async def test_a_cluster_that_is_down_is_shown_with_its_last_figures_and_their_age(
    service: tuple[Api, Service], address: str, nowhere: str
) -> None:
    api, running = service
    cluster_id = (await add(api, address=address))["data"]["id"]
    modified = (await api.get("/cluster/info", params={"clusterId": cluster_id})).json()["data"]["modifyTime"]
    await moved(api, running, cluster_id, nowhere)
    await asyncio.sleep(0.05)
    response = await api.get("/cluster/info", params={"clusterId": cluster_id})
    answer = response.json()
    assert (response.status_code, answer["success"]) == (200, True)
    assert answer["data"]["reachable"] is False
    assert answer["data"]["slotTotal"] > 0
    assert 50 <= answer["data"]["observedAgeMs"] < 10_000
    assert answer["data"]["observedTime"] >= modified
    assert answer["msg"].startswith(f"main at http://{nowhere} does not answer, and its figures are ")


async def test_to_be_looked_at_is_not_to_be_modified(api: Api, address: str) -> None:
    cluster_id = (await add(api, address=address))["data"]["id"]
    before = (await api.get("/cluster/list")).json()["data"]["records"][0]["modifyTime"]
    await asyncio.sleep(0.02)
    await api.get("/cluster/info", params={"clusterId": cluster_id})
    assert (await api.get("/cluster/list")).json()["data"]["records"][0]["modifyTime"] == before


async def test_an_unknown_cluster_is_not_found(api: Api) -> None:
    response = await api.get("/cluster/info", params={"clusterId": "7"})
    assert (response.status_code, response.json()["code"]) == (200, -8)
    assert response.json()["msg"] == "There is no cluster 7: /cluster/list shows those there are"
    answer = (await api.get("/cluster/info", params={"clusterId": "main"})).json()
    assert answer["msg"] == "clusterId: 'main' is not the id of a cluster (take one from /cluster/list)"


async def test_the_dashboard_sums_the_clusters_and_names_those_that_are_down(
    service: tuple[Api, Service], address: str, nowhere: str
) -> None:
    api, running = service
    assert (await api.get("/dashboard/clusterInfo")).json()["data"]["slotsTotal"] == 0
    first = (await add(api, address=address))["data"]["id"]
    one = (await api.get("/dashboard/clusterInfo", params={"clusterId": first})).json()["data"]
    assert one["flinkVersion"].startswith("2.")
    assert one["flinkCommit"]
    assert one["slotsTotal"] > 0
    await moved(api, running, first, nowhere)
    await add(api, name="second", address=address)
    both = (await api.get("/dashboard/clusterInfo")).json()["data"]
    assert both["slotsTotal"] == 2 * one["slotsTotal"]
    assert both["unreachable"] == ["main"]
    assert both["reachable"] is False


async def test_lists_filter_by_every_field(service: tuple[Api, Service], address: str, nowhere: str) -> None:
    api, running = service
    first = (await add(api, name="Alpha", address=address, remark="100% ours"))["data"]["id"]
    await moved(api, running, first, nowhere)
    second = (await add(api, name="beta", address=address, type="0"))["data"]["id"]

    async def found(path: str, **query: Any) -> list[str]:
        data = (await api.get(path, params=query)).json()["data"]
        return [record["name"] for record in (data if isinstance(data, list) else data["records"])]

    for path in ("/cluster/list", "/cluster/check/list"):
        assert await found(path) == ["beta", "Alpha"]
        assert await found(path, name="ALP") == ["Alpha"]
        assert await found(path, address=nowhere.split(":")[1]) == ["Alpha"]
        assert await found(path, type=0) == ["beta"]
        assert await found(path, remark="100%") == ["Alpha"]
        assert await found(path, createBy="nobody") == []
        assert await found(path, createTime="2001-01-01") == []
        created = (await api.get(path, params={"name": "beta"})).json()["data"]
        created = (created if isinstance(created, list) else created["records"])[0]["createTime"]
        assert "beta" in await found(path, createTime=created, modifyTime=created[:10])
    slots = (await api.get("/cluster/info", params={"clusterId": second})).json()["data"]["slotTotal"]
    assert await found("/cluster/check/list", slotTotal=slots + 1) == []
    assert "beta" in await found("/cluster/check/list", slotTotal=slots, id=second, delFlag=1)
    assert await found("/cluster/check/list", delFlag=0) == []
    assert await found("/cluster/list", curPage=2, pageSize=1) == ["Alpha"]


async def test_a_time_that_is_none_is_refused(api: Api) -> None:
    answer = (await api.get("/cluster/list", params={"createTime": "yesterday"})).json()
    assert "'yesterday' is not an ISO 8601 date or time" in answer["msg"]


async def test_given_a_token_then_its_name_is_on_the_record_and_in_the_audit_log(
    service: tuple[Api, Service], address: str
) -> None:
    api, running = service
    token = await tokens.create(running.database, "ci", "admin", lasts_ms=3_600_000)
    await tokens.create(running.database, "reader", "viewer")
    with pytest.raises(Conflict, match="There is a token named 'ci' already"):
        await tokens.create(running.database, "ci", "viewer")
    api.headers["Authorization"] = f"Bearer {token}"

    cluster_id = (await add(api, address=address))["data"]["id"]
    info = (await api.get("/cluster/info", params={"clusterId": cluster_id})).json()["data"]
    assert (info["createBy"], info["modifyBy"]) == ("ci", "ci")
    async with running.database.read() as session:
        rows, total = await audit.page(session, [], 0, 10)
    assert (total, rows[0].who, rows[0].subjects, rows[0].success) == (1, "ci", f"id={cluster_id}", True)
    await api.delete("/cluster/delete", params={"id": cluster_id, "jobId": "\x00" + 600 * "x"})
    async with running.database.read() as session:
        rows, total = await audit.page(session, [], 0, 10)
    assert (total, rows[0].path, rows[0].success) == (2, "/cluster/delete", True)
    assert rows[0].subjects.startswith(f"id={cluster_id}, ")
    used = {one.name: one.last_used_at for one in await tokens.every(running.database)}
    assert used["ci"] is not None
    assert used["reader"] is None

    assert await audit.forget(running.database, days=1) == 0
    await tokens.revoke(running.database, "ci")
    running.tokens = tokens.Tokens(running.database)  # another replica, which has read nothing yet
    assert (await api.get("/cluster/list")).status_code == 401
