"""What nodes have brought out is kept for later runs, up to a limit: what was used least lately goes first."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterable, Set
from pathlib import Path

from sqlmodel import col, select

from app.service import Service
from app.supervisor import Run
from app.visual.engine.plan import NODES
from app.visual.engine.run import DONE
from app.visual.jobs.folders import OUTPUTS, run_folder
from app.visual.jobs.trained import referred
from app.visual.runs import KIND

EVERY_S = 300.0
UNFINISHED_S = 24 * 3600.0
"""After so long without a change, outputs that were never finished are what a killed run left."""


async def clean(service: Service) -> None:
    """Bring the folder of outputs below its limit.

    What runs that have not ended use stays, and so do the models that jobs predict with.
    """
    settings = service.settings
    async with service.database.read() as session:
        active = (await session.exec(select(Run).where(Run.kind == KIND, col(Run.ended_at).is_(None)))).all()
        needed = await referred(session, settings)
    needed |= {one["key"] for run in active for one in run.spec.get("models", ())}
    folders = [run_folder(settings, run) for run in active]
    await asyncio.to_thread(_clean, settings.home / OUTPUTS, folders, needed, settings.visual_outputs_mib * 1024**2)


def _clean(outputs: Path, running: Iterable[Path], needed: Set[str], limit: int) -> None:
    if not outputs.is_dir():
        return
    used = needed | _keys_of(running)
    kept: list[tuple[float, int, Path]] = []
    for folder in outputs.iterdir():
        try:
            last = (folder / DONE).stat().st_mtime
        except FileNotFoundError:
            if time.time() - folder.stat().st_mtime > UNFINISHED_S:
                shutil.rmtree(folder, ignore_errors=True)
            continue
        if folder.name not in used:
            kept.append((last, _size(folder), folder))
    total = sum(size for _, size, _ in kept)
    for _, size, folder in sorted(kept):
        if total <= limit:
            break
        # First what says that it is whole: a run that looks for it meanwhile makes it anew.
        (folder / DONE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        total -= size


def _keys_of(runs: Iterable[Path]) -> set[str]:
    """What the nodes of these runs have brought out or read."""
    found = set()
    for folder in runs:
        for node in (folder / NODES).glob("*.json"):
            found.add(json.loads(node.read_bytes()).get("key"))
    return found


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
