"""A job's execution settings as Flink's configuration."""

from __future__ import annotations

from stream_jobs.definitions import Checkpointing, Execution, FailureRate, FixedDelay, NoRestart, Restart

#: Settings that every job gets unless its own options say otherwise.
DEFAULTS = {
    # One meaning of a zoned timestamp, whatever machine plans or runs the job.
    "table.local-time-zone": "UTC",
    # A query whose key is not the sink's is resolved by keeping the latest row, as it was before Flink 2.3.
    "table.exec.sink.require-on-conflict": "false",
}


def flink_options(name: str, execution: Execution) -> dict[str, str]:
    """Flink's configuration for a job of that name."""
    options = {
        **DEFAULTS,
        "pipeline.name": name,
        "parallelism.default": str(execution.parallelism),
        "table.exec.resource.default-parallelism": str(execution.parallelism),
    }
    if execution.checkpointing is not None:
        options |= _checkpointing(execution.checkpointing)
    if execution.state_backend is not None:
        options["state.backend.type"] = execution.state_backend.value
    if execution.savepoint_dir:
        options["execution.checkpointing.savepoint-dir"] = execution.savepoint_dir
    if execution.restart is not None:
        options |= _restart(execution.restart)
    if execution.mini_batch is not None:
        options["table.exec.mini-batch.enabled"] = "true"
        options["table.exec.mini-batch.allow-latency"] = f"{execution.mini_batch.latency_ms} ms"
        options["table.exec.mini-batch.size"] = str(execution.mini_batch.size)
    if execution.two_phase_aggregation is not None:
        options["table.optimizer.agg-phase-strategy"] = "TWO_PHASE" if execution.two_phase_aggregation else "ONE_PHASE"
    if execution.split_distinct_aggregation:
        options["table.optimizer.distinct-agg.split.enabled"] = "true"
    return options | dict(execution.options)


def _checkpointing(checkpointing: Checkpointing) -> dict[str, str]:
    options = {
        "execution.checkpointing.interval": f"{checkpointing.interval_ms} ms",
        "execution.checkpointing.mode": checkpointing.mode.value,
        "execution.checkpointing.externalized-checkpoint-retention": checkpointing.cleanup.value,
    }
    if checkpointing.timeout_ms is not None:
        options["execution.checkpointing.timeout"] = f"{checkpointing.timeout_ms} ms"
    if checkpointing.min_pause_ms is not None:
        options["execution.checkpointing.min-pause"] = f"{checkpointing.min_pause_ms} ms"
    if checkpointing.max_concurrent is not None:
        options["execution.checkpointing.max-concurrent-checkpoints"] = str(checkpointing.max_concurrent)
    if checkpointing.storage:
        options["execution.checkpointing.dir"] = checkpointing.storage
    return options


def _restart(restart: Restart) -> dict[str, str]:
    match restart:
        case NoRestart():
            return {"restart-strategy.type": "disable"}
        case FixedDelay(attempts, delay_s):
            return {
                "restart-strategy.type": "fixed-delay",
                "restart-strategy.fixed-delay.attempts": str(attempts),
                "restart-strategy.fixed-delay.delay": f"{delay_s} s",
            }
        case FailureRate(max_failures, interval_min, delay_s):
            return {
                "restart-strategy.type": "failure-rate",
                "restart-strategy.failure-rate.max-failures-per-interval": str(max_failures),
                "restart-strategy.failure-rate.failure-rate-interval": f"{interval_min} min",
                "restart-strategy.failure-rate.delay": f"{delay_s} s",
            }
