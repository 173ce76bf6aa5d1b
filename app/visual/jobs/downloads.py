"""Models as files: what a node brought out, written for use elsewhere by a process of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from app.errors import InvalidInput, Problem, Unavailable
from app.service import Service
from app.visual.catalogue import Framework, PortType
from app.visual.frameworks import command, lacking
from app.visual.jobs import running
from app.visual.jobs.wire import PortQuery

EXPORTED = "exported"
_WITHIN_S = 120.0


async def model_file(service: Service, query: PortQuery, kind: PortType) -> Path:
    """The file of a model, or of a pipeline; made once, kept beside the output.

    Raises:
        NotFound, Conflict: no such output; it has not come out.
        InvalidInput: what comes out there is something else.
        Unavailable: it could not be written.
    """
    port = await running.port_of(service, query)
    if port.type is not kind:
        raise InvalidInput(
            Problem(
                f"what comes out at '{port.name}' is of type {port.type}, not {kind}",
                field="portName",
                remedy="name another port, or ask for the other download",
            )
        )
    folder = await running.output_folder(service, query)
    framework = await running.framework_of(service, query)
    file = folder / f"{EXPORTED}.{'skops' if framework is Framework.SKLEARN else 'zip'}"
    if not await asyncio.to_thread(file.exists):
        if lacks := await lacking(service.settings, framework):
            raise Unavailable(lacks)
        made = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        await _export(command(service.settings, framework, "app.visual.engine.export", str(folder), str(made)))
        await asyncio.to_thread(os.replace, made, file)
    return file


async def _export(program: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *program,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            _, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable(f"The model could not be written within {_WITHIN_S:g} s") from None
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"The model could not be written: {lines[-1] if lines else process.returncode}")
