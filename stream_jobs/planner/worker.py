"""The planner process: answers requests on its standard input, one JSON object a line, in order.

Imports PyFlink and the standard library only, so that another Flink version is another interpreter and nothing
else. It ends when its standard input does, and takes its JVM with it: no planner outlives the service.

Start: ``python worker.py '{"classpath": [...], "java": ..., "conf_dir": ..., "heap_mib": 512, ...}'``
Request: ``{"op": "parse" | "expand_stars" | "compile" | "explain" | "execute" | ..., ...}``, for the bridge as it is;
``python_path`` is where the modules of Python functions are.
Answer: the bridge's, ``{"error": {"causes": [...]}}`` where Flink refused.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

_JVM_START_S = 60


def main() -> None:
    settings = json.loads(sys.argv[1])
    # The answers are the JVM's to write, and whatever user code prints here must not end up between two of them.
    answers = os.dup(1)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, requests), daemon=True).start()
    jvm = _start_jvm(settings, answers)
    threading.Thread(target=_end_with, args=(jvm,), daemon=True).start()
    bridge = _connect(settings)
    os.write(answers, b'{"ready": true}\n')
    modules = _Modules()
    while True:
        request = requests.get()
        if b'"python_path"' in request:
            modules.come_from(json.loads(request).get("python_path", []))
        bridge.answer(request)


class _Modules:
    """Where the modules of users' functions are imported from: for each request, from its own places only."""

    def __init__(self) -> None:
        self._path: list[str] = []

    def come_from(self, path: list[str]) -> None:
        """Forget the modules of other versions, so that no two are mixed, and look in these places first."""
        if path == self._path:
            return
        for name, module in list(sys.modules.items()):
            if any(_is_below(module, place) for place in self._path):
                del sys.modules[name]
        sys.path[:] = [*path, *(place for place in sys.path if place not in self._path)]
        importlib.invalidate_caches()
        self._path = path


def _is_below(module: Any, place: str) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(str(found).startswith(place + os.sep) for found in places if found)


def _read(stream: BinaryIO, requests: queue.SimpleQueue[bytes]) -> None:
    for line in stream:
        requests.put(line)
    os._exit(0)


def _end_with(jvm: subprocess.Popen[bytes]) -> None:
    code = jvm.wait()
    sys.stderr.write(f"the planner's JVM ended with exit code {code}\n")
    sys.stderr.flush()
    os._exit(1)


def _start_jvm(settings: dict[str, Any], answers: int) -> subprocess.Popen[bytes]:
    from pyflink.find_flink_home import _find_flink_home
    from pyflink.pyflink_gateway_server import get_jvm_opts

    home = Path(_find_flink_home())
    conf_dir = settings["conf_dir"]
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        environment = {
            **os.environ,
            "_PYFLINK_CONN_INFO_PATH": str(port_file),
            "FLINK_CONF_DIR": conf_dir,
            "FLINK_PLUGINS_DIR": str(home / "plugins"),
        }
        jvm = subprocess.Popen(
            [
                settings["java"],
                "-XX:+IgnoreUnrecognizedVMOptions",
                "--add-opens=jdk.proxy2/jdk.proxy2=ALL-UNNAMED",
                *get_jvm_opts({**environment, "FLINK_CONF_DIR": str(home / "conf")}),
                f"-Xmx{settings['heap_mib']}m",
                # One request at a time on a small heap: the collector with the smallest footprint.
                "-XX:+UseSerialGC",
                # The quick compiler alone: the thorough one would take a core from everybody for the first hundreds
                # of requests (a submission 15 % slower), to be 20 % faster after thousands.
                "-XX:TieredStopAtLevel=1",
                f"-Dlog4j.configurationFile={conf_dir}/log4j.properties",
                "-cp",
                os.pathsep.join(settings["classpath"]),
                "org.apache.flink.client.python.PythonGatewayServer",
            ],
            # The gateway ends at the end of its input: it must be this process's pipe, and no other's.
            stdin=subprocess.PIPE,
            stdout=answers,
            env=environment,
        )
        deadline = time.monotonic() + _JVM_START_S
        # The gateway makes the file before it writes the port into it.
        while not port_file.exists() or port_file.stat().st_size < 4:
            if jvm.poll() is not None:
                sys.exit(f"the planner's JVM did not start: exit code {jvm.returncode}")
            if time.monotonic() > deadline:
                sys.exit(f"the planner's JVM did not open its port within {_JVM_START_S} s")
            time.sleep(0.02)
        (port,) = struct.unpack("!I", port_file.read_bytes()[:4])
    os.environ["PYFLINK_GATEWAY_PORT"] = str(port)
    return jvm


def _connect(settings: dict[str, Any]) -> Any:
    # Python functions must run in processes of the cluster's own: the default lets them call back into this one.
    os.environ["_python_worker_execution_mode"] = "process"  # noqa: SIM112  PyFlink's own spelling
    from pyflink.java_gateway import get_gateway

    return get_gateway().jvm.hlink.Bridge(json.dumps(settings).encode())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
