"""The REST calls of the demo: an example for clients.

Every answer has one envelope: ``{"success": true, "data": ...}``, or ``success`` false and a ``msg`` that says what to
do. The whole API is in the service's own pages under ``/docs``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import httpx

from app.demo.errors import Refused

STANDALONE = "1"
"""What a cluster is called that runs by itself (dictionary ``cluster_type``)."""
_TIMEOUT_S = 60.0


class Client:
    """A connection to the service; safe to use from several threads.

    :param token: the service's ``HLINK_API_TOKEN``, if it has one.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Proxies are not for a service on this machine.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def health(self) -> Mapping[str, Any] | None:
        """The answer of ``/health``; None while nobody answers."""
        try:
            answer: Mapping[str, Any] = self._http.get("/health", timeout=5).json()
        except (httpx.TransportError, ValueError):
            return None
        return answer

    def cluster_at(self, address: str, name: str) -> int:
        """The id of the cluster at this address; it is added under ``name`` if the service does not know it."""
        for known in self._call("GET", "/cluster/check/list"):
            if known["address"].rstrip("/") == address.rstrip("/"):
                return int(known["id"])
        added = self._call("POST", "/cluster/add", params={"name": name, "address": address, "type": STANDALONE})
        return int(added["id"])

    def free_aliases(self, names: Iterable[str]) -> dict[str, str]:
        """What tables of these names may be called in SQL: as they are, or all with the first number that is free."""
        wanted = list(names)
        for number in count(1):
            aliases = {name: name if number == 1 else f"{name}_{number}" for name in wanted}
            if all(self._is_free(alias) for alias in aliases.values()):
                return aliases
        raise AssertionError("unreachable")

    def add_table(self, table: Mapping[str, Any]) -> int:
        """Add a table; its id."""
        return int(self._call("POST", "/ds/addDO", json=table)["id"])

    def validate(self, job: Mapping[str, Any]) -> str:
        """Have the job planned without storing it; the generated SQL. A refusal names table, line and column."""
        return str(self._call("POST", "/jobs/validate", json=job)["sql"])

    def add_job(self, job: Mapping[str, Any]) -> int:
        """Store the job; its id."""
        return int(self._call("POST", "/jobs/addDO", json=job)["id"])

    def run(self, job_id: int) -> Mapping[str, Any]:
        """Start the job: brokers, databases and free slots are checked first."""
        answer: Mapping[str, Any] = self._call("POST", f"/jobs/run/{job_id}")
        return answer

    def cancel(self, job_id: int, timeout_s: float = _TIMEOUT_S) -> None:
        """Stop the job at once, without a savepoint; refused if it does not run."""
        self._call("POST", f"/jobs/cancel/{job_id}", params={"mode": "none"}, timeout=timeout_s)

    def overview(self, job_id: int) -> Mapping[str, Any]:
        """The job's state, and Flink's figures of it."""
        answer: Mapping[str, Any] = self._call("GET", f"/jobs/overview/{job_id}")
        return answer

    def _is_free(self, alias: str) -> bool:
        answer = self._answer("GET", "/ds/checkTableName", params={"tableName": alias})
        return bool(answer["success"])

    def _call(self, method: str, path: str, **request: Any) -> Any:
        answer = self._answer(method, path, **request)
        if not answer["success"]:
            raise Refused(f"{method} {path}", answer["msg"], answer)
        return answer["data"]

    def _answer(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise Refused(f"{method} {path}", f"no answer ({type(error).__name__}: {error})") from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or "success" not in answer:
            raise Refused(f"{method} {path}", f"answered {response.status_code}: {response.text[:300]}")
        return answer
