"""Components of somebody's own are not written: their files are whatever their owners made of them."""

from __future__ import annotations

from collections.abc import Mapping

from app.visual.engine.scripts.program import Rows, Section
from app.visual.engine.values import NodeFailure


def run(section: Section) -> Mapping[str, Rows]:
    """Raises :class:`NodeFailure`."""
    raise NodeFailure(
        f"'{section.node.label}': a component of your own is not written into a program: take the graph away without "
        f"it, and call its function 'run' there"
    )
