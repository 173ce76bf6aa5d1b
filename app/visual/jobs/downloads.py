"""What a node brought out, for use elsewhere: read and written by processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from app.errors import InvalidInput, NotFound, Problem, Unavailable
from app.service import Service
from app.visual.catalogue import PortType
from app.visual.engine.plan import ABOUT
from app.visual.jobs import running
from app.visual.jobs.wire import PortQuery, RowsQuery, TableQuery

EXPORTED = "exported"
"""The files beside an output that were written for use elsewhere, by what they end in."""
_WITHIN_S = 120.0


async def model_file(service: Service, query: PortQuery, kind: PortType) -> Path:
    """The file of a model, or of a pipeline; made once, kept beside the output.

    Raises:
        NotFound, Conflict: no such output; it has not come out.
        InvalidInput: what comes out there is something else.
        Unavailable: it could not be written.
    """
    folder = await _output(service, query, kind)
    return await _made(folder / f"{EXPORTED}.skops", "export", str(folder))


async def table_file(service: Service, query: TableQuery) -> Path:
    """The file of a table in the form that is asked for; made once, kept beside the output. Raises as the former."""
    folder = await _output(service, query, PortType.TABLE)
    return await _made(folder / f"{EXPORTED}.{query.form}", "tables", str(folder), query.form)


async def rows(service: Service, query: RowsQuery) -> dict[str, Any]:
    """A page of a table's rows (:func:`app.visual.engine.tables.page`). Raises as the former."""
    folder = await _output(service, query, PortType.TABLE)
    said = await _ask("tables", str(folder), "page", str(query.offset), str(query.size))
    found: dict[str, Any] = await asyncio.to_thread(json.loads, said)
    return found


async def _output(service: Service, query: PortQuery, kind: PortType) -> Path:
    port = await running.port_of(service, query)
    if port.type is not kind:
        raise InvalidInput(
            Problem(
                f"what comes out at '{port.name}' is of type {port.type}, not {kind}",
                field="portName",
                remedy="name another port, or ask for another download",
            )
        )
    folder = await running.output_folder(service, query)
    if not await asyncio.to_thread((folder / ABOUT).exists):
        raise NotFound(f"Nothing came out at the port '{port.name}': tie the input of that name, and run the job again")
    return folder


async def _made(file: Path, *asked: str) -> Path:
    """The file, which the program ``asked`` writes where it is not there yet."""
    if not await asyncio.to_thread(file.exists):
        beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            await _ask(*asked, str(beside))
            await asyncio.to_thread(os.replace, beside, file)
        finally:
            await asyncio.to_thread(beside.unlink, missing_ok=True)
    return file


async def _ask(program: str, *arguments: str) -> bytes:
    """What a program of the engine's says. Raises ``Unavailable`` where it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", f"app.visual.engine.{program}", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            said, wrong = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"What the node brought out could not be read within {_WITHIN_S:g} s") from None
    finally:
        if process.returncode is None:  # also when the caller has gone
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = wrong.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"What the node brought out cannot be read: {lines[-1] if lines else process.returncode}")
    return said
