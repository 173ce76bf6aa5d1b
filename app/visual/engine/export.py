"""``python -m app.visual.engine.export PORT_FOLDER FILE``: a model that was kept, as a file for use elsewhere.

``--format skops`` is one object of scikit-learn's; ``--format onnx`` (:mod:`app.visual.engine.portable`) needs neither
that nor Python. ``--format zip`` is of networks: ONNX (of Keras its own archive), the description and the weights as
they are kept, and the preparation as skops. A process of its own, so that the service never has a library of models in
its memory. Exit status 3: there is no such file of this model, for the reason that is the last line of standard error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from app.visual.engine.values import KeepsItself, Model, is_prepared, load, some_rows

REFUSED = 3


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    given = _parser().parse_args(arguments)
    model = load(given.folder)
    if not isinstance(model, Model):
        return _refuse("This is a table, and no model")
    if isinstance(model.estimator, KeepsItself):
        return _network(model, given)
    if given.format == "zip":
        return _refuse("Only a network is taken away as zip: take this model as skops or onnx")
    return _skops(model, given) if given.format == "skops" else _onnx(model, given)


def _network(model: Model, given: argparse.Namespace) -> int:
    if given.format == "skops":
        return _refuse("A network is no object of skops's: take it as zip or onnx")
    if given.format == "onnx" and model.preparation:
        return _refuse("What prepares a network's rows is not made ONNX: take the port 'model' as onnx, or this as zip")
    with tempfile.TemporaryDirectory(dir=given.file.parent) as name:
        parts = Path(name)
        model.estimator.export(parts)
        if given.format == "onnx":
            if not (made := parts / "model.onnx").exists():
                return _refuse("Networks of this framework are not made ONNX: take it as zip")
            made.replace(given.file)
            return 0
        model.estimator.keep(parts)
        if model.preparation:
            import skops.io
            from sklearn.pipeline import Pipeline

            skops.io.dump(Pipeline(list(model.preparation)), parts / "preparation.skops")
        with zipfile.ZipFile(given.file, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in sorted(parts.iterdir()):
                archive.write(part, part.name)
    return 0


def _skops(model: Model, given: argparse.Namespace) -> int:
    """The estimator, or the pipeline where the model brings its preparation."""
    import skops.io

    skops.io.dump(model.pipeline if model.preparation else model.estimator, given.file)
    return 0


def _onnx(model: Model, given: argparse.Namespace) -> int:
    from app.visual.engine.portable import NotConvertible

    try:
        from app.visual.engine.portable.model import MOST_ROWS, Origin, to_onnx
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{error.name} is not installed here: pip install 'hlink[experiments]' brings it\n")
        return 1
    origin = Origin(given.job, given.node, given.port, given.seed)
    try:
        given.file.write_bytes(to_onnx(model, origin, _seen(model, given.rows, MOST_ROWS)))
    except NotConvertible as error:
        return _refuse(str(error))
    return 0


def _seen(model: Model, folders: Sequence[Path], count: int) -> pd.DataFrame | None:
    """Rows such as the model takes, out of the first table that has them."""
    for folder in folders:
        if model.preparation and is_prepared(folder):
            continue  # its columns may be called as before, and mean something else
        table = some_rows(folder, count)
        if table is not None and len(table.frame) and _fits(model, table.frame):
            return table.frame
    return None


def _fits(model: Model, frame: pd.DataFrame) -> bool:
    return all(name in frame.columns and str(frame[name].dtype) == of for name, of in model.columns.items())


def _refuse(why: str) -> int:
    sys.stderr.write(" ".join(why.split()) + "\n")
    return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--format", choices=("skops", "onnx", "zip"), default="skops")
    parser.add_argument("--rows", type=Path, action="append", default=[], help="a table's folder, nearest first")
    parser.add_argument("--job", type=int, default=0)
    parser.add_argument("--node", type=int, default=0)
    parser.add_argument("--port", default="")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
