"""Progress of the stack's operations, as lines for a log or as a live table for a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from stream_jobs.local.progress import Progress, Step


@contextmanager
def showing(to_stderr: bool = False) -> Iterator[Progress]:
    """A progress that shows itself: live on a terminal, else one line for each change."""
    console = Console(stderr=to_stderr, highlight=False)
    if not console.is_terminal:
        yield _Lines(console)
        return
    table = _LiveTable()
    with Live(table, console=console, refresh_per_second=8):
        yield table


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, str] = {}
        self._begun = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, step: Step) -> None:
        with self._lock:
            if self._last.get(step.subject) == step.text:
                return
            self._last[step.subject] = step.text
            seconds = time.monotonic() - self._begun
            self._console.print(
                f"{seconds:6.1f}s  {step.subject:<12} {step.text}", markup=False, soft_wrap=True, no_wrap=True
            )


class _LiveTable:
    """One row a subject, with the seconds that it has taken."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Step, float, float | None]] = {}
        self._lock = threading.Lock()

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        with self._lock:
            begun = self._rows[step.subject][1] if step.subject in self._rows else now
            self._rows[step.subject] = (step, begun, now if step.done else None)

    def __rich__(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        now = time.monotonic()
        with self._lock:
            for subject, (step, begun, ended) in self._rows.items():
                sign = "[green]✓[/]" if step.done else "[yellow]…[/]"
                table.add_row(sign, subject, f"{(ended or now) - begun:.1f}s", step.text)
        return table
