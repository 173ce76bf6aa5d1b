"""Looks at the service and at Flink all the time, and holds the one against the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.chaos import expected
from tests.chaos.work import Work

_PAUSE_S = 0.4


@dataclass
class Findings:
    """Everything that should not have been, for a person to read."""

    duplicated_runs: list[str] = field(default_factory=list)
    lost_savepoints: list[str] = field(default_factory=list)
    wrong_results: list[str] = field(default_factory=list)
    wrong_statuses: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return [*self.duplicated_runs, *self.lost_savepoints, *self.wrong_results, *self.wrong_statuses]


class Watcher:
    """A thread that looks a few times a second until it is told to stop.

    :param services: the addresses of the replicas.
    :param flink_url: Flink itself, not the wire to it.
    :param is_undisturbed: whether the services can reach Flink and their database now.
    """

    def __init__(
        self,
        works: Sequence[Work],
        services: Sequence[str],
        flink_url: str,
        is_undisturbed: Callable[[], bool],
        say: Callable[[str], None],
        patience_s: float = expected.CONTRADICTION_S,
    ) -> None:
        self.findings = Findings()
        self._works = works
        self._services = services
        self._is_undisturbed = is_undisturbed
        self._say = say
        self._patience_s = patience_s
        self._flink = httpx.Client(base_url=flink_url, timeout=3, trust_env=False)
        self._http = httpx.Client(timeout=3, trust_env=False)
        self._since: dict[tuple[str, int, str], float] = {}
        self._savepoints: dict[str, dict[str, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(30)

    # Looking

    def flink_jobs(self) -> list[tuple[str, str, str, bool]] | None:
        """(id, name, state, whether all tasks run) of all jobs; None when Flink does not answer."""
        try:
            jobs = self._flink.get("/jobs/overview").raise_for_status().json()["jobs"]
        except (httpx.HTTPError, ValueError, KeyError):
            return None
        return [
            (job["jid"], job["name"], job["state"], job["tasks"]["running"] == job["tasks"]["total"] > 0)
            for job in jobs
        ]

    def status(self, service: str, work: Work) -> tuple[int, str | None] | None:
        """The published status and Flink's id, as one replica says; None when it does not answer."""
        try:
            answer = self._http.get(f"{service}/jobs/{work.id}").json()
            if not answer["success"]:
                return None
            return int(answer["data"]["jobStatus"]), answer["data"].get("flinkJobId")
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    def is_well(self, work: Work) -> bool:
        """Whether every replica says that it runs, and its tasks do, with state that a successor could go on from.

        Without that state a job that is lost is not started again by itself, as it is asked here to be.
        """
        jobs = self.flink_jobs()
        running = {job_id for job_id, _, state, all_tasks in jobs or () if state == "RUNNING" and all_tasks}
        told = [self.status(service, work) for service in self._services]
        return all(
            one is not None and one[0] == expected.RUNNING and one[1] in running and self._has_state(one[1])
            for one in told
        )

    def _has_state(self, job_id: str | None) -> bool:
        """Whether Flink has completed a checkpoint of the job, or began it from one."""
        try:
            latest = self._flink.get(f"/jobs/{job_id}/checkpoints").raise_for_status().json()["latest"]
        except (httpx.HTTPError, ValueError, KeyError):
            return False
        return latest["completed"] is not None or latest["restored"] is not None

    def check_savepoints(self) -> None:
        """Every savepoint that the service calls complete is on disk as it was when it was first seen."""
        for work in self._works:
            listed = None
            for service in self._services:
                try:
                    answer = self._http.get(f"{service}/jobs/{work.id}/savepoints", params={"limit": 500}).json()
                    listed = answer["data"] if answer["success"] else None
                except (httpx.HTTPError, ValueError, KeyError):
                    continue
            for savepoint in listed or ():
                if not expected.is_kept(savepoint):
                    self._savepoints.pop(str(savepoint["id"]), None)
                    continue
                name = f"{work.name}: savepoint {savepoint['path']}"
                there = _files(savepoint["path"])
                known = self._savepoints.setdefault(str(savepoint["id"]), there)
                if "_metadata" not in there or there != known:
                    self._find(self.findings.lost_savepoints, f"{name} had {sorted(known)}, there is {sorted(there)}")
                elif savepoint.get("verified") is False:
                    self._find(self.findings.lost_savepoints, f"{name} is not whole: {savepoint.get('reason')}")

    # Judging

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE_S):
            jobs = self.flink_jobs()
            if jobs is not None:
                self._look_for_copies(jobs)
            if jobs is None or not self._is_undisturbed():
                self._since.clear()
                continue
            for work in self._works:
                for service in self._services:
                    self._compare(work, service)

    def _look_for_copies(self, jobs: list[tuple[str, str, str, bool]]) -> None:
        for work in self._works:
            live = sorted(job_id for job_id, name, state, _ in jobs if name == work.name and state in expected.LIVE)
            if len(live) > 1:
                self._find(self.findings.duplicated_runs, f"{work.name} runs as {' and as '.join(live)}")

    def _compare(self, work: Work, service: str) -> None:
        told = self.status(service, work)
        jobs = self.flink_jobs()
        key_start = (service, work.id)
        contradicts = None
        if told is not None and jobs is not None:
            contradicts = expected.contradiction(*told, {job_id: state for job_id, _, state, _ in jobs})
        now = time.monotonic()
        for key in [key for key in self._since if key[:2] == key_start and key[2] != contradicts]:
            del self._since[key]
        if contradicts is None:
            return
        began = self._since.setdefault((*key_start, contradicts), now)
        if now - began > self._patience_s and self._is_undisturbed():
            self._find(self.findings.wrong_statuses, f"{work.name} at {service}: {contradicts}")

    def _find(self, sort: list[str], what: str) -> None:
        if what not in sort:
            sort.append(what)
            self._say(f"!! {what}")


def _files(path: str) -> dict[str, int]:
    folder = Path(urlsplit(path).path)
    return {file.name: file.stat().st_size for file in folder.glob("*")} if folder.is_dir() else {}
