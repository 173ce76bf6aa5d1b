"""Looking after jobs on a real Flink: their figures in /metrics, and who is told when one fails and runs again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_jobs.local.endpoints import Endpoints
from tests.airport import Airport
from tests.java import jar_of
from tests.receivers import Mailbox, Webhook, mailbox, webhook
from tests.services import Api, Json, ServiceProcess, running_service

SETTINGS = {
    "HLINK_FIGURES_S": "1",
    "HLINK_NOTIFY_STEADY_S": "15",
    "HLINK_LAG_RECORDS": "50",
    "HLINK_LAG_FOR_S": "0",
    "HLINK_FLAPPING_RESTARTS": "2",
}
"""Impatient, so that a test need not be patient."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("service"), **SETTINGS) as started:
        yield started


@pytest.fixture(scope="module")
def api(service: ServiceProcess, endpoints: Endpoints) -> Api:
    return Api(service.url, endpoints)


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook() as started:
        yield started


@pytest.fixture(scope="module")
def mails() -> Iterator[Mailbox]:
    with mailbox() as started:
        yield started


def figures(api: Api, job_id: int) -> dict[str, dict[str, float]]:
    """The job's samples by metric and by the label that tells them apart."""
    text = api.http.get("/metrics").text
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("job_id") == str(job_id):
                key = sample.labels.get("source") or sample.labels.get("state") or ""
                found.setdefault(sample.name, {})[key] = sample.value
    return found


def until(api: Api, job_id: int, holds: Callable[[dict[str, dict[str, float]]], bool]) -> dict[str, dict[str, float]]:
    """The job's figures, once they are so: Flink fetches its metrics every ten seconds."""
    deadline = time.monotonic() + 90
    while not holds(found := figures(api, job_id)):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def test_a_running_jobs_figures_are_in_metrics_and_leave_with_it(api: Api, airport: Airport) -> None:
    sql = (
        f"SELECT k, CAST(NULL AS STRING), SUM(v) FROM TABLE(TUMBLE(TABLE {airport.events}, DESCRIPTOR(ts), "
        "INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end"
    )
    job_id = airport.add(sql, checkpointInterval=500)
    api.run(job_id)
    # The topic's rows are of January: the watermark is far behind.
    found = until(
        api,
        job_id,
        lambda found: all(
            name in found
            for name in (
                "hlink_job_watermark_lag_seconds",
                "hlink_job_checkpoint_seconds",
                "hlink_job_back_pressure_ratio",
                "hlink_job_records_in_per_second",
                "hlink_job_records_out_per_second",
                "hlink_job_lag_records",
            )
        ),
    )
    assert found["hlink_job_state"] == {"RUNNING": 1.0}
    assert found["hlink_job_lag_records"] == {airport.events: 0.0}
    assert found["hlink_job_restarts"] == {"": 0.0}
    assert found["hlink_job_watermark_lag_seconds"][""] > 3600
    assert 0 <= found["hlink_job_checkpoint_age_seconds"][""] < 60
    assert found["hlink_job_checkpoint_bytes"][""] > 0
    assert found["hlink_job_checkpoints_completed"][""] > 0
    assert 0 <= found["hlink_job_back_pressure_ratio"][""] <= 1
    assert found["hlink_job_slots"] == {"": 1.0}
    assert found["hlink_job_observation_age_seconds"][""] < 30
    assert abs(found["hlink_job_figures_timestamp_seconds"][""] - time.time()) < 30

    api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")
    until(api, job_id, lambda found: found == {})


def test_a_target_is_told_of_a_failure_with_its_reason_and_of_the_recovery(
    api: Api, airport: Airport, hook: Webhook, mails: Mailbox, service: ServiceProcess
) -> None:
    job_id = airport.add()
    bad = airport.job(f"SELECT k, CAST(1 / CAST(v - v AS BIGINT) AS STRING), v FROM {airport.events}")
    secret = "a-secret-of-the-path"
    target = api.ok(
        "POST",
        "/notifications",
        json={"name": f"hook {airport.tag}", "url": hook.url(secret), "jobIds": [job_id]},
    )
    assert target["url"] == f"json://127.0.0.1:{hook.port}/***"
    api.ok(
        "POST",
        "/notifications",
        json={
            "name": f"mail {airport.tag}",
            "url": f"mailto://127.0.0.1:{mails.port}?from=hlink@example.org&to=you@example.org&mode=insecure",
            "events": ["FAILED"],
            "jobIds": [job_id],
        },
    )
    api.ok("POST", "/jobs/updateDO", json=bad | {"id": job_id, "restartStrategy": 0})
    api.call("POST", f"/jobs/run/{job_id}")

    failed = hook.wait_for(lambda one: one["title"] == f"Job 'job {airport.tag}' failed")
    assert failed["message"].startswith("The statement divides by zero: guard the divisor with NULLIF(divisor, 0). ")
    assert "java.lang.ArithmeticException: / by zero" in failed["message"]
    assert f"Job {job_id}" in failed["message"]
    assert failed["type"] == "failure"
    mail = mails.wait_for_one()
    assert mail["subject"] == f"Job 'job {airport.tag}' failed"
    assert "The statement divides by zero" in text_of(mail)
    assert api.ok("GET", f"/jobs/overview/{job_id}")["run"]["reason"].startswith("The statement divides by zero: ")
    assert "The statement divides by zero: guard" in api.ok("GET", f"/jobs/{job_id}/log")
    until(api, job_id, lambda found: found.get("hlink_job_state") == {"FAILED": 1.0})

    # Failing again before it has recovered is the same trouble.
    api.call("POST", f"/jobs/run/{job_id}")
    api.wait_for(job_id, 3)
    api.ok("POST", "/jobs/updateDO", json=airport.job() | {"id": job_id})
    api.run(job_id)
    recovered = hook.wait_for(lambda one: "recovered" in one["title"])
    assert recovered["message"].startswith("It runs again, after it had failed.")
    assert recovered["type"] == "success"
    assert [one["title"] for one in hook.received] == [failed["title"], recovered["title"]]
    assert len(mails.mails) == 1

    # What has arrived is noted as sent only when it has been answered.
    deadline = time.monotonic() + 60
    while any(one["state"] == "PENDING" for one in sent_to(api, target["id"])):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    sent = sent_to(api, target["id"])
    assert [(one["event"], one["state"], one["attempts"]) for one in sent] == [
        ("RECOVERED", "SENT", 1),
        ("FAILED", "SENT", 1),
    ]
    assert secret not in service.log.read_text() + str(api.ok("GET", "/notifications")) + str(sent)
    api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


def sent_to(api: Api, target_id: int) -> list[Json]:
    found: list[Json] = api.ok("GET", "/notifications/sent", params={"targetId": target_id})["records"]
    return found


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain", "html"))
    assert body is not None
    return str(body.get_content())


NAPPING = """public class Nap extends ScalarFunction {
    public String eval(String k) throws InterruptedException { Thread.sleep(10); return k; }
}"""


def test_a_target_is_told_of_a_job_that_lags_and_when_it_has_come_up(
    api: Api, airport: Airport, hook: Webhook, produce: Callable[..., None], tmp_path: Path
) -> None:
    nap = f"nap_{airport.tag}"
    with jar_of(tmp_path, {"shop.Nap": NAPPING}).open("rb") as jar:
        params = {"udfName": nap, "udfType": "SCALAR", "udfClass": "shop.Nap"}
        api.ok("POST", "/ds/udf/upload", params=params, files={"jarfile": ("nap.jar", jar)})
    job_id = airport.add(f"SELECT {nap}(k), k, v FROM {airport.events}")
    add_target(api, airport, hook, ["LAGGING", "RECOVERED"], job_id)
    produce(airport.topic, [{"k": "a", "v": n, "ts": "2026-01-02 00:00:00"} for n in range(3000)])
    api.run(job_id)

    lagging = hook.wait_for(lambda one: one["title"] == f"Job 'job {airport.tag}' is lagging")
    assert f"records of {airport.events} yet, and had more than 50 before it" in lagging["message"]
    assert lagging["type"] == "warning"
    hook.wait_for(lambda one: one["title"] == f"Job 'job {airport.tag}' has recovered")
    api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


def test_a_target_is_told_once_of_a_job_that_is_restarted_again_and_again(
    api: Api, airport: Airport, hook: Webhook
) -> None:
    job_id = airport.add(
        f"SELECT k, CAST(1 / CAST(v - v AS BIGINT) AS STRING), v FROM {airport.events}",
        restartStrategy=1,
        restartAttempts=10_000,
        delayInterval=1,
    )
    add_target(api, airport, hook, ["FLAPPING"], job_id)
    api.run(job_id)
    title = f"Job 'job {airport.tag}' is restarted again and again"
    told = hook.wait_for(lambda one: one["title"] == title)
    assert told["message"].startswith("Flink has restarted it ")
    assert f"(/jobs/{job_id}/log)" in told["message"]
    restarts = figures(api, job_id)["hlink_job_restarts"][""]
    until(api, job_id, lambda found: found.get("hlink_job_restarts", {}).get("", 0) > restarts)
    assert [one["title"] for one in hook.received].count(title) == 1
    api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


def add_target(api: Api, airport: Airport, hook: Webhook, events: list[str], job_id: int) -> None:
    body = {"name": f"{events[0]} {airport.tag}", "url": hook.url(), "events": events, "jobIds": [job_id]}
    api.ok("POST", "/notifications", json=body)
