"""The data sets that are always there. Each is written down as a CSV file when it is asked for first.

A process of the engine's writes it (:mod:`app.visual.engine.presets`): the service itself loads no such library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.errors import Unavailable
from app.settings import Settings
from app.visual.choices import DataType
from app.visual.datasets.contents import Contents, look_into
from app.visual.engine.presets import TARGETS

_VERSION = 2
"""Part of the folder's name: raise it when the files are written otherwise, or looked into otherwise."""
_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Preset:
    """A data set that comes with a library. Ids are below all that are given to others; ``size`` is in bytes."""

    id: int
    name: str
    rows: int
    size: int

    @property
    def target(self) -> str:
        """The column that models of it are to predict."""
        return TARGETS[self.name]

    @property
    def digest(self) -> str:
        """Names its contents."""
        return f"preset:{self.name}-{_VERSION}"


PRESETS: Sequence[Preset] = (
    Preset(1, "iris", 150, 3877),
    Preset(2, "wine", 178, 13_329),
    Preset(3, "breast_cancer", 569, 124_866),
    Preset(4, "digits", 1797, 495_375),
    Preset(5, "diabetes", 442, 95_137),
    Preset(6, "flights", 327_346, 25_440_158),
)
BY_NAME: Mapping[str, Preset] = {preset.name: preset for preset in PRESETS}
BY_ID: Mapping[int, Preset] = {preset.id: preset for preset in PRESETS}

FILE, INDEX, _CONTENTS = "data.csv", "rows", "contents.json"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A preset that is on disk."""

    path: Path
    index: Path
    contents: Contents


def prepared(settings: Settings, preset: Preset) -> Prepared:
    """The preset's file and what is in it. The first time takes seconds: call it in a thread.

    Raises:
        Unavailable: it could not be written, as when the library that it comes with is not installed.
    """
    folder = settings.home / "visual" / "presets" / f"{preset.name}-{_VERSION}"
    if not folder.is_dir():
        beside = folder.with_name(f".{preset.name}-{uuid.uuid4().hex}")
        beside.mkdir(parents=True)
        try:
            _write(preset, beside)
            with suppress(OSError):  # another one was faster, and wrote the same
                os.rename(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    contents = Contents.model_validate_json((folder / _CONTENTS).read_bytes())
    return Prepared(folder / FILE, folder / INDEX, contents)


def _write(preset: Preset, folder: Path) -> None:
    file = folder / FILE
    _make(preset, file)
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    contents = look_into(file, file.name, DataType.CSV, folder / INDEX, lambda: None, written_here=True)
    with (folder / _CONTENTS).open("w", encoding="utf-8") as stream:
        stream.write(contents.model_dump_json())
        stream.flush()
        os.fsync(stream.fileno())


def _make(preset: Preset, file: Path) -> None:
    """Have the file written by a process that has the libraries."""
    try:
        made = subprocess.run(
            [sys.executable, "-P", "-m", "app.visual.engine.presets", preset.name, str(file)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"The data set {preset.name} could not be written within {_WITHIN_S:g} s: try again later"
        ) from None
    if made.returncode:
        lines = made.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(
            f"The data set {preset.name} could not be written: {lines[-1] if lines else made.returncode}. It needs "
            "hlink[experiments,demo]: install that, or upload the file as a data set of your own"
        )
