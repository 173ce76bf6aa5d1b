"""Experiments of deep learning in the interpreters that ``hlink frameworks install`` makes: ``make test-all``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.settings import settings
from app.visual.catalogue import Framework
from app.visual.family import family
from app.visual.frameworks import OWN, command, interpreter
from tests.graphs import Experiments
from tests.integration.conftest import serve  # noqa: F401  a fixture
from tests.services import Serve

ByHand = Callable[..., Any]


@pytest.fixture
def database_url() -> str:
    """SQLite: what frameworks compute does not depend on it."""
    return ""


@pytest.fixture
async def lab(serve: Serve) -> Experiments:  # noqa: F811
    client, _ = await serve(family, tick_s=0.2, lease_s=2, **_interpreters())
    return Experiments(client)


@pytest.fixture
def by_hand() -> ByHand:
    """``by_hand(framework, function, *arguments)``: what a function of ``tests.frameworks.by_hand_<name>`` answers.

    It is written with the framework alone and runs in its interpreter.
    """

    def run(framework: Framework, function: str, *arguments: Any) -> Any:
        own = OWN[framework]
        program = command(settings(), framework, f"tests.frameworks.by_hand_{own.name}", function, *map(str, arguments))
        done = subprocess.run(program, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def _interpreters() -> dict[str, Path]:
    found = {}
    for own in OWN.values():
        python = interpreter(settings(), own)
        assert python.exists(), f"{own.name} is not installed: hlink frameworks install {own.name}"
        found[f"{own.name}_python"] = python
    return found
