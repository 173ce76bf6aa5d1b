"""``python -m app.hlink.extracts.program FILE``: copies rows to a file. The order comes on standard input, pickled.

A process of its own, so that the service never touches a row. What it is given it has in memory only. Standard input
stays open as long as somebody wants the file: when it ends, so does the process, whatever it is doing.

Standard output tells how far it is, a line of JSON each (:class:`~app.hlink.extracts.rows.Progress`), and last either
``{"done": {"rows": ..., "size": ..., "md5": ..., "skipped": ...}}``, ``{"refused": "why"}`` or ``{"broker": "why"}``,
which is as Kafka's client says it.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

from app.hlink.extracts.orders import Database, Order, Topic
from app.hlink.extracts.rows import BrokerRefused, Refused, Rows, say

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
    except BrokerRefused as refused:
        say({"broker": _without_secrets(str(refused), order)})
    except OSError as error:
        say({"refused": f"the file cannot be written: {error.strerror or type(error).__name__}"})
    except Exception as error:  # noqa: BLE001 - whatever it fails by, it is told
        say({"refused": f"the copy failed by {type(error).__name__}: {_without_secrets(str(error), order)}"})
    else:
        return 0
    return 1


def _copy(order: Order, file: Path) -> dict[str, Any]:
    wanted = order.selection
    with file.open("wb", buffering=1024**2) as stream:
        rows = Rows(stream, wanted.most_rows, wanted.most_bytes)
        match order.source:  # each client is imported where it is needed: they take long
            case Database() as source:
                from app.hlink.extracts import postgresql

                postgresql.copy(order, source, rows)
            case Topic() as source:
                from app.hlink.extracts import topics

                topics.copy(order, source, rows)
        if not rows.number:
            raise Refused(f"'{order.name}' has no row there: choose other times, or wait until it has")
        stream.flush()
        os.fsync(stream.fileno())
    return {"rows": rows.number, "size": rows.size, "md5": rows.md5, "skipped": rows.skipped}


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(2)


def _without_secrets(text: str, order: Order) -> str:
    for one in filter(None, order.secrets):
        text = text.replace(one, "******")
    return text


if __name__ == "__main__":
    # Not by sys.exit: a client's thread must not keep a process whose work is done.
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)
