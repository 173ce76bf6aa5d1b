"""Where runs of graphs and what nodes have brought out are, under ``HLINK_HOME``."""

from __future__ import annotations

from pathlib import Path

from app.settings import Settings
from app.supervisor import Run

RUNS = Path("visual", "runs")
OUTPUTS = Path("visual", "outputs")


def run_folder(settings: Settings, run: Run) -> Path:
    """The folder of a run."""
    return settings.home / RUNS / run.external_id
