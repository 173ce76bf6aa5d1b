"""The statements that are compared, each in both forms: as our users write it, and as whole SQL by hand.

The forms of one statement mean the same job. A literal in them changes with every use, so that no side can answer
from what it planned before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_jobs.local.endpoints import Endpoints

EVENTS_TOPIC = "bench-events"
FEATURES_TOPIC = "bench-features"
PROFILES = "bench_profiles"
TOTALS = "bench_totals"
CHECKPOINT_INTERVAL_MS = 60_000

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``wire`` is what our API wants to know of it besides."""

    name: str
    type: str
    wire: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """A table in both forms.

    :param fields: our API's connector fields.
    :param by_hand: the lines of a CREATE TABLE that stand beside the columns.
    :param options: the WITH of that CREATE TABLE.
    """

    name: str
    role: str
    kind: str
    columns: Sequence[Column]
    fields: Fields
    options: Fields
    by_hand: Sequence[str] = ()

    @property
    def wire(self) -> dict[str, Any]:
        """The body of ``/ds/addDO``."""
        return {
            "dsName": self.name,
            "tableName": self.name,
            "dsType": self.role,
            "tableType": self.kind,
            "schemaType": 0,
            "dsSchemaColumnVOS": [
                {
                    "name": column.name,
                    "flinkType": column.type,
                    "level": 1,
                    "virtualId": str(number),
                    "virtualPid": "0",
                    **column.wire,
                }
                for number, column in enumerate(self.columns, start=1)
            ],
            "jsonFieldVO": {
                "jsonValue": [{"fieldName": name, "fieldValue": value} for name, value in self.fields.items()]
            },
        }

    @property
    def ddl(self) -> str:
        """The CREATE TABLE that somebody would write by hand."""
        lines = [*(f"{column.name} {column.type}" for column in self.columns), *self.by_hand]
        options = ", ".join(f"'{key}' = '{value}'" for key, value in self.options.items())
        return f"CREATE TABLE {self.name} ({', '.join(lines)}) WITH ({options})"


@dataclass(frozen=True, slots=True)
class Statement:
    """One job in both forms; ``{n}`` is the literal that changes.

    :param feature: what our user writes for the sink, the last of ``tables``.
    :param insert: the whole INSERT by hand.
    """

    name: str
    tables: Sequence[Table]
    feature: str
    insert: str
    parallelism: int = 1

    def links(self, ids: Mapping[str, int], number: int) -> list[dict[str, Any]]:
        """``jobDsVOS`` of this job, with the tables' ids."""
        links: list[dict[str, Any]] = [{"dsId": ids[table.name]} for table in self.tables]
        links[-1]["runSql"] = self.feature.format(n=number)
        return links

    def job(self, name: str, cluster_id: int, ids: Mapping[str, int], number: int) -> dict[str, Any]:
        """The body of ``/jobs/addDO`` and ``/jobs/validate``."""
        return {
            "jobName": name,
            "clusterId": cluster_id,
            "jobType": 0,
            "parallelism": self.parallelism,
            "checkpointInterval": CHECKPOINT_INTERVAL_MS,
            "jobDsVOS": self.links(ids, number),
        }

    def settings(self, name: str) -> dict[str, str]:
        """The settings that such a job gets from us too."""
        return {
            "pipeline.name": name,
            "parallelism.default": str(self.parallelism),
            "execution.checkpointing.interval": f"{CHECKPOINT_INTERVAL_MS} ms",
            "table.exec.sink.require-on-conflict": "false",
            "table.local-time-zone": "UTC",
        }

    def ddl(self) -> list[str]:
        """Its tables by hand."""
        return [table.ddl for table in self.tables]

    def insert_with(self, number: int) -> str:
        """The INSERT by hand, with a literal."""
        return self.insert.format(n=number)


def compared(endpoints: Endpoints) -> tuple[Statement, ...]:
    """A stateless filter, a windowed aggregate, and a lookup join with an aggregate."""
    events = kafka_source(
        "events", EVENTS_TOPIC, (Column("k", "STRING"), Column("v", "DOUBLE")), endpoints, startup="latest-offset"
    )
    by_hand = kafka_sink("", FEATURES_TOPIC, (), endpoints)
    filtered = _renamed(by_hand, "filtered", (Column("k", "STRING"), Column("v", "DOUBLE")))
    windowed = _renamed(
        by_hand,
        "windowed",
        (Column("k", "STRING"), Column("opens", "TIMESTAMP(3)"), Column("n", "BIGINT"), Column("mean", "DOUBLE")),
    )
    profiles = Table(
        "profiles",
        "side",
        "postgresql",
        (Column("k", "STRING", {"joinKey": 1}), Column("name", "STRING")),
        _jdbc_fields(endpoints, PROFILES),
        _jdbc_options(endpoints, PROFILES) | {"lookup.max-retries": "3"},
    )
    totals = Table(
        "totals",
        "sink",
        "postgresql",
        (Column("name", "STRING"), Column("n", "BIGINT"), Column("total", "DOUBLE")),
        _jdbc_fields(endpoints, TOTALS) | {"primary_key": "name"},
        _jdbc_options(endpoints, TOTALS)
        | {"sink.buffer-flush.max-rows": "5000", "sink.buffer-flush.interval": "1000 ms"},
        ("PRIMARY KEY (name) NOT ENFORCED",),
    )
    # By hand, a lookup join needs a processing-time column in the table's definition.
    events_with_time = Table(
        events.name,
        events.role,
        events.kind,
        events.columns,
        events.fields,
        events.options,
        ("seen AS PROCTIME()", *events.by_hand),
    )
    window = (
        "SELECT k, window_start, COUNT(*), AVG(v) FROM TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE) "
        "WHERE v > {n} GROUP BY k, window_start, window_end"
    )
    return (
        Statement(
            "filter",
            (events, filtered),
            "SELECT k, v FROM events WHERE v > {n}",
            "INSERT INTO filtered SELECT k, v FROM events WHERE v > {n}",
        ),
        Statement("window", (events, windowed), window, f"INSERT INTO windowed {window}"),
        Statement(
            "lookup",
            (events_with_time, profiles, totals),
            "SELECT p.name, COUNT(*), SUM(e.v) FROM events e JOIN profiles p ON e.k = p.k "
            "WHERE e.v > {n} GROUP BY p.name",
            "INSERT INTO totals SELECT p.name, COUNT(*), SUM(e.v) FROM events e "
            "JOIN profiles FOR SYSTEM_TIME AS OF e.seen AS p ON e.k = p.k WHERE e.v > {n} GROUP BY p.name",
        ),
    )


#: What a user gets wrong: a syntax error and a name that does not exist, in place of the filter's feature.
MISTAKES: Mapping[str, str] = {
    "syntax": "SELECT k, v FROM events WHERE v > > {n}",
    "name": "SELECT k, speed FROM events WHERE v > {n}",
}


def kafka_source(
    name: str, topic: str, columns: Sequence[Column], endpoints: Endpoints, startup: str = "earliest-offset"
) -> Table:
    """A topic of JSON with a column ``ts`` that is the event time, behind the given columns."""
    return Table(
        name,
        "source",
        "kafka",
        (*columns, Column("ts", "TIMESTAMP(3)", {"eventTime": 1})),
        {
            "bootstrap_servers": endpoints.kafka_bootstrap,
            "connector_topic": topic,
            "group_id": "bench",
            "startup_mode": startup,
        },
        {
            "connector": "kafka",
            "topic": topic,
            "properties.bootstrap.servers": endpoints.kafka_bootstrap,
            "properties.group.id": "bench",
            "scan.startup.mode": startup,
            "format": "json",
        },
        ("WATERMARK FOR ts AS ts",),
    )


def kafka_sink(name: str, topic: str, columns: Sequence[Column], endpoints: Endpoints) -> Table:
    """A topic that takes JSON."""
    return Table(
        name,
        "sink",
        "kafka",
        columns,
        {"bootstrap_servers": endpoints.kafka_bootstrap, "connector_topic": topic},
        {
            "connector": "kafka",
            "topic": topic,
            "properties.bootstrap.servers": endpoints.kafka_bootstrap,
            "sink.partitioner": "round-robin",
            "format": "json",
        },
    )


def _renamed(table: Table, name: str, columns: Sequence[Column]) -> Table:
    return Table(name, table.role, table.kind, columns, table.fields, table.options, table.by_hand)


def _jdbc_fields(endpoints: Endpoints, table: str) -> dict[str, str]:
    database = endpoints.postgres
    return {
        "connector_url": database.jdbc_url,
        "table_name": table,
        "connector_username": database.user,
        "connector_password": database.password,
    }


def _jdbc_options(endpoints: Endpoints, table: str) -> dict[str, str]:
    database = endpoints.postgres
    return {
        "connector": "jdbc",
        "url": database.jdbc_url,
        "table-name": table,
        "username": database.user,
        "password": database.password,
    }
