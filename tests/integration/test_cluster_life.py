"""Clusters in use: behind a proxy that wants a login, modified and deleted while jobs are there."""

from __future__ import annotations

import base64
import sqlite3
import uuid
from collections.abc import Callable, Iterator

import pytest

from stream_jobs.local.endpoints import Endpoints
from tests.proxies import Proxy, proxy_before
from tests.services import Api, Json, ServiceProcess

PASSWORD = "s3cret-of-the-gate"
BASIC = f"Basic {base64.b64encode(f'hlink:{PASSWORD}'.encode()).decode()}"


@pytest.fixture
def proxy(endpoints: Endpoints) -> Iterator[Proxy]:
    with proxy_before(endpoints.flink_url) as running:
        running.accepted = {BASIC}
        yield running


@pytest.fixture
def name() -> str:
    return f"gate {uuid.uuid4().hex[:8]}"


def add(api: Api, proxy: Proxy, name: str, **login: str) -> Json:
    return api.call("POST", "/cluster/add", json={"name": name, "address": proxy.url, "type": "1", **login})


def make_job(api: Api, kafka_topic: Callable[..., str], cluster: int) -> tuple[int, str]:
    tag = uuid.uuid4().hex[:8]
    source = api.kafka_source(f"in_{tag}", kafka_topic("in"), {"k": "STRING"})
    sink = api.kafka_sink(f"out_{tag}", kafka_topic("out"), {"k": "STRING"})
    body = api.job(f"job {tag}", [source], {sink: f"SELECT k FROM in_{tag}"}) | {"clusterId": cluster}
    return int(api.ok("POST", "/jobs/addDO", json=body)["id"]), body["jobName"]


def test_given_a_login_then_a_job_runs_and_is_seen_through_the_proxy_and_the_cluster_stays_while_it_does(
    api: Api, proxy: Proxy, name: str, kafka_topic: Callable[..., str]
) -> None:
    added = add(api, proxy, name, username="hlink", password=PASSWORD)
    assert added["success"], added["msg"]
    cluster = added["data"]["id"]
    job, job_name = make_job(api, kafka_topic, cluster)
    try:
        api.run(job)
        assert api.ok("GET", f"/jobs/overview/{job}")["flink"]["state"] == "RUNNING"
        assert any(one.startswith("POST /gate/v1/jobs") for one in proxy.let_in)

        refused = api.refused("DELETE", "/cluster/delete", params={"id": cluster})
        assert refused["msg"].startswith(f"Cluster '{name}' is used by {job_name}: ")
        moved = api.refused(
            "PUT", "/cluster/update", json={"id": cluster, "address": "elsewhere:8081", "password": "x"}
        )
        assert moved["msg"] == f"Cluster '{name}' cannot move while jobs run on it: stop {job_name} first"
        # The password changes while the job runs: nothing is restarted, and it is still watched.
        proxy.accepted = {"Bearer another-one"}
        changed = api.ok("PUT", "/cluster/update", json={"id": cluster, "token": "another-one"})
        assert changed["name"] == name
        assert api.ok("GET", "/cluster/info", params={"clusterId": cluster})["reachable"] is True
    finally:
        api.cancel(job, mode="none")


def test_given_no_or_a_wrong_login_then_the_cluster_is_refused_with_the_remedy(
    api: Api, proxy: Proxy, name: str
) -> None:
    answer = add(api, proxy, name)
    assert (answer["code"], answer["msg"]) == (
        -3,
        f"password: what answers at {proxy.url} asks for a login (HTTP 401) "
        "(give username and password, or token, of the proxy before the cluster)",
    )
    assert "refuses the login (HTTP 401)" in add(api, proxy, name, username="hlink", password="wrong")["msg"]
    assert "refuses the login (HTTP 401)" in add(api, proxy, name, token=PASSWORD)["msg"]


@pytest.mark.parametrize(
    ("login", "message"),
    [
        ({"username": "u"}, "password: there is a username without it (give the password, too)"),
        (
            {"username": "u", "password": "p", "token": "t"},
            "token: there are a token and a password (give one of them)",
        ),
        ({"token": "Bearer t"}, "token: it has characters that no token has (give it without 'Bearer' and spaces)"),
    ],
)
def test_given_half_a_login_then_it_is_refused(
    api: Api, proxy: Proxy, name: str, login: dict[str, str], message: str
) -> None:
    assert add(api, proxy, name, **login)["msg"] == message


def test_given_a_login_then_it_is_masked_in_answers_and_encrypted_at_rest(
    api: Api, service: ServiceProcess, proxy: Proxy, name: str
) -> None:
    cluster = add(api, proxy, name, username="hlink", password=PASSWORD)["data"]["id"]
    shown = api.ok("GET", "/cluster/info", params={"clusterId": cluster})
    assert (shown["username"], shown["password"], shown["token"]) == ("hlink", "******", None)
    with sqlite3.connect(service.home / "hlink.db") as database:
        assert PASSWORD not in "\n".join(database.iterdump())
    assert PASSWORD not in service.log.read_text()


def test_given_the_mask_then_the_login_is_as_it_was_but_not_for_another_address(
    api: Api, proxy: Proxy, endpoints: Endpoints, name: str
) -> None:
    cluster = add(api, proxy, name, username="hlink", password=PASSWORD)["data"]["id"]
    api.ok("PUT", "/cluster/update", json={"id": cluster, "name": f"{name}!", "password": "******", "remark": "new"})
    shown = api.ok("GET", "/cluster/info", params={"clusterId": cluster})
    assert (shown["name"], shown["remark"], shown["reachable"]) == (f"{name}!", "new", True)

    with proxy_before(endpoints.flink_url) as other:
        stolen = api.refused("PUT", "/cluster/update", json={"id": cluster, "address": other.url})
        assert stolen["msg"].startswith("password: another address is not sent the login of the old one")
        assert other.let_in == []
        other.accepted = {BASIC}
        api.ok("PUT", "/cluster/update", json={"id": cluster, "address": other.url, "password": PASSWORD})
        assert api.ok("GET", "/cluster/info", params={"clusterId": cluster})["reachable"] is True


def test_given_an_update_then_what_is_not_given_stays_and_what_cannot_be_is_refused(
    api: Api, proxy: Proxy, name: str
) -> None:
    cluster = add(api, proxy, name, username="hlink", password=PASSWORD)["data"]["id"]
    api.ok("PUT", "/cluster/update", params={"id": cluster, "remark": "by query"})
    shown = api.ok("GET", "/cluster/info", params={"clusterId": cluster})
    assert (shown["name"], shown["address"], shown["remark"]) == (name, proxy.url, "by query")

    api.cluster()
    assert (
        "There is a cluster named 'main'"
        in api.refused("PUT", "/cluster/update", params={"id": cluster, "name": "main"})["msg"]
    )
    assert api.refused("PUT", "/cluster/update", params={"name": "x"})["msg"].startswith("id: it is not said which")
    assert api.refused("PUT", "/cluster/update", params={"id": 7, "name": "x"})["code"] == -8
    wrong = api.refused("PUT", "/cluster/update", json={"id": cluster, "password": "wrong"})
    assert "refuses the login" in wrong["msg"]
    assert api.ok("GET", "/cluster/info", params={"clusterId": cluster})["reachable"] is True


def test_given_a_cluster_that_nothing_uses_then_it_is_deleted_and_its_name_and_address_are_free(
    api: Api, proxy: Proxy, name: str
) -> None:
    login = {"username": "hlink", "password": PASSWORD}
    cluster = add(api, proxy, name, **login)["data"]["id"]
    assert api.ok("DELETE", "/cluster/delete", params={"id": cluster}) == {"id": cluster, "name": name}
    assert api.refused("GET", "/cluster/info", params={"clusterId": cluster})["code"] == -8
    assert api.refused("DELETE", "/cluster/delete", params={"id": cluster})["code"] == -8
    assert add(api, proxy, name, **login)["success"]
