"""Searches are not written: what they try depends on the time that they have."""

from __future__ import annotations

from collections.abc import Mapping

from app.visual.engine.scripts.program import Rows, Section
from app.visual.engine.values import NodeFailure


def automatic(section: Section) -> Mapping[str, Rows]:
    """What it finds is a graph of its own. Raises :class:`NodeFailure`."""
    raise NodeFailure(
        f"'{section.node.label}': what a search tries depends on the time that it has, and no program repeats it: "
        f"make a job of the graph that it found (/visualmodule/job/adopt), and take that one away"
    )
