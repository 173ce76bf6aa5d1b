"""Work in processes of its own, side by side, each of which can be ended at any moment."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Generic, TypeVar

from threadpoolctl import threadpool_limits

from app.visual.engine.values import NodeFailure

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt: a number, or why there is none."""

    value: float | None = None
    reason: str | None = None


@dataclass(eq=False)
class Attempt(Generic[T]):
    """A process that works out one number. ``of`` says what it is about."""

    of: T
    process: ForkProcess
    answer: Connection
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self.began

    def outcome(self) -> Outcome:
        """What it came to; it has ended, or is about to."""
        try:
            found: Outcome = self.answer.recv()
        except (EOFError, OSError):
            self.process.join()
            found = Outcome(reason=f"It was ended by signal {-(self.process.exitcode or 0)}")
        self.end()
        return found

    def end(self) -> None:
        """End it, wherever it is."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.answer.close()


class Attempts(Generic[T]):
    """The attempts that are under way; as a context, of which none is left at its end."""

    def __init__(self) -> None:
        self._running: list[Attempt[T]] = []

    def __enter__(self) -> Attempts[T]:
        return self

    def __exit__(self, *_: object) -> None:
        for attempt in self:
            self.give_up(attempt)

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[Attempt[T]]:
        return iter(list(self._running))

    def begin(self, of: T, work: Callable[[], float | None]) -> None:
        """Start working out a number."""
        context = multiprocessing.get_context("fork")
        answer, said = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(work, said), daemon=True)
        process.start()
        said.close()
        self._running.append(Attempt(of, process, answer))

    def ended(self, timeout_s: float) -> Sequence[Attempt[T]]:
        """The attempts that have come to something, as soon as one has; none after a while without."""
        ready = wait([attempt.answer for attempt in self._running], max(timeout_s, 0.0))
        ended = [attempt for attempt in self._running if attempt.answer in ready]
        self._running = [attempt for attempt in self._running if attempt not in ended]
        return ended

    def give_up(self, attempt: Attempt[T]) -> None:
        """End an attempt that is not wanted any more."""
        self._running.remove(attempt)
        attempt.end()


def _work(work: Callable[[], float | None], said: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # On one processor: threads that libraries may have had before the fork are not there any more.
    with threadpool_limits(1), warnings.catch_warnings():
        # What libraries say of parameters that are only tried is nothing for the log.
        warnings.simplefilter("ignore")
        try:
            said.send(Outcome(work()))
        except NodeFailure as failure:
            said.send(Outcome(reason=str(failure)))
        except MemoryError:
            said.send(Outcome(reason="There was not enough memory"))
        except Exception as error:  # noqa: BLE001 - whatever a trial fails by, others may not
            said.send(Outcome(reason="".join(traceback.format_exception_only(error)).strip()))


def _end_with_parent() -> None:
    """Whoever is to be told the number may be killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
