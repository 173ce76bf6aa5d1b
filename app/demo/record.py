"""What a run of the demo leaves behind, written down before it is made, so that the next run can clear it away.

A run that ends by itself stops its job and its processes; one that was killed does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """The last run of the demo in a home.

    :param tag: of its topics and its schema (:class:`~app.demo.stage.Places`).
    :param job_id: its job in the service, if it came so far.
    :param stack_is_ours: the embedded stack was started for this run and not ended.
    :param processes: (pid, time of creation) of the stack's processes then; empty if they were still starting.
    """

    tag: str = ""
    job_id: int | None = None
    stack_is_ours: bool = False
    processes: Sequence[tuple[int, float]] = ()


class RecordFile:
    """The record of a home, in ``demo/last.json``."""

    def __init__(self, home: Path) -> None:
        self._file = home / "demo" / "last.json"
        self.last = self._read()

    def note(self, **changes: object) -> None:
        """Change the record, on disk before this returns."""
        self.last = replace(self.last, **changes)  # type: ignore[arg-type]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        incoming = self._file.with_suffix(".new")
        incoming.write_text(json.dumps(asdict(self.last), indent=1))
        incoming.replace(self._file)

    def _read(self) -> Record:
        try:
            content = json.loads(self._file.read_text())
            return Record(**{**content, "processes": tuple((int(p), float(t)) for p, t in content["processes"])})
        except (OSError, ValueError, TypeError, KeyError):
            # Nobody's data depend on it: without it an earlier run's leftovers just stay.
            return Record()
