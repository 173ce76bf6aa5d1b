"""``python -m app.visual.engine FOLDER``. Exit status 0 only if every node succeeded."""

from __future__ import annotations

import sys
from pathlib import Path

from app.visual.engine.run import run

if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
