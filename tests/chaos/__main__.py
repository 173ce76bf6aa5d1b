"""``python -m tests.chaos``: break things, at random and at named points, while jobs run whose right result is known.

Each fault is a line, with the seconds since the beginning. The last line is JSON: ``faults``, ``duplicated_runs``
(two live Flink jobs of one job), ``lost_savepoints`` (called complete and not whole on disk), ``wrong_results``,
``wrong_statuses`` (contradicting Flink for longer than 5 s while both answer), ``seed``, ``seconds``.

Exit status: 0 only if all but ``faults`` are 0; 1 otherwise, also when something did not come back; 130 interrupted.
The stack is one of its own, in ``HLINK_HOME/chaos``, and nothing of it is left. The same seed breaks the same things
in the same order.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback

from app.settings import settings
from tests.chaos.faults import ALL
from tests.chaos.stage import Stage, prepared

_CHECKED_EVERY = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break things while jobs run.")
    parser.add_argument("--faults", type=int, default=0, help="how many; by default as many as fit into --seconds")
    parser.add_argument("--seconds", type=float, default=240.0, help="how long faults are begun, without --faults")
    parser.add_argument("--seed", type=int, default=0, help="what is broken, and when; by default one of the clock")
    parser.add_argument("--only", action="append", choices=[fault.name for fault in ALL], help="these faults only")
    parser.add_argument("--sqlite", action="store_true", help="one replica on SQLite, instead of two on PostgreSQL")
    given = parser.parse_args()
    seed = given.seed or int(time.time())
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {line}", flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say(f"seed {seed}: the stack, the service, the jobs")
    counted, failed = 0, False
    stage: Stage | None = None
    try:
        with prepared(settings().home / "chaos", seed, say, replicas=1 if given.sqlite else 2) as stage:
            say("all runs")
            chosen = [fault for fault in ALL if not given.only or fault.name in given.only]
            first_at = time.monotonic()
            while counted < given.faults or (not given.faults and time.monotonic() - first_at < given.seconds):
                counted += 1
                (fault,) = stage.chance.choices(chosen, [one.weight for one in chosen])
                say(f"{counted:3}  {fault.do(stage)}")
                stage.until_all_is_well()
                stage.watcher.check_savepoints()
                if counted % _CHECKED_EVERY == 0:
                    stage.check()
                    say("     all is well, results and savepoints are right so far")
            say("the end: everything that was fed must have come")
            stage.check_at_the_end()
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001 - it is told, and counts
        traceback.print_exc()
        failed = True
    findings = stage.watcher.findings if stage is not None and hasattr(stage, "watcher") else None
    counts = {
        name: len(getattr(findings, name)) if findings is not None else 0
        for name in ("duplicated_runs", "lost_savepoints", "wrong_results", "wrong_statuses")
    }
    for finding in findings.all if findings is not None else ():
        say(f"!! {finding}")
    if failed:
        counts["wrong_statuses"] += 1  # something did not come back to what is desired
    print(json.dumps({"faults": counted, **counts, "seed": seed, "seconds": round(time.monotonic() - began)}))
    return 1 if failed or any(counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
