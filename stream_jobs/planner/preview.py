"""Runs previews in a planner process of their own, so that no planning waits for one and none can do harm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stream_jobs.planner.client import Planner, PlannerConfig
from stream_jobs.planner.function_sets import FunctionSet
from stream_jobs.sql.diagnosis import Refusal

_END_S = 15.0
"""What a preview may take beyond its time limit, before its process is killed: the first one loads Flink's classes."""
_SHORTEST_S = 5.0
_OPTIONS = {
    "execution.target": "local",
    "restart-strategy.type": "disable",
    # A cluster inside the process, no larger than a preview needs.
    "taskmanager.memory.managed.size": "32m",
    "taskmanager.memory.network.min": "16m",
    "taskmanager.memory.network.max": "16m",
}


class PreviewFailed(RuntimeError):
    """The job failed while it was previewed; the message is Flink's root cause."""


@dataclass(frozen=True, slots=True)
class SinkRows:
    """The first rows that a sink would have, each in its last state; ``more`` says that there are others."""

    rows: Sequence[Any]
    more: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """Rows by sink; ``complete`` when the sources were read to their end."""

    sinks: Mapping[str, SinkRows]
    complete: bool


class Previewer:
    """Runs one preview at a time.

    Its process is started by the first preview and ended when none came for ``idle_s``: it is as large as a planner.
    """

    def __init__(self, config: PlannerConfig, idle_s: float = 600.0) -> None:
        self._config = replace(config, workers=1)
        self._idle_s = idle_s
        self._planner: Planner | None = None
        self._turn = asyncio.Lock()
        self._ending: asyncio.Task[None] | None = None

    async def run(
        self,
        compiled: str,
        options: Mapping[str, str],
        functions: FunctionSet,
        sinks: Sequence[str],
        limit: int,
        timeout_s: float,
    ) -> Preview:
        """Runs a compiled plan whose sinks are preview sinks, for at most ``timeout_s``.

        Raises:
            PreviewFailed: the job failed.
            PlannerError: the process could not be started, hung or died; it is replaced.
        """
        began = time.monotonic()
        async with self._turn:
            if self._ending is not None:
                self._ending.cancel()
            try:
                planner = await self._started()
                # Waiting for one's turn is part of the caller's time, but some is always left.
                left_s = max(timeout_s - (time.monotonic() - began), min(timeout_s, _SHORTEST_S))
                answer = await planner.preview(
                    compiled,
                    {**options, **_OPTIONS},
                    functions,
                    sinks=len(sinks),
                    limit=limit,
                    timeout_s=left_s,
                    answer_within_s=left_s + _END_S,
                )
            finally:
                self._ending = asyncio.create_task(self._end_when_idle(), name="end of the preview process")
        if "error" in answer:
            raise PreviewFailed(Refusal.read(answer["error"]).innermost)
        found = answer["sinks"]
        return Preview(
            {
                sink: SinkRows([json.loads(row) for row in found[sink]["rows"]], found[sink]["more"])
                if sink in found
                else SinkRows([], False)
                for sink in sinks
            },
            answer["complete"],
        )

    async def close(self) -> None:
        """Ends the process."""
        if self._ending is not None:
            self._ending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ending
        await self._end()

    async def _started(self) -> Planner:
        if self._planner is None:
            self._planner = Planner(self._config)
            await self._planner.start()
        return self._planner

    async def _end_when_idle(self) -> None:
        await asyncio.sleep(self._idle_s)
        async with self._turn:
            await self._end()

    async def _end(self) -> None:
        if self._planner is not None:
            planner, self._planner = self._planner, None
            await planner.close()
