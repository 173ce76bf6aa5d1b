"""What the demo registers: six tables and one job, as the bodies of the REST calls.

Nothing here is special to the demo's service: a body is what a client, or the console, sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.demo.stage import Places
from stream_jobs.local.endpoints import Endpoints

SOURCE, SIDES, SINKS = "flights", ("airlines", "planes", "weather"), ("features_topic", "features_table")
WINDOW_KEY = ("carrier", "origin", "hour_start")
CHECKPOINT_INTERVAL_MS = 5_000

Body = dict[str, Any]

STATEMENT = """\
WITH enriched AS (
  SELECT f.carrier, a.name AS airline, f.origin, f.scheduled, f.dep_delay,
         2013 - p.built AS plane_age, w.wind_speed
  FROM {flights} f
  LEFT JOIN {airlines} a ON f.carrier = a.carrier
  LEFT JOIN {planes} p ON f.tailnum = p.tailnum
  LEFT JOIN {weather} w ON f.origin = w.origin AND FLOOR(f.scheduled TO HOUR) = w.time_hour
)
SELECT carrier, MAX(airline) AS airline, origin, window_start AS hour_start,
       COUNT(*) AS flights,
       COUNT(dep_delay) AS departures,
       AVG(dep_delay) AS mean_delay,
       PERCENTILE(dep_delay, 0.9) AS p90_delay,
       1 - CAST(COUNT(dep_delay) AS DOUBLE) / COUNT(*) AS cancelled_share,
       AVG(CAST(plane_age AS DOUBLE)) AS plane_age,
       MAX(wind_speed) AS wind_speed
FROM TUMBLE(TABLE enriched, DESCRIPTOR(scheduled), INTERVAL '1' HOUR)
GROUP BY carrier, origin, window_start, window_end"""
"""The features: plain joins on the side tables, which the service makes lookup joins, then a window over the result.

A flight that left has a delay and a cancelled one has none, so that COUNT(dep_delay) counts departures.
"""

FEATURES = {
    "carrier": "STRING",
    "airline": "STRING",
    "origin": "STRING",
    "hour_start": "TIMESTAMP(3)",
    "flights": "BIGINT",
    "departures": "BIGINT",
    "mean_delay": "DOUBLE",
    "p90_delay": "DOUBLE",
    "cancelled_share": "DOUBLE",
    "plane_age": "DOUBLE",
    "wind_speed": "DOUBLE",
}


@dataclass(frozen=True)
class Registered:
    """The ids of the tables by their names here, and what SQL calls them."""

    ids: Mapping[str, int]
    aliases: Mapping[str, str]


def tables(endpoints: Endpoints, places: Places, aliases: Mapping[str, str]) -> dict[str, Body]:
    """The body of ``/ds/addDO`` for each table, by its name here; ``aliases`` is what SQL is to call it."""
    kafka = {"bootstrap_servers": endpoints.kafka_bootstrap}
    database = {
        "connector_url": endpoints.postgres.jdbc_url,
        "connector_username": endpoints.postgres.user,
        "connector_password": endpoints.postgres.password,
    }
    # The whole of each side table fits: a row is asked for once.
    cache = {"cacheType": "W_TinyLFU", "maximumSize": "30000", "expireAfterWrite": "3600"}

    def side(name: str, *columns: Body) -> Body:
        fields = {**database, **cache, "table_name": places.table(name)}
        return table(aliases[name], "side", "postgresql", columns, fields)

    return {
        "flights": table(
            aliases["flights"],
            "source",
            "kafka",
            (
                column("flight_id", "BIGINT"),
                column("carrier", "STRING"),
                column("flight", "INT"),
                column("tailnum", "STRING"),
                column("origin", "STRING"),
                column("dest", "STRING"),
                # No watermark_delay: one partition in event-time order has no late rows.
                column("scheduled", "TIMESTAMP(3)", eventTime=1),
                column("dep_delay", "DOUBLE"),
                column("arr_delay", "DOUBLE"),
                column("distance", "INT"),
                column("cancelled", "BOOLEAN"),
            ),
            {
                **kafka,
                "connector_topic": places.flights_topic,
                "group_id": places.flights_topic,
                "startup_mode": "earliest-offset",
            },
        ),
        "airlines": side("airlines", column("carrier", "STRING", joinKey=1), column("name", "STRING")),
        "planes": side("planes", column("tailnum", "STRING", joinKey=1), column("built", "INT")),
        "weather": side(
            "weather",
            column("origin", "STRING", joinKey=1),
            column("time_hour", "TIMESTAMP(3)", joinKey=1),
            column("wind_speed", "DOUBLE"),
        ),
        "features_topic": table(
            aliases["features_topic"],
            "sink",
            "kafka",
            [column(name, type_) for name, type_ in FEATURES.items()],
            {**kafka, "connector_topic": places.features_topic},
        ),
        "features_table": table(
            aliases["features_table"],
            "sink",
            "postgresql",
            [column(name, type_) for name, type_ in FEATURES.items()],
            {**database, "table_name": places.table("features"), "primary_key": ", ".join(WINDOW_KEY)},
        ),
    }


def job(name: str, cluster_id: int, registered: Registered) -> Body:
    """The body of ``/jobs/addDO``: which tables, and the statement of each sink."""
    statement = STATEMENT.format(**registered.aliases)
    return {
        "jobName": name,
        "jobDesc": "Hourly departures and delays by carrier and origin",
        "jobType": 0,
        "clusterId": cluster_id,
        "parallelism": 1,
        "checkpointInterval": CHECKPOINT_INTERVAL_MS,
        "jobDsVOS": [
            *({"dsId": registered.ids[name]} for name in (SOURCE, *SIDES)),
            *({"dsId": registered.ids[name], "runSql": statement} for name in SINKS),
        ],
    }


def table(alias: str, role: str, kind: str, columns: Any, fields: Mapping[str, str]) -> Body:
    """A table: its columns, and the filled-in form of its connector."""
    return {
        "dsName": alias,
        "tableName": alias,
        "dsType": role,
        "tableType": kind,
        "schemaType": 0,
        "dsSchemaColumnVOS": [
            {"virtualId": str(number), "virtualPid": "0", "level": 1, **one} for number, one in enumerate(columns, 1)
        ],
        "jsonFieldVO": {"jsonValue": [{"fieldName": name, "fieldValue": value} for name, value in fields.items()]},
    }


def column(name: str, flink_type: str, **marks: int) -> Body:
    """A column; marks are ``eventTime`` and ``joinKey``."""
    return {"name": name, "flinkType": flink_type, **marks}
