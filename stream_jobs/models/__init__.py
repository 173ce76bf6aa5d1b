"""Trained models as functions of SQL: an ONNX file becomes a jar, whose classes score rows with onnxruntime in Flink.

The jar has the model, what is known of it, and two classes of a few lines each, named by the model's contents: all jars
of a job share a class loader. What the classes have in common (``hlink.models``), and onnxruntime with its native
library, belong in the lib folder of the cluster, where they are loaded once; a job brings them to a cluster that does
not have them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stream_jobs.definitions import Function, FunctionKind, Model
from stream_jobs.java import compile_into, pack
from stream_jobs.local.installation import Installation
from stream_jobs.shipped import compiled_with

_SOURCES = Path(__file__).with_name("java")
_PACKAGE = "hlink.deployed"
_PREDICTION, _PROBABILITY = "Prediction", "Probability"
_CLASS = """\
package {package};

public final class {base}_{model} extends hlink.models.{base} {{
    private static final long serialVersionUID = 1L;

    public {base}_{model}() {{
        super("{model}");
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A function of a model's jar: its class, its SQL type, and whether it tells a probability."""

    implementation: str
    result: str
    probability: bool


def is_of_a_model(function: Function) -> bool:
    """Whether the function is one that a trained model was made into."""
    return function.kind is FunctionKind.SCALAR and function.implementation.startswith(f"{_PACKAGE}.")


def jars(folder: Path, installation: Installation) -> tuple[Path, ...]:
    """What all models' classes need: ours and onnxruntime, in the artifacts' folder.

    :raises ArtifactError: a library or the compiler is missing.
    :raises StackStateError: the folder cannot be written, or the compiler refused the sources.
    """
    return compiled_with("models", _SOURCES, "hlink-models", folder, installation)


def make_jar(
    model: Model, onnx: Path, jar: Path, *, java: Path, compiler: Path, classpath: Sequence[Path]
) -> tuple[Entry, ...]:
    """Write the jar of a model, and say what functions it has. Takes a second or two.

    The same model makes the same jar, byte for byte. ``classpath``: Flink's libraries and :func:`jars`.

    Raises:
        CompilationFailed: the compiler refused the classes, which is a fault of ours.
        OSError: the jar cannot be written.
    """
    about = json.dumps(
        {
            **asdict(model),
            "features": [
                {"argument": argument, **asdict(feature)}
                for argument, feature in zip(model.arguments, model.features, strict=True)
            ],
            "positive": model.classes.index(model.positive) if model.positive is not None else -1,
        },
        sort_keys=True,
    ).encode()
    with onnx.open("rb") as stream:
        contents = hashlib.file_digest(stream, "sha256").digest()
    digest = hashlib.sha256(about + contents).hexdigest()[:16]
    bases = [_PREDICTION, _PROBABILITY] if model.probabilities else [_PREDICTION]
    with tempfile.TemporaryDirectory() as scratch:
        sources, classes = Path(scratch) / "sources", Path(scratch) / "classes"
        beside = classes / _PACKAGE.replace(".", "/")
        sources.mkdir()
        beside.mkdir(parents=True)
        for base in bases:
            text = _CLASS.format(package=_PACKAGE, base=base, model=digest)
            (sources / f"{base}_{digest}.java").write_text(text)
        compile_into(classes, sorted(sources.iterdir()), java=java, compiler=compiler, classpath=classpath)
        (beside / f"{digest}.json").write_bytes(about)
        shutil.copyfile(onnx, beside / f"{digest}.onnx")
        pack(classes, jar)
    return tuple(
        Entry(f"{_PACKAGE}.{base}_{digest}", "DOUBLE" if base == _PROBABILITY else model.result, base == _PROBABILITY)
        for base in bases
    )
