"""Jobs that are changed, removed, started and stopped by the dozen, and what is told of them afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.airport import Airport
from tests.services import Api, Json


def versions(api: Api, job_id: int) -> list[Json]:
    found: list[Json] = api.ok("GET", f"/jobs/{job_id}/versions")
    return found


def update(api: Api, job_id: int, body: Json) -> Json:
    answer = api.call("POST", "/jobs/updateDO", json=body | {"id": job_id})
    assert answer["success"], answer
    return answer


def test_given_a_running_job_when_it_is_updated_then_the_run_keeps_its_version_until_it_is_run_again(
    api: Api, airport: Airport
) -> None:
    job_id = airport.add()
    first = api.run(job_id)["flinkJobId"]

    changed = airport.job(f"SELECT k, 'changed', v FROM {airport.events}", jobDesc="now constant")
    answer = update(api, job_id, changed)
    assert answer["msg"] == ("Stored as version 2. The job goes on with version 1 until it is restarted.")
    assert (answer["data"]["version"], answer["data"]["jobDesc"]) == ("2", "now constant")
    assert api.ok("GET", f"/jobs/{job_id}")["flinkJobId"] == first
    assert [(v["version"], v["running"]) for v in versions(api, job_id)] == [(2, False), (1, True)]

    api.cancel(job_id, mode="none")
    second = api.run(job_id)["flinkJobId"]
    assert second != first
    assert [(v["version"], v["running"]) for v in versions(api, job_id)] == [(2, True), (1, False)]
    (running,) = [j for j in api.flink_jobs(changed["jobName"]) if j["state"] == "RUNNING"]
    assert running["jid"] == second
    api.ok("POST", f"/jobs/cancel/{job_id}?mode=none")


def test_given_a_job_when_an_update_would_not_plan_or_takes_a_name_then_nothing_changes(
    api: Api, airport: Airport
) -> None:
    job_id = airport.add()
    before = api.ok("GET", f"/jobs/{job_id}")
    other = airport.job() | {"jobName": f"other {airport.tag}"}
    api.ok("POST", "/jobs/addDO", json=other)

    bad = airport.job(f"SELECT nothing FROM {airport.events}") | {"id": job_id}
    refusal = api.refused("POST", "/jobs/updateDO", json=bad)
    assert (refusal["code"], refusal["problems"][0]["field"]) == (-3, "nothing")
    taken = api.refused("POST", "/jobs/updateDO", json=other | {"id": job_id})
    assert taken["msg"] == f"There is a job called 'other {airport.tag}' already: choose another jobName"
    assert api.refused("POST", "/jobs/updateDO", json=airport.job())["problems"][0]["field"] == "id"
    assert api.refused("POST", "/jobs/updateDO", json=airport.job() | {"id": 7})["code"] == -8

    assert api.ok("GET", f"/jobs/{job_id}") == before
    same = update(api, job_id, airport.job())
    assert same["msg"] == "Nothing was changed: version 1."
    assert len(versions(api, job_id)) == 1


def test_given_two_versions_when_they_are_compared_then_definition_and_sql_show_the_change(
    api: Api, airport: Airport
) -> None:
    job_id = airport.add(checkpointInterval=1000)
    update(api, job_id, airport.job(airport.enriched().replace(">= 0", ">= 10"), checkpointInterval=2000))
    diff = api.ok("GET", f"/jobs/{job_id}/versions/1/diff/2")
    for name, old, new in (
        ("definition", "-checkpointInterval: 1000", "+checkpointInterval: 2000"),
        ("sql", "-SET 'execution.checkpointing.interval' = '1000 ms';", "+SET 'execution.checkpointing.interval' ="),
    ):
        assert diff[name].startswith("--- version 1\n+++ version 2\n")
        assert old in diff[name]
        assert new in diff[name]
        assert "WHERE e.v >= 10" in diff[name]
    assert api.ok("GET", f"/jobs/{job_id}/versions/2/diff/2") == {"definition": "", "sql": ""}
    missing = api.refused("GET", f"/jobs/{job_id}/versions/1/diff/9")
    assert missing["msg"] == f"Job {job_id} has no version 9: it has 1 to 2"
    assert api.endpoints.postgres.password not in json.dumps([diff, versions(api, job_id)])


def test_given_an_older_version_when_it_is_rolled_back_then_its_definition_is_the_newest_version(
    api: Api, airport: Airport
) -> None:
    job_id = airport.add(checkpointInterval=1000, parms={"table.exec.state.ttl": "1 h"})
    before = api.ok("GET", f"/jobs/{job_id}")
    update(api, job_id, airport.job("SELECT k, 'x', v FROM " + airport.events) | {"jobName": f"new {airport.tag}"})
    answer = api.call("POST", f"/jobs/{job_id}/rollback/1")
    assert answer["msg"] == "Stored as version 3."
    changing = ("version", "modifyTime")
    after = api.ok("GET", f"/jobs/{job_id}")
    for view in (before, after):
        for link in view["jobDsVOS"]:
            del link["id"]
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    first, *_, third = sorted(versions(api, job_id), key=lambda v: v["version"])
    assert (first["sql"], first["definition"]) == (third["sql"], third["definition"])
    assert api.refused("POST", f"/jobs/{job_id}/rollback/9")["code"] == -8


def test_given_a_running_job_when_it_is_removed_then_that_is_refused_until_it_has_ended(
    api: Api, airport: Airport
) -> None:
    job_id = airport.add()
    api.run(job_id)
    refusal = api.refused("DELETE", "/jobs/removeDO", params={"id": job_id})
    assert refusal["msg"] == f"Job 'job {airport.tag}' is running: cancel it first"

    api.cancel(job_id, mode="none")
    api.ok("DELETE", "/jobs/removeDO", params={"id": str(job_id)})
    for method, path in (("GET", f"/jobs/{job_id}"), ("POST", f"/jobs/run/{job_id}"), ("GET", f"/jobs/{job_id}/log")):
        assert api.refused(method, path)["code"] == -8
    assert api.refused("POST", "/jobs/updateDO", json=airport.job() | {"id": job_id})["code"] == -8
    assert api.ok("GET", "/jobs/list", params={"jobName": airport.tag})["total"] == 0
    assert airport.add() != job_id, "its name is free again"


@pytest.mark.parametrize("form", ["repeated", "with commas"])
def test_given_good_and_bad_jobs_when_they_are_run_and_canceled_together_then_only_the_bad_ones_are_named(
    api: Api, airport: Airport, form: str
) -> None:
    good = [
        int(api.ok("POST", "/jobs/addDO", json=airport.job() | {"jobName": f"job {airport.tag} {n}"})["id"])
        for n in range(3)
    ]
    greedy = int(
        api.ok("POST", "/jobs/addDO", json=airport.job(parallelism=64) | {"jobName": f"greedy {airport.tag}"})["id"]
    )
    wanted: list[int] = [*good, greedy, 7]
    ids: Any = wanted if form == "repeated" else ",".join(map(str, wanted))

    answer = api.refused("POST", "/jobs/runBatch", params={"jobIds": ids})
    assert answer["msg"] == f"not started: {greedy}, 7; the data says why"
    assert answer["data"][str(greedy)].startswith("parallelism: the job needs 64 slots")
    assert answer["data"]["7"] == "There is no job 7: /jobs/list shows those there are"
    assert {api.status(job_id) for job_id in good} <= {1, 9}

    assert api.call("POST", "/jobs/cancelBatch", params={"jobIds": good}) == {
        "code": 200, "msg": "", "success": True, "data": {},
    }  # fmt: skip
    for job_id in good:
        api.wait_for(job_id, 2)
    again = api.refused("POST", "/jobs/cancelBatch", params={"jobIds": good})
    assert set(again["data"]) == set(map(str, good))
    assert api.refused("POST", "/jobs/runBatch", params={"jobIds": ""})["problems"][0]["field"] == "jobIds"


def test_given_a_refused_and_a_failed_start_when_the_log_is_read_then_it_tells_of_both_in_order(
    api: Api, airport: Airport
) -> None:
    job_id = airport.add(restartStrategy=0, parallelism=64)
    api.refused("POST", f"/jobs/run/{job_id}")
    # A text that is no number where one belongs: seen only when the job runs.
    update(api, job_id, airport.job(f"SELECT k, 'x', CAST(k AS DOUBLE) FROM {airport.events}", restartStrategy=0))
    api.call("POST", f"/jobs/run/{job_id}")
    api.wait_for(job_id, 3)

    answer = api.call("GET", f"/jobs/{job_id}/log")
    text = answer["data"]
    lines = text.splitlines()
    assert "not started: parallelism: the job needs 64 slots" in lines[0]
    order = ["not started", " CREATED created", " RUNNING ", "exception in ", " FAILED state: "]
    places = [next(n for n, line in enumerate(lines) if what in line) for what in order]
    assert places[:4] == sorted(places[:4])
    (exception,) = [line for line in lines if "exception in " in line]
    assert "NumberFormatException" in exception, "the root cause comes first"
    assert lines[places[3] + 1].startswith("    "), "and the trace after it"
    moments = [line[:24] for line in lines if line[:2] == "20"]
    assert moments == sorted(moments)

    page = api.call("GET", f"/jobs/{job_id}/log", params={"offset": 1, "limit": 2})
    assert page["data"].splitlines() == lines[1:3]
    assert page["msg"] == f"lines 1 to 3 of {len(lines)}"
