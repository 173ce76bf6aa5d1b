"""Golden files: what was generated, as a reviewer reads it. ``HLINK_GOLDEN=write`` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "snapshots"


def assert_golden(name: str, text: str) -> None:
    """The text equals the file ``tests/snapshots/<name>``."""
    file = FOLDER / name
    if os.environ.get("HLINK_GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.rstrip() + "\n")
    assert file.exists(), f"{file} is missing: run with HLINK_GOLDEN=write and read what it says"
    assert text.rstrip() + "\n" == file.read_text()
