"""Which frameworks graphs can be run with on this machine."""

from __future__ import annotations

from importlib.util import find_spec

from app.visual.catalogue import Framework

_NEEDED = {Framework.SKLEARN: ("sklearn", "skops")}
_INSTALL = "install what it needs with: pip install 'hlink[experiments]'"
_WITHOUT = {
    Framework.TENSORFLOW: "TensorFlow graphs cannot be drawn yet: use sklearn (frameId 1)",
    Framework.MXNET: "MXNet is not developed any more, its last release is of 2023: use sklearn (frameId 1)",
    Framework.PYTORCH: "PyTorch graphs cannot be drawn yet: use sklearn (frameId 1)",
}


def lacking(framework: Framework) -> str | None:
    """Why graphs of it cannot be run here, with the remedy; None where they can."""
    if framework not in _NEEDED:
        return _WITHOUT[framework]
    absent = [name for name in _NEEDED[framework] if find_spec(name) is None]
    return f"{framework.name.lower()} is not installed here ({', '.join(absent)}): {_INSTALL}" if absent else None
