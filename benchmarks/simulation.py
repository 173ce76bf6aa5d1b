"""The simulated clusters as a process of its own, whose work is not counted as the service's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.http import Http
from benchmarks.machine import ROOT

Change = Mapping[str, Any]


@dataclass
class Simulation:
    """Running simulated clusters, by their addresses."""

    addresses: Sequence[str]
    http: Http

    def add(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Let jobs run: each with ``cluster`` (its number), ``id``, ``name``, and perhaps ``since`` (epoch ms)."""
        self.http.json("POST", "/simulation/jobs", {"jobs": list(jobs)})

    def change(self, changes: Sequence[Change]) -> list[dict[str, Any]]:
        """Change jobs (``cluster``, ``id``, ``state``) now; answers for each since when (``at``, epoch ms)."""
        told: list[dict[str, Any]] = self.http.json("POST", "/simulation/changes", {"changes": changes})["changes"]
        return told

    def asked(self) -> list[dict[str, int]]:
        """For each cluster: request -> how often it came."""
        counted: list[dict[str, int]] = self.http.json("GET", "/simulation/asked")["clusters"]
        return counted

    def known(self) -> dict[str, Any]:
        """``jobs`` with their states, all ``submissions``, and what of them was ``doubled``."""
        found: dict[str, Any] = self.http.json("GET", "/simulation/jobs")
        return found


@contextmanager
def simulated(folder: Path, clusters: int = 10) -> Iterator[Simulation]:
    """Clusters while the block lasts; ``folder`` gets their savepoints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.simulated_flink", str(folder), "--clusters", str(clusters)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        addresses = json.loads(process.stdout.readline())
        with Http(addresses[0]) as http:
            yield Simulation(addresses, http)
    finally:
        process.stdin.close()
        process.wait(10)
