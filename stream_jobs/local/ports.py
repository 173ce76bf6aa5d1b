"""Free TCP ports on the loopback address."""

from __future__ import annotations

import random
import socket

from stream_jobs.local.errors import StackStateError

LOOPBACK = "127.0.0.1"

# Below the range from which systems take the ports of outgoing connections (Linux 32768, macOS 49152), so that a port
# chosen once is still free at the next start.
_RANGE = range(15000, 32000)
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that linger after a stop do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def choose(taken: set[int]) -> int:
    """A free port that is not in ``taken``.

    :raises StackStateError: none was found.
    """
    for _ in range(_TRIES):
        port = random.choice(_RANGE)
        if port not in taken and is_free(port):
            return port
    raise StackStateError(
        f"no free port found in {_TRIES} tries between {_RANGE.start} and {_RANGE.stop}",
        where=LOOPBACK,
        remedy="see what listens there (ss -ltn), or whether this user may open sockets at all",
    )


def accepts(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something accepts connections at the address."""
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except OSError:
        return False
