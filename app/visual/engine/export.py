"""``python -m app.visual.engine.export PORT_FOLDER FILE``: a model that was kept, as a file for use elsewhere.

A process of its own, so that the service never has a library of models in its memory. An estimator, or a pipeline where
the model brings its preparation, is one object of scikit-learn's, written by skops. Of a network it is a zip archive:
``model.onnx`` (of Keras's ``model.keras``), the weights and the description as they are kept, and the preparation as
skops.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import skops.io

from app.visual.engine.values import KeepsItself, Model, load


def export(folder: Path, file: Path) -> None:
    """Write the model. Raises SystemExit for what is none."""
    model = load(folder)
    if not isinstance(model, Model):
        raise SystemExit("This is no model")
    if isinstance(model.estimator, KeepsItself):
        _export_network(model, file)
    else:
        skops.io.dump(model.pipeline if model.preparation else model.estimator, file)


def _export_network(model: Model, file: Path) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        parts = Path(name)
        model.estimator.keep(parts)
        model.estimator.export(parts)
        if model.preparation:
            from sklearn.pipeline import Pipeline

            skops.io.dump(Pipeline(list(model.preparation)), parts / "preparation.skops")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in sorted(parts.iterdir()):
                archive.write(part, part.name)


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
