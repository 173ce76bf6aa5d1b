"""Trained models as functions of users: the service makes the jar, and keeps and versions it as if it were uploaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import Conflict, InvalidInput, Problem, Unavailable
from app.hlink.functions.models import LONGEST_DESCRIPTION, StoredFunction
from app.hlink.functions.service import Workshop, check_name, version_of
from app.service import ModelFunction
from stream_jobs.definitions import FunctionKind, Model
from stream_jobs.java import CompilationFailed
from stream_jobs.models import Entry, is_of_a_model, make_jar

PREFIX, PROBABILITY = "predict_", "_proba"


async def deploy(workshop: Workshop, name: str, model: Model, onnx: Path, description: str) -> Sequence[ModelFunction]:
    """See :class:`app.service.ModelFunctions`."""
    name = name.strip()
    _check(name, onnx, workshop.files.limit)
    prediction, probability = f"{PREFIX}{name}", f"{PREFIX}{name}{PROBABILITY}"
    names = (prediction, probability) if model.probabilities else (prediction,)
    for one in names:
        await check_name(workshop.planner, one, "name")
    async with workshop.database.read() as session:
        await _known(session, prediction, probability, model)
    config = workshop.planner.config

    def make(jar: Path) -> Sequence[Entry]:
        return make_jar(model, onnx, jar, java=config.java, compiler=config.compiler, classpath=config.classpath)

    try:
        file, entries = await workshop.files.add(f"{prediction}.jar", make)
    except (CompilationFailed, OSError) as error:
        raise Unavailable(f"The jar of '{prediction}' could not be made: {error}") from error
    made = []
    try:
        async with workshop.database.write() as session:
            known = await _known(session, prediction, probability, model, hold=True)
            for one, entry in zip(names, entries, strict=True):
                fields: dict[str, Any] = {
                    "implementation": entry.implementation,
                    "file_name": file.name,
                    "sha256": file.sha256,
                    "description": description[:LONGEST_DESCRIPTION],
                }
                function = known.get(one.lower())
                if function is None:
                    function = StoredFunction(
                        name=one, key=one.lower(), kind=FunctionKind.SCALAR, suffix="jar", **fields
                    )
                    session.add(function)
                    session.add(version_of(function))
                elif (function.sha256, function.implementation) != (file.sha256, entry.implementation):
                    function.sqlmodel_update(fields)
                    function.version += 1
                    session.add(function)
                    session.add(version_of(function))
                made.append(
                    ModelFunction(function.id, function.name, function.version, entry.result, entry.probability)
                )
    except IntegrityError:  # somebody else took the name since we looked
        raise Conflict(f"Somebody else made a function '{prediction}' at this moment: look at it first") from None
    return made


def _check(name: str, onnx: Path, limit: int) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise InvalidInput(
            Problem(
                f"{name!r} cannot be part of a function's name" if name else "the function has no name",
                field="name",
                remedy=f"use letters, digits and underscores: SQL calls the function {PREFIX}<name>",
            )
        )
    if name.lower().endswith(PROBABILITY):
        raise InvalidInput(
            Problem(
                f"'{PREFIX}{name}' is what the probabilities of '{PREFIX}{name[: -len(PROBABILITY)]}' are called",
                field="name",
                remedy=f"choose a name that does not end in {PROBABILITY}",
            )
        )
    if (size := onnx.stat().st_size) > limit:
        raise InvalidInput(
            Problem(
                f"the model has {size / 1024**2:.0f} MiB, and a function at most {limit // 1024**2}",
                field="portName",
                remedy="train a smaller one, of fewer or shallower trees, or raise HLINK_UPLOAD_LIMIT_MIB",
            )
        )


async def _known(
    session: AsyncSession, prediction: str, probability: str, model: Model, *, hold: bool = False
) -> dict[str, StoredFunction]:
    """The functions that have these names already, by their keys; ``hold``: nobody changes them meanwhile.

    Raises :class:`~app.errors.Conflict` where one cannot become the model's.
    """
    query = select(StoredFunction).where(col(StoredFunction.key).in_([prediction.lower(), probability.lower()]))
    known = {one.key: one for one in await session.exec(query.with_for_update() if hold else query)}
    for function in known.values():
        if not is_of_a_model(function.definition()):
            raise Conflict(f"There is a function called '{function.name}' that is no model's: choose another name")
    if not model.probabilities and (stale := known.get(probability.lower())):
        raise Conflict(
            f"'{stale.name}' tells the probabilities of the model before, and this one has none: delete that function "
            f"first (/ds/udf/delete, id {stale.id}), or choose another name"
        )
    return known
