"""Java functions for tests, compiled as the product compiles its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stream_jobs.java import compiled_jar
from tests.planners import planner_config


def jar_of(folder: Path, sources: Mapping[str, str], name: str = "functions") -> Path:
    """A jar of these classes, by their full names; each text is what follows the package and the usual imports."""
    for full_name, text in sources.items():
        package, _, simple = full_name.rpartition(".")
        file = folder / "src" / package.replace(".", "/") / f"{simple}.java"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"package {package};\nimport org.apache.flink.table.functions.*;\n"
            "import org.apache.flink.table.annotation.*;\nimport org.apache.flink.types.Row;\n" + text
        )
    config = planner_config(folder)
    return compiled_jar(
        folder / "src", name, folder, java=config.java, compiler=config.compiler, classpath=config.classpath
    )
