"""What the service gives to a family, and what a family brings to the service."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Request
from sqlmodel.ext.asyncio.session import AsyncSession

from app.access.roles import Needs
from app.access.tokens import Tokens
from app.database import Database
from app.errors import Envelope
from app.settings import Settings
from stream_jobs.definitions import Model

if TYPE_CHECKING:
    from app.supervisor import Supervisor

FAMILIES: tuple[str, ...] = ("app.hlink.family", "app.visual.family")
"""Modules that each have a ``family: Family``; importing one also defines its tables."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a part is. ``age_s``: seconds since this was so or last seen; None when it was asked just now."""

    ok: bool
    message: str = ""
    age_s: float | None = None


HealthCheck = Callable[[], Awaitable[Health]]


@dataclass
class Service:
    """The running service, as families see it."""

    settings: Settings
    database: Database
    supervisor: Supervisor
    tokens: Tokens
    health: dict[str, HealthCheck] = field(default_factory=dict)
    """Part name -> check, shown by ``/health``; a family adds its own parts in its lifespan."""
    parts: dict[str, Any] = field(default_factory=dict)
    """What a family keeps for its routes while the service runs (a planner's client, ...), under its own name."""


MODEL_FUNCTIONS = "functions of models"
"""The part of the service that has its :class:`ModelFunctions`; absent where no family serves stream jobs."""


@dataclass(frozen=True, slots=True)
class ModelFunction:
    """A function of stream jobs that a trained model was made into.

    ``result`` is the SQL type of what it gives: a prediction, or, with ``probability``, how probable that is.
    """

    id: int
    name: str
    version: int
    result: str
    probability: bool


class ModelFunctions(Protocol):
    """Makes trained models functions of stream jobs: what the family of these does for others."""

    async def __call__(self, name: str, model: Model, onnx: Path, description: str) -> Sequence[ModelFunction]:
        """The function ``predict_<name>``, and ``predict_<name>_proba`` where the model tells probabilities.

        A name that models had before gets a new version of its functions; the same model again changes nothing.

        Raises:
            InvalidInput, Conflict: the name, or the model; the name is something else's.
            Unavailable: the functions could not be made.
            FileNotFoundError: the file is gone.
        """


@dataclass(frozen=True)
class Family:
    """One published API: its routes, how it tells of errors, and what must live while the service runs."""

    name: str
    routers: Sequence[APIRouter]
    prefixes: Sequence[str]
    """The paths under which ``envelope`` is used, for instance ``/jobs``; also for addresses that do not exist."""
    envelope: Envelope
    lifespan: Callable[[Service], AbstractAsyncContextManager[None]] | None = None
    """Entered after the migration and before the supervisor's first tick; left after its last one."""
    needs: Needs = field(default_factory=dict)
    """What its routes ask of the caller where that is not what their method says (:mod:`app.access.roles`)."""


def load_families() -> list[Family]:
    """Import the families; their tables are known to SQLModel afterwards."""
    importlib.import_module("app.ids")
    importlib.import_module("app.supervisor.models")
    importlib.import_module("app.access.models")
    return [importlib.import_module(name).family for name in FAMILIES]


def service(request: Request) -> Service:
    running: Service = request.app.state.service
    return running


async def _read_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with service(request).database.read() as session:
        yield session


async def _write_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with service(request).database.write() as session:
        yield session


TheService = Annotated[Service, Depends(service)]
ReadSession = Annotated[AsyncSession, Depends(_read_session, scope="function")]
WriteSession = Annotated[AsyncSession, Depends(_write_session, scope="function")]
"""Committed when the route has returned and *before* the answer is sent. A route that must act after the commit
(kick a run, wait for it) opens ``service.database.write()`` itself instead."""
