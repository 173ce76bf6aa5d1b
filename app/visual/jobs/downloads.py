"""What can be taken away: models as files, written by a process of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import InvalidInput, NotFound, Problem, Unavailable
from app.service import Service
from app.visual.catalogue import PortType
from app.visual.jobs import running
from app.visual.jobs.wire import ModelFormat, ModelQuery

_REFUSED = 3
"""The exit status of an engine's process that says why it cannot be done."""
_VERSION = 1
"""Part of the files' names: raise it when they are written otherwise."""
_WITHIN_S = 120.0


async def model_file(service: Service, query: ModelQuery, kind: PortType) -> Path:
    """The file of a model, or of a pipeline; made once, kept beside the output.

    Raises:
        NotFound, Conflict: no such output; it has not come out.
        InvalidInput: what comes out there is something else, or cannot be had in this format.
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
    name, more = f"exported-{_VERSION}.skops", list[str]()
    if query.format is ModelFormat.ONNX:
        # What another job brought out may be the same, and the file tells whose it is.
        name = f"exported-{_VERSION}-{query.job_id}-{query.node_id}.onnx"
        more = await _of_onnx(service, query)
    file = folder / name
    if not await asyncio.to_thread(file.exists):
        await _export(folder, file, more)
    return file


async def _of_onnx(service: Service, query: ModelQuery) -> list[str]:
    seed, tables = await running.tables_before(service, query)
    return [
        *("--format", "onnx", "--seed", str(seed)),
        *("--job", str(query.job_id), "--node", str(query.node_id), "--port", query.port),
        *(part for table in tables for part in ("--rows", str(table))),
    ]


async def _export(folder: Path, file: Path, more: Sequence[str]) -> None:
    made = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        await run_engine("app.visual.engine.export", str(folder), str(made), *more, doing="The model could not be written")
        await asyncio.to_thread(os.replace, made, file)
    except FileNotFoundError:
        raise NotFound("What the node brought out is not kept any more: run the job again") from None
    finally:
        await asyncio.to_thread(made.unlink, missing_ok=True)


async def run_engine(module: str, *arguments: str, given: bytes = b"", doing: str) -> bytes:
    """What a process of the engine's writes to its standard output; ``given`` is on its standard input.

    Raises:
        InvalidInput: it refuses, and says why.
        Unavailable: it failed, or took too long; the message begins with ``doing``.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            written, said = await process.communicate(given)
    except TimeoutError:
        raise Unavailable(f"{doing} within {_WITHIN_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = said.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else str(process.returncode)
    if process.returncode == _REFUSED:
        raise InvalidInput(Problem(last, field="format"))
    if process.returncode != 0:
        raise Unavailable(f"{doing}: {last}")
    return written
