"""``python -m app.visual.engine.script --format py|ipynb``: a graph as a program (:mod:`app.visual.engine.scripts`).

The graph is on standard input: ``{"title", "seed", "nodes": [...]}``, the nodes in an order in which they can be run,
each with the fields of :class:`app.visual.engine.scripts.program.Node`. The program goes to standard output, in UTF-8.
Exit status 3: it cannot be written, for the reason that is the last line of standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from app.visual.engine.scripts.program import Node, Program
from app.visual.engine.values import NodeFailure

REFUSED = 3


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=("py", "ipynb"), default="py")
    wanted = parser.parse_args().format
    try:
        program = written(json.load(sys.stdin))
    except (NodeFailure, LookupError) as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    sys.stdout.buffer.write((program.script() if wanted == "py" else program.notebook()).encode())
    return 0


def written(graph: dict[str, Any]) -> Program:
    """The program of a graph. Raises ``NodeFailure`` and ``LookupError``."""
    program = Program(graph["title"], graph["seed"])
    for one in graph["nodes"]:
        inputs = {port: (node, out) for port, (node, out) in one["inputs"].items()}
        program.add(Node(**{**one, "inputs": inputs}))
    return program


if __name__ == "__main__":
    sys.exit(main())
