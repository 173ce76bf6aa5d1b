"""Flink's SQL client with a script: what one starts a job with who has no service."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path

from benchmarks.distribution import Distribution
from benchmarks.http import Failed
from benchmarks.processes import kill_group
from benchmarks.statements import Statement

_WITHIN_S = 90.0
_JOB_ID = re.compile(r"Job ID: ([0-9a-f]{32})")


def submit(distribution: Distribution, statement: Statement, number: int, script: Path) -> tuple[float, str]:
    """Start a job by ``sql-client.sh -f``; milliseconds until it has told the job's id, and the id.

    :raises Failed: it ended, or its time ended, without an id.
    """
    settings = [f"SET '{key}' = '{value}'" for key, value in statement.settings("bench").items()]
    lines = [*settings, *statement.ddl(), statement.insert_with(number)]
    script.write_text("".join(f"{line};\n" for line in lines))
    began = time.perf_counter()
    process = subprocess.Popen(
        ["bash", str(distribution.bin / "sql-client.sh"), "-f", str(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(distribution.environment),
        start_new_session=True,
    )
    late = threading.Timer(_WITHIN_S, kill_group, [process])
    late.start()
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.decode(errors="replace"))
            if found := _JOB_ID.search(said[-1]):
                return (time.perf_counter() - began) * 1000, found.group(1)
    finally:
        late.cancel()
        kill_group(process)
    raise Failed(f"the SQL client ended without a job: {''.join(said)[-2000:]}")
