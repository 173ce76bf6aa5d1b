"""A job as its preview: the same statements over what its sources hold now, into sinks that keep the rows."""

from __future__ import annotations

from dataclasses import replace

from stream_jobs.definitions import (
    Connector,
    Execution,
    Job,
    KafkaLookup,
    KafkaSource,
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
        return replace(table.connector, startup=Startup.EARLIEST, group_id="", bounded=True)
    if isinstance(table.connector, KafkaLookup):
        return replace(table.connector, group_id="", bounded=True)
    return table.connector
