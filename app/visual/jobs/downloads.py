"""What can be taken away: models as files, written by a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.errors import InvalidInput, NotFound, Problem, Unavailable
from app.service import Service
from app.visual.catalogue import PortType
from app.visual.datasets.service import Readable
from app.visual.jobs import running
from app.visual.jobs.graph import Ready
from app.visual.jobs.wire import ModelFormat, ModelQuery, ScriptQuery

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


async def script(service: Service, query: ScriptQuery) -> bytes:
    """A job's graph, as it is drawn now, as a program.

    Raises:
        NotFound, InvalidInput: no such job; its graph cannot be run, or not be written.
        Unavailable: its framework is not installed here, or it could not be written.
    """
    checked = await running.check(service, query.job_id)
    seed = query.seed
    if seed is None:
        seed = checked.run.spec["seed"] if checked.run is not None else 0
    graph = {
        "title": f"{checked.experiment.name}: job {query.job_id}",
        "seed": seed,
        "nodes": [_node(node, checked.sources.get(node.id)) for node in checked.order],
    }
    return await run_engine(
        *("app.visual.engine.script", "--format", query.format),
        given=json.dumps(graph).encode(),
        doing="The program could not be written",
    )


def _node(node: Ready, source: Readable | None) -> dict[str, Any]:
    """As :class:`app.visual.engine.scripts.program.Node` has it."""
    return {
        "id": node.id,
        "label": node.component.label.en,
        "step": node.component.step,
        "of": node.component.of,
        "parameters": node.parameters,
        "inputs": node.inputs,
        "outputs": [port.name for port in node.component.outputs],
        "source": {} if source is None else _source(source),
    }


def _source(source: Readable) -> dict[str, Any]:
    if source.preset is not None:
        return {"preset": source.preset}
    name = source.name if source.name.lower().endswith(".csv") else f"{source.name}.csv"
    return {"file": name, "encoding": source.encoding, "delimiter": source.delimiter, "header": source.header}


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
        await run_engine(
            "app.visual.engine.export", str(folder), str(made), *more, doing="The model could not be written"
        )
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
