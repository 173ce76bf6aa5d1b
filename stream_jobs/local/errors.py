"""What can go wrong with the embedded stack, each with what happened, where, and the remedy."""

from __future__ import annotations

from pathlib import Path


class LocalStackError(Exception):
    """Base of all errors of this package. ``str()`` is fit for a user's eyes as it is.

    :param what: what is wrong, with the values seen.
    :param where: the file, address or process that it is about.
    :param remedy: what the reader can do now.
    """

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  where:  {self.where}\n  remedy: {self.remedy}"


class ArtifactError(LocalStackError):
    """A Maven artifact could not be had, or is not the one that the lock names."""


class InstallationError(LocalStackError):
    """A Python package that the stack runs on is missing or incomplete."""


class StackBusyError(LocalStackError):
    """Another process is starting or stopping the same stack and did not finish in time."""


class StackStateError(LocalStackError):
    """The state file cannot be read, or the home folder cannot be written."""


class ComponentError(LocalStackError):
    """A component of the stack did not start, did not stop, or is not reachable.

    :param component: its name.
    :param log: its log file, if it has one.
    """

    def __init__(self, component: str, what: str, *, where: str, remedy: str, log: Path | None = None) -> None:
        super().__init__(f"{component}: {what}", where=where, remedy=remedy)
        self.component = component
        self.log = log


class Interrupted(LocalStackError):
    """The caller asked to stop waiting."""


class SeveralErrors(LocalStackError):
    """More than one component failed; ``errors`` has each."""

    def __init__(self, errors: list[LocalStackError]) -> None:
        super().__init__(
            "\n".join(str(error) for error in errors),
            where=", ".join(sorted({error.where for error in errors})),
            remedy="see each",
        )
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)
