"""A job as its preview: the same statements over what its sources hold now, into sinks that keep the rows."""

from __future__ import annotations

from dataclasses import replace

from stream_jobs.definitions import (
    Connector,
    Execution,
    Job,
    KafkaLookup,
    KafkaSource,
    OnError,
    PreviewSink,
    Role,
    Startup,
    Table,
)


def preview_of(job: Job) -> Job:
    """The job to run instead. It reads topics from their beginning to their present end, without a consumer group,
    and looks side tables up where they are; nothing is written anywhere."""
    options = {name: value for name, value in job.execution.options.items() if name.startswith("table.")}
    return replace(
        job,
        tables=tuple(replace(table, connector=_connector(table)) for table in job.tables),
        execution=Execution(options=options),
    )


def _connector(table: Table) -> Connector:
    if table.role is Role.SINK:
        return PreviewSink()
    if isinstance(table.connector, KafkaSource):
        letters = table.connector.on_error is OnError.DEAD_LETTER
        on_error = OnError.SKIP if letters else table.connector.on_error
        return replace(table.connector, startup=Startup.EARLIEST, group_id="", bounded=True, on_error=on_error)
    if isinstance(table.connector, KafkaLookup):
        return replace(table.connector, group_id="", bounded=True)
    return table.connector
