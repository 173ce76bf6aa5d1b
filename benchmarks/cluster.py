"""The cluster that both sides submit to, asked directly: whether a job is there, and whether it is quiet again."""

from __future__ import annotations

from benchmarks.http import Failed, Http
from benchmarks.processes import wait_until

_WITHIN_S = 30.0
_POLL_S = 0.02
_ALIVE = {"INITIALIZING", "CREATED", "RUNNING"}


class Cluster:
    """Flink's REST API, as far as the benchmark needs it."""

    def __init__(self, api: Http) -> None:
        self._http = api

    def check_accepted(self, job_id: str) -> None:
        """See that a job is there.

        :raises Failed: Flink does not know it, or it has ended.
        """
        state = self._http.json("GET", f"/jobs/{job_id}/status")["status"]
        if state not in _ALIVE:
            raise Failed(f"job {job_id} was submitted and is {state}")

    def cancel(self, job_id: str) -> None:
        """Ask for a job's end."""
        self._http.json("PATCH", f"/jobs/{job_id}?mode=cancel")

    def wait_for_end(self, job_id: str, within_s: float) -> None:
        """Wait until a job has ended by itself.

        :raises Failed: it does not end in time, or failed.
        """

        def ended() -> bool:
            state = self._http.json("GET", f"/jobs/{job_id}/status")["status"]
            if state in ("FAILED", "CANCELED"):
                raise Failed(f"job {job_id} is {state}")
            return bool(state == "FINISHED")

        wait_until(f"the end of job {job_id}", ended, within_s)

    def wait_until_idle(self) -> None:
        """Wait until no job runs and every slot is free."""

        def idle() -> bool:
            overview = self._http.json("GET", "/overview")
            return bool(overview["jobs-running"] == 0 and overview["slots-available"] == overview["slots-total"])

        wait_until("an idle cluster", idle, _WITHIN_S, _POLL_S)
