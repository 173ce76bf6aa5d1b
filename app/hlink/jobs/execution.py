"""A job's settings to how it runs: dictionary codes and units of the published API become plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from app.errors import InvalidInput, Problem
from stream_jobs.definitions import (
    CheckpointCleanup,
    Checkpointing,
    CheckpointMode,
    Execution,
    FailureRate,
    FixedDelay,
    MiniBatch,
    NoRestart,
    Restart,
    StateBackend,
)

PARALLELISM_OF_UNIT = 2
"""One computing unit is 1 core, 3 GB and a parallelism of 2 (published with ``computingUnit``)."""
LARGEST_PARALLELISM = 32_768
DEFAULT_CHECKPOINT_INTERVAL_MS = 60_000

_MODES = {0: CheckpointMode.EXACTLY_ONCE, 1: CheckpointMode.AT_LEAST_ONCE}
_CLEANUPS = {0: CheckpointCleanup.RETAIN, 1: CheckpointCleanup.DELETE}
_BACKENDS = {0: StateBackend.HASHMAP, 1: StateBackend.HASHMAP, 2: StateBackend.ROCKSDB}
_NONE, _FIXED_DELAY, _FAILURE_RATE = 0, 1, 2
_SWITCH = {0: False, 1: True}
_INGESTION_TIME, _PROCESSING_TIME, _EVENT_TIME = 0, 1, 2

#: What ``parms`` may hold: options that belong to a job, by the beginning of their names.
_JOB_OPTIONS = ("table.", "pipeline.", "execution.", "state.", "restart-strategy.")
#: Options that a field of the job sets, by the beginning of their names.
_SET_BY_FIELD = {
    "execution.checkpointing.interval": "checkpointInterval",
    "execution.checkpointing.mode": "checkpointMode",
    "execution.checkpointing.timeout": "checkpointTimeout",
    "execution.checkpointing.min-pause": "minPauseBetweenCheckpoints",
    "execution.checkpointing.max-concurrent-checkpoints": "checkpointMaxCuncurrency",
    "execution.checkpointing.externalized-checkpoint-retention": "checkpointCleanupMode",
    "execution.checkpointing.dir": "checkpointStatebackendPath",
    "execution.checkpointing.savepoint-dir": "stateSavepointsDir",
    "execution.state-recovery.path": "savepointPath",
    "execution.state-recovery.ignore-unclaimed-state": "allowNrs",
    "state.backend.type": "checkpointStatebackendType",
    "restart-strategy.": "restartStrategy",
    "table.exec.mini-batch.": "enableMinibatchOptimization",
    "table.exec.resource.default-parallelism": "parallelism",
    "table.optimizer.agg-phase-strategy": "tableOptimizerAggPhaseStrategy",
    "table.optimizer.distinct-agg.split.enabled": "tableOptimizerDistinctAggSplitEnabled",
    "pipeline.name": "jobName",
}
#: Options that would take the job out of the service's hands or bring code along.
_NOT_FOR_JOBS = ("execution.target", "execution.runtime-mode", "pipeline.jars", "pipeline.classpaths")

T = TypeVar("T")


def execution(settings: Mapping[str, Any]) -> Execution:
    """How a job with these settings runs; the keys are those of :class:`~app.hlink.wire.jobs.JobView`.

    Raises:
        InvalidInput: with every setting that cannot be.
    """
    reader = _Reader(settings)
    reader.check_time_type()
    made = Execution(
        parallelism=reader.parallelism(),
        checkpointing=reader.checkpointing(),
        state_backend=reader.choice("state_backend", "checkpointStatebackendType", _BACKENDS),
        restart=reader.restart(),
        mini_batch=reader.mini_batch(),
        two_phase_aggregation=reader.choice("two_phase_aggregation", "tableOptimizerAggPhaseStrategy", _SWITCH),
        split_distinct_aggregation=bool(
            reader.choice("split_distinct_aggregation", "tableOptimizerDistinctAggSplitEnabled", _SWITCH)
        ),
        savepoint_dir=reader.folder("savepoint_dir", "stateSavepointsDir"),
        options={**reader.custom_options(), **reader.recovery()},
    )
    if reader.problems:
        raise InvalidInput(*reader.problems)
    return made


def wants_event_time(settings: Mapping[str, Any]) -> bool:
    """Whether the job says of itself that it goes by event time.

    Since Flink 1.12 each query says by its columns which time it goes by, so ``timeType`` only states what is meant:
    1 (the original's default, also of jobs with event-time windows) promises nothing, 2 promises a source that has
    an event time, and 0, ingestion time, is not there any more.
    """
    return settings.get("time_type") == _EVENT_TIME


class _Reader:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.problems: list[Problem] = []

    def refuse(self, wire_name: str, value: object, remedy: str) -> None:
        self.problems.append(Problem(f"{value!r} is not possible", field=wire_name, remedy=remedy))

    def choice(self, name: str, wire_name: str, choices: Mapping[int, T]) -> T | None:
        value = self.settings.get(name)
        if value is None:
            return None
        if value not in choices:
            self.refuse(wire_name, value, f"use {' or '.join(map(str, choices))}")
            return None
        return choices[value]

    def number(self, name: str, wire_name: str, smallest: int) -> int | None:
        value = self.settings.get(name)
        if value is not None and value < smallest:
            self.refuse(wire_name, value, f"use {smallest} or more")
            return None
        return value

    def required(self, name: str, wire_name: str, smallest: int, because: str) -> int:
        value = self.settings.get(name)
        if value is None or value < smallest:
            self.refuse(wire_name, value, f"{because} needs {smallest} or more")
            return smallest
        return int(value)

    def check_time_type(self) -> None:
        time_type = self.settings.get("time_type")
        if time_type == _INGESTION_TIME:
            self.problems.append(
                Problem(
                    "Flink has no ingestion time any more",
                    field="timeType",
                    remedy=f"use {_PROCESSING_TIME} with PROCTIME() in the statement, or {_EVENT_TIME} with an "
                    "event-time column in the source",
                )
            )
        elif time_type not in (None, _PROCESSING_TIME, _EVENT_TIME):
            self.refuse("timeType", time_type, f"use {_PROCESSING_TIME} or {_EVENT_TIME}")

    def custom_options(self) -> dict[str, str]:
        """``parms``: Flink's own options for this job, by their names."""
        found: dict[str, str] = {}
        for option, value in (self.settings.get("parameters") or {}).items():
            where = f"parms.{option}"
            field = next((field for start, field in _SET_BY_FIELD.items() if option.startswith(start)), None)
            if field is not None:
                self.problems.append(Problem("a field of the job sets it", field=where, remedy=f"use {field}"))
            elif option.startswith(_NOT_FOR_JOBS) or not option.startswith(_JOB_OPTIONS):
                self.problems.append(
                    Problem(
                        "it is not an option that a job may set",
                        field=where,
                        remedy=f"use Flink's options that begin with {', '.join(_JOB_OPTIONS)}",
                    )
                )
            elif isinstance(value, bool):
                found[option] = str(value).lower()
            elif isinstance(value, str | int | float):
                found[option] = str(value)
            else:
                self.refuse(where, value, "use text, a number, true or false")
        return found

    def parallelism(self) -> int:
        value = self.settings.get("parallelism") or 0
        units = self.settings.get("computing_units") or 0
        chosen = value or units * PARALLELISM_OF_UNIT or 1
        if not 1 <= chosen <= LARGEST_PARALLELISM:
            self.refuse("parallelism", chosen, f"use 1 to {LARGEST_PARALLELISM}")
            return 1
        return int(chosen)

    def checkpointing(self) -> Checkpointing | None:
        interval = self.settings.get("checkpoint_interval_ms", DEFAULT_CHECKPOINT_INTERVAL_MS)
        if interval == 0:
            return None
        if interval < 10:
            self.refuse("checkpointInterval", interval, "use 0 for no checkpoints, or at least 10 ms")
            return None
        timeout = self.number("checkpoint_timeout_ms", "checkpointTimeout", 0)
        if timeout and timeout < 10:
            self.refuse("checkpointTimeout", timeout, "use 0 for Flink's own, or at least 10 ms")
        pause = self.number("checkpoint_min_pause_ms", "minPauseBetweenCheckpoints", 0)
        concurrent = self.number("max_concurrent_checkpoints", "checkpointMaxCuncurrency", 0)
        if pause and concurrent and concurrent > 1:
            self.refuse("checkpointMaxCuncurrency", concurrent, "use 1 where minPauseBetweenCheckpoints is above 0")
        return Checkpointing(
            interval_ms=interval,
            mode=self.choice("checkpoint_mode", "checkpointMode", _MODES) or CheckpointMode.EXACTLY_ONCE,
            # 0 is what a form sends that was left empty: Flink's own value then.
            timeout_ms=timeout or None,
            min_pause_ms=pause or None,
            max_concurrent=concurrent or None,
            cleanup=self.choice("checkpoint_cleanup", "checkpointCleanupMode", _CLEANUPS) or CheckpointCleanup.RETAIN,
            storage=self.folder("checkpoint_storage", "checkpointStatebackendPath"),
        )

    def restart(self) -> Restart | None:
        strategy = self.settings.get("restart_strategy")
        if strategy is None:
            return None
        if strategy == _NONE:
            return NoRestart()
        delay_s = self.number("restart_delay_s", "delayInterval", 0) or 0
        if strategy == _FIXED_DELAY:
            attempts = self.required("restart_attempts", "restartAttempts", 1, "a restart after a fixed delay")
            return FixedDelay(attempts, delay_s)
        if strategy == _FAILURE_RATE:
            because = "a restart by failure rate"
            return FailureRate(
                self.required("max_failures", "failureRate", 1, because),
                self.required("failure_interval_min", "failureInterval", 1, because),
                delay_s,
            )
        self.refuse("restartStrategy", strategy, "use 0 (none), 1 (fixed delay) or 2 (failure rate)")
        return None

    def mini_batch(self) -> MiniBatch | None:
        if not self.choice("mini_batch", "enableMinibatchOptimization", _SWITCH):
            return None
        latency_s = self.required("mini_batch_latency_s", "tableExecMinibatchAllowlatency", 1, "mini-batching")
        size = self.required("mini_batch_size", "tableExecMinibatchSize", 1, "mini-batching")
        return MiniBatch(latency_s * 1000, size)

    def folder(self, name: str, wire_name: str) -> str:
        text = (self.settings.get(name) or "").strip()
        if text.startswith("/"):
            return f"file://{text}"
        if text and not urlsplit(text).scheme:
            self.refuse(
                wire_name, text, "give a folder as an address that Flink reads, such as file:///path or s3://..."
            )
        return text

    def recovery(self) -> dict[str, str]:
        path = self.folder("savepoint_path", "savepointPath")
        if not path:
            return {}
        ignore = bool(self.choice("allow_non_restored_state", "allowNrs", _SWITCH))
        return {
            "execution.state-recovery.path": path,
            "execution.state-recovery.ignore-unclaimed-state": str(ignore).lower(),
        }
