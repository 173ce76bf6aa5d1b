"""A whole Flink distribution for the programs that are compared with: links to the package's files, never copies.

The package lacks the connectors and the SQL Gateway's jar, and must not be written to.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stream_jobs.local import artifacts
from stream_jobs.local.installation import Installation


@dataclass(frozen=True, slots=True)
class Distribution:
    """Flink's scripts, and the environment that makes them use this distribution."""

    bin: Path
    home: Path
    environment: Mapping[str, str]


def make(home: Path, installation: Installation, jars: Path, flink_url: str) -> Distribution:
    """Lay the distribution out under ``home``; its programs submit to the cluster at ``flink_url``.

    :raises ArtifactError: the artifact groups ``flink-lib`` and ``bench`` are not there.
    """
    flink = installation.flink
    for folder in ("lib", "opt", "conf", "log", "pid"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    _link(home / "lib", [*flink.joinpath("lib").glob("*.jar"), *artifacts.paths("flink-lib", jars)])
    _link(home / "opt", [*flink.joinpath("opt").glob("*.jar"), *artifacts.paths("bench", jars)])
    _link(home / "conf", [*flink.joinpath("conf").glob("log*")])
    address = urlsplit(flink_url)
    configuration = {
        "env.java.opts.all": _module_options(installation),
        "execution.target": "remote",
        "rest.address": address.hostname or "",
        "rest.port": address.port or 80,
    }
    (home / "conf" / "config.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in configuration.items()))
    return Distribution(
        flink / "bin",
        home,
        {
            **{name: value for name, value in os.environ.items() if not name.startswith("HLINK_")},
            "JAVA_HOME": str(installation.java.parent.parent),
            "FLINK_LIB_DIR": str(home / "lib"),
            "FLINK_OPT_DIR": str(home / "opt"),
            "FLINK_CONF_DIR": str(home / "conf"),
            "FLINK_LOG_DIR": str(home / "log"),
            "FLINK_PID_DIR": str(home / "pid"),
            "FLINK_PLUGINS_DIR": str(flink / "plugins"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        },
    )


def _link(folder: Path, files: list[Path]) -> None:
    for present in folder.iterdir():
        if present.is_symlink():
            present.unlink()
    for file in files:
        (folder / file.name).symlink_to(file)


def _module_options(installation: Installation) -> str:
    """The --add-opens and --add-exports of Flink's own configuration, as far as this Java has the modules."""
    text = (installation.flink / "conf" / "config.yaml").read_text()
    known = installation.java_modules
    found = re.findall(r"(--add-(?:opens|exports)=([\w.]+)/\S+)", text)
    return " ".join(option for option, module in found if not known or module in known)
