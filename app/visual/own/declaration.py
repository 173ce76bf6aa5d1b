"""What an uploaded file says it is, held against what components have to be. Reads files: call it in a thread."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from pydantic import ValidationError

from app.errors import InvalidInput, Problem
from app.visual.catalogue import FOLDER, Component, ParameterType, PortType, component_of
from app.visual.engine import declaration
from app.visual.own.wire import FILE

LARGEST_SOURCE = 512 * 1024
LONGEST_NAME = 64
MOST_PORTS, MOST_PARAMETERS = 20, 100
PREFIX, STAGE, STEP = "own", "own", "own.run"

_WITHIN_S = 10.0
_MINE = {"uuid", "stage", "group", "step", "of", "version", "keeps_columns"}
"""What only our own files say of a component."""
_INPUTS = (PortType.TABLE, PortType.MODEL, PortType.PIPELINE)
_OUTPUTS = (*_INPUTS, PortType.FIGURES)
_MOST_PROBLEMS = 20


def check_file(path: Path, name: str) -> Component:
    """The component that a file declares.

    Raises:
        InvalidInput: it is no Python file that declares one; every problem is named with its place.
    """
    if not name.lower().endswith(".py"):
        raise InvalidInput(Problem(f"{name} is not called .py", field=FILE, remedy="send one Python file"))
    if (size := path.stat().st_size) > LARGEST_SOURCE:
        raise InvalidInput(
            Problem(
                f"{name} has {size} bytes; {LARGEST_SOURCE} are the most", field=FILE, remedy="send the source only"
            )
        )
    return checked(_declared(path, name), name)


def checked(declared: Mapping[str, Any], file_name: str) -> Component:
    """The component of these fields. Raises ``InvalidInput``."""
    problems = list(_problems(declared))
    if not problems:
        try:
            return component_of({**_spelt_out(declared), **_ours(declared["name"]), "keeps_columns": False})
        except ValidationError as error:
            problems = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        except KeyError as error:
            problems = [("parameters", f"there is no shared parameter {error}")]
    raise InvalidInput(
        *(
            Problem(f"{file_name}: {declaration.NAME}{f'.{place}' if place else ''}: {wrong}", field=FILE)
            for place, wrong in problems[:_MOST_PROBLEMS]
        )
    )


def _declared(path: Path, name: str) -> dict[str, Any]:
    # By its file and isolated: nothing of the environment has a part in it, and it imports nothing of ours.
    command = [sys.executable, "-I", declaration.__file__, str(path)]
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_WITHIN_S, check=False)
        answer: dict[str, Any] = json.loads(ended.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise InvalidInput(
            Problem(f"{name} cannot be read with the memory and time that it may take", field=FILE, remedy="shorten it")
        ) from None
    if (wrong := answer.get("wrong")) is not None:
        raise InvalidInput(Problem(f"{name}: {wrong}", field=FILE, line=answer["line"]))
    found: dict[str, Any] = answer["declared"]
    return found


def _ours(name: str) -> dict[str, Any]:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return {"uuid": f"{PREFIX}.{words}", "stage": STAGE, "step": STEP}


def _spelt_out(declared: Mapping[str, Any]) -> dict[str, Any]:
    """With labels in both languages: a plain text stands for both, the name for none."""
    spelt = _labelled(declared)
    if isinstance(parameters := declared.get("parameters"), list):
        spelt["parameters"] = [
            _labelled(one) if isinstance(one, dict) and "like" not in one else one for one in parameters
        ]
    return spelt


def _labelled(fields: Mapping[str, Any]) -> dict[str, Any]:
    label = fields.get("label", fields.get("name"))
    return {**fields, "label": {"zh": label, "en": label} if isinstance(label, str) else label}


def _problems(declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where and what: by the schema of our own components, and by what only somebody's own may not be."""
    name = declared.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or len(name) > LONGEST_NAME:
        yield "name", f"{name!r} is no name: letters, digits and '_', {LONGEST_NAME} at most, a letter first"
        return
    if ours := sorted(_MINE & declared.keys()):
        yield "", f"{', '.join(ours)} cannot be declared: leave it out"
        return
    spelt = _spelt_out(declared)
    parameters = spelt.get("parameters", [])
    if not isinstance(parameters, list):
        yield "parameters", "is no list"
        return
    found = list(_against_schema("component", {**spelt, **_ours(name), "parameters": []}, ""))
    for number, one in enumerate(parameters):
        if not isinstance(one, str):  # that would be the name of a shared one
            kind = "difference" if isinstance(one, dict) and "like" in one else "parameter"
            found += _against_schema(kind, one, f"parameters.{number}")
    yield from found or _not_own(spelt)


def _not_own(declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is right by the schema, and not possible in somebody's own component."""
    for part, most in (("inputs", MOST_PORTS), ("outputs", MOST_PORTS), ("parameters", MOST_PARAMETERS)):
        if (count := len(declared.get(part, ()))) > most:
            yield part, f"has {count} entries; {most} are the most"
    for side, could in (("inputs", _INPUTS), ("outputs", _OUTPUTS)):
        for number, port in enumerate(declared.get(side, ())):
            if port["type"] not in could:
                yield f"{side}.{number}.type", f"{port['type']} is not possible here: it may be {', '.join(could)}"
    for number, one in enumerate(declared.get("parameters", ())):
        if isinstance(one, dict) and one.get("type") in (ParameterType.DATASET, ParameterType.MODEL):
            yield f"parameters.{number}.type", f"{one['type']} is not possible here: tie an input instead"


def _against_schema(definition: str, value: Any, place: str) -> Iterator[tuple[str, str]]:
    for error in sorted(_schema(definition).iter_errors(value), key=lambda one: list(map(str, one.absolute_path))):
        yield ".".join([*([place] if place else []), *map(str, error.absolute_path)]), error.message


@cache
def _schema(definition: str) -> Any:
    whole = json.loads((FOLDER / "component.schema.json").read_text("utf-8"))
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": whole["$defs"]})
