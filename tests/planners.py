"""A planner for tests: the service's own, with the artifacts that all tests share."""

from __future__ import annotations

from pathlib import Path

from app.hlink.planner import configuration
from app.settings import Settings
from stream_jobs.planner.client import PlannerConfig
from tests.stack import shared_artifacts


def planner_config(home: Path) -> PlannerConfig:
    """How the service would run its planner, with its work files under ``home``."""
    return configuration(Settings(home=home), shared_artifacts())
