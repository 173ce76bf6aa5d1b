"""``python -m app.visual.engine.export PORT_FOLDER FILE``: a model that was kept, as one object of scikit-learn's.

A process of its own, so that the service never has a library of models in its memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import skops.io

from app.visual.engine.values import Model, load


def export(folder: Path, file: Path) -> None:
    """Write the estimator, or the pipeline where the model brings its preparation, as skops."""
    model = load(folder)
    if not isinstance(model, Model):
        raise SystemExit("This is a table, and no model")
    skops.io.dump(model.pipeline if model.preparation else model.estimator, file)


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
