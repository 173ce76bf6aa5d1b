"""``python -m app.hlink.extracts.program FILE``: copies rows to a file. The order comes on standard input, pickled.

A process of its own, so that the service never touches a row. What it is given it has in memory only. Standard input
stays open as long as somebody wants the file: when it ends, so does the process, whatever it is doing.

Standard output tells how far it is, a line of JSON each (:class:`~app.hlink.extracts.rows.Progress`), and last either
``{"done": {"rows": ..., "size": ..., "md5": ..., "skipped": ...}}`` or ``{"refused": "why"}``.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg
from kafka.errors import KafkaError

from app.hlink.connections.kafka import kafka_reason
from app.hlink.extracts import postgresql, topics
from app.hlink.extracts.orders import Order
from app.hlink.extracts.rows import Refused, Rows, say
from stream_jobs.definitions import JdbcLookup, JdbcSink, KafkaLookup, KafkaSink, KafkaSource, Secret

_LENGTH = 8


def packed(order: Order) -> bytes:
    """An order as the program takes it."""
    data = pickle.dumps(order)
    return len(data).to_bytes(_LENGTH, "big") + data


def main(file: Path) -> int:
    """Copy; the exit status is 0 where the file is whole."""
    order: Order = pickle.loads(sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(_LENGTH), "big")))
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        say({"done": _copy(order, file)})
    except Refused as refused:
        say({"refused": _without_secrets(str(refused), order)})
    except KafkaError as error:
        said = _without_secrets(kafka_reason(error), order)
        say({"refused": f"the topic of '{order.table.name}' cannot be read: {said}"})
    except psycopg.Error as error:
        said = _without_secrets(" ".join(str(error).split()), order)
        say({"refused": f"the database of '{order.table.name}' says: {said}"})
    except OSError as error:
        say({"refused": f"the file cannot be written: {error.strerror or type(error).__name__}"})
    else:
        return 0
    return 1


def _copy(order: Order, file: Path) -> dict[str, Any]:
    wanted = order.selection
    with file.open("wb", buffering=1024**2) as stream:
        rows = Rows(stream, wanted.most_rows, wanted.most_bytes)
        match order.table.connector:
            case JdbcSink(connection=connection) | JdbcLookup(connection=connection):
                postgresql.copy(order, connection, rows)
            case KafkaSource() | KafkaSink() | KafkaLookup() as connector:
                topics.copy(order, connector, rows)
        if not rows.number:
            raise Refused(f"'{order.table.name}' has no row there: choose other times, or wait until it has")
        stream.flush()
        os.fsync(stream.fileno())
    return {"rows": rows.number, "size": rows.size, "md5": rows.md5, "skipped": rows.skipped}


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(2)


def _without_secrets(text: str, order: Order) -> str:
    connector = order.table.connector
    secrets = [one for one in getattr(connector, "properties", {}).values() if isinstance(one, Secret)]
    if isinstance(connector, JdbcSink | JdbcLookup):
        secrets.append(connector.connection.password)
    for one in secrets:
        if one.value:
            text = text.replace(one.value, str(one))
    return text


if __name__ == "__main__":
    # Not by sys.exit: a client's thread must not keep a process whose work is done.
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)
