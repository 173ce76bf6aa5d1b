"""Which frameworks graphs can be run with on this machine, and the interpreter of each.

scikit-learn is in the service's own. Those of deep learning are large and particular about what is beside them, so that
each has an interpreter for itself: one that ``hlink frameworks install`` makes under ``HLINK_HOME/frameworks``, or one
that a setting names. What it lacks (pandas, scikit-learn, ...) it takes from the service's environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.settings import Settings
from app.visual.catalogue import Framework

FOLDER = Path("frameworks")
"""Under ``HLINK_HOME``: ``<name>/`` for each that is installed."""
ABOUT = "hlink.json"
"""In such a folder, written last: what was installed there."""


@dataclass(frozen=True)
class Own:
    """A framework with an interpreter of its own."""

    name: str
    """In commands, in ``HLINK_<NAME>_PYTHON``, and of the folder."""
    package: str
    """In package indexes."""
    modules: Sequence[str]
    """What has to be there to be imported."""
    check: str
    """Computes something, in one line: an installation that cannot is none."""
    needs_gib: float
    """On disk while it is installed."""


OWN: Mapping[Framework, Own] = {
    Framework.PYTORCH: Own(
        "pytorch",
        "torch",
        ("torch", "safetensors", "PIL", "onnxscript"),
        "import torch; torch.nn.Linear(2, 1)(torch.ones(3, 2)).sum().backward()",
        7.0,
    ),
    Framework.TENSORFLOW: Own(
        "tensorflow",
        "tensorflow-cpu",
        ("tensorflow", "keras", "safetensors", "PIL"),
        "import keras; keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])(keras.ops.ones((3, 2)))",
        3.0,
    ),
}

_NEEDED = ("sklearn", "skops")
_INSTALL = "install what it needs with: pip install 'hlink[experiments]'"
_RETIRED = (
    "MXNet was retired by its makers in 2023 and cannot be installed for this version of Python: "
    "use PyTorch (frameId 4), or sklearn (frameId 1)"
)
_PROBED_WITHIN_S = 30.0
_PROBE = (
    "import importlib.util as u, json, sys; "
    "print(json.dumps([list(sys.version_info[:2]), [n for n in sys.argv[1:] if u.find_spec(n) is None]]))"
)
_BOOT = (
    "import os, runpy, sys; paths = sys.argv.pop(1).split(os.pathsep); "
    "sys.path.insert(0, paths[0]); import app; del sys.path[0]; sys.path += paths; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""What the interpreter has itself comes before what the service has, but for this package, which must be the same."""


async def lacking(settings: Settings, framework: Framework) -> str | None:
    """Why graphs of it cannot be run here, with the remedy; None where they can."""
    return await asyncio.to_thread(_lacking, settings, framework)


def command(settings: Settings, framework: Framework, module: str, *arguments: str) -> list[str]:
    """How a program of the engine's is started in the framework's interpreter."""
    if framework not in OWN:
        return [sys.executable, "-P", "-m", module, *arguments]
    python = interpreter(settings, OWN[framework])
    return [str(python), "-P", "-c", _BOOT, os.pathsep.join(service_paths()), module, *arguments]


def interpreter(settings: Settings, own: Own) -> Path:
    """The framework's interpreter, whether it is there or not."""
    return _named(settings, own) or settings.home / FOLDER / own.name / "bin" / "python"


def installed(settings: Settings, own: Own) -> dict[str, Any] | None:
    """What is said of the installation under ``HLINK_HOME``; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((settings.home / FOLDER / own.name / ABOUT).read_bytes())
    except (OSError, ValueError):
        return None
    return found


def service_paths() -> list[str]:
    """Where this process finds modules, beside the standard library: this package, and the libraries of the engine."""
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    root = str(Path(__file__).resolve().parents[3])
    others = [path for path in map(os.path.abspath, filter(None, sys.path)) if Path(path).is_dir()]
    return list(dict.fromkeys([root, *(path for path in others if not _of_the_standard_library(path, standard))]))


def _of_the_standard_library(path: str, standard: set[str]) -> bool:
    return any(path == one or path == os.path.join(one, "lib-dynload") for one in standard)


def _lacking(settings: Settings, framework: Framework) -> str | None:
    if framework is Framework.MXNET:
        return _RETIRED
    if absent := [name for name in _NEEDED if find_spec(name) is None]:
        return f"sklearn is not installed here ({', '.join(absent)}): {_INSTALL}"
    if framework not in OWN:
        return None
    own = OWN[framework]
    if named := _named(settings, own):
        return _wrong_with(named, own)
    about = installed(settings, own)
    if about is None:
        return f"{own.name} is not installed here: install it with: hlink frameworks install {own.name}"
    if about["python"] != list(sys.version_info[:2]) or not interpreter(settings, own).exists():
        return (
            f"{own.name} was installed for another Python than this one: "
            f"install it again with: hlink frameworks install {own.name}"
        )
    return None


def _named(settings: Settings, own: Own) -> Path | None:
    found: Path | None = getattr(settings, f"{own.name}_python")
    return found


def _wrong_with(python: Path, own: Own) -> str | None:
    setting = f"HLINK_{own.name.upper()}_PYTHON"
    if not python.exists():
        return f"{setting} names {python}, which is not there: name an interpreter, or unset it"
    try:
        version, absent = _probed(str(python), own.modules)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"{setting} names {python}, which does not run: {error}"
    if tuple(version) != sys.version_info[:2]:
        return (
            f"{setting} names {python}, which is Python {version[0]}.{version[1]}: "
            f"take one of {sys.version_info[0]}.{sys.version_info[1]}, as the service's is"
        )
    if absent:
        return f"{setting} names {python}, which lacks {', '.join(absent)}: install them there"
    return None


def _probed(python: str, modules: Sequence[str]) -> tuple[list[int], list[str]]:
    """The interpreter's version, and which of the modules it has not. Raises where it does not run."""
    done = subprocess.run(
        [python, "-P", "-c", _PROBE, *modules], capture_output=True, text=True, timeout=_PROBED_WITHIN_S, check=False
    )
    if done.returncode != 0:
        raise ValueError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    version, absent = json.loads(done.stdout)
    return version, absent
