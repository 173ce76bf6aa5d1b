"""``python -m stream_jobs.formats FOLDER``: makes the jar beside Flink's own, in the lib folder of a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

from stream_jobs import formats
from stream_jobs.local import artifacts
from stream_jobs.local.installation import find_installation


def main() -> None:
    lib = Path(sys.argv[1])
    (compiler,) = artifacts.paths("tools", artifacts.artifacts_dir(Path()))
    formats.jar(lib, java=find_installation().java, compiler=compiler, classpath=sorted(lib.glob("*.jar")))


if __name__ == "__main__":
    main()
