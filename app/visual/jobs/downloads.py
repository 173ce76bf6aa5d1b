"""What can be taken away: models, tables and graphs as files, read and written by processes of the engine's."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import InvalidInput, NotFound, Problem, Unavailable
from app.service import Service
from app.settings import Settings
from app.visual.catalogue import Framework, PortType
from app.visual.datasets.presets import BY_ID
from app.visual.datasets.service import Readable
from app.visual.engine.plan import ABOUT
from app.visual.frameworks import OWN, command, lacking
from app.visual.jobs import running
from app.visual.jobs.graph import Ready
from app.visual.jobs.trained import Trained
from app.visual.jobs.wire import ModelFormat, ModelQuery, PortQuery, RowsQuery, ScriptQuery, TableQuery
from app.visual.own import service as own

_REFUSED = 3
"""The exit status of an engine's process that says why it cannot be done."""
_VERSION = 1
"""Part of the files' names: raise it when they are written otherwise."""
EXPORTED = f"exported-{_VERSION}"
"""How the files beside an output begin that were written for use elsewhere."""
_WITHIN_S = 120.0


async def model_file(
    service: Service, query: ModelQuery, kind: PortType, otherwise: str = "take it away as skops instead"
) -> Path:
    """The file of a model, or of a pipeline; made once, kept beside the output.

    ``otherwise`` is what its caller can do where a model of scikit-learn cannot be made ONNX.

    Raises:
        NotFound, Conflict: no such output; it has not come out.
        InvalidInput: what comes out there is something else, or cannot be had in this format.
        Unavailable: it could not be written.
    """
    folder = await _output(service, query, kind)
    framework = await running.framework_of(service, query)
    if lacks := await lacking(service.settings, framework):
        raise Unavailable(lacks)
    program = command(service.settings, framework, _program("export"), str(folder))
    asked = query.format or (ModelFormat.ARCHIVE if framework in OWN else ModelFormat.SKOPS)
    if asked is not ModelFormat.ONNX:
        return await _made(folder / f"{EXPORTED}.{asked}", program, more=["--format", asked])
    # What another job brought out may be the same, and the file tells whose it is.
    file = folder / f"{EXPORTED}-{query.job_id}-{query.node_id}.onnx"
    remedy = "" if framework in OWN else otherwise
    return await _made(file, program, more=await _of_onnx(service, query), remedy=remedy)


async def table_file(service: Service, query: TableQuery) -> Path:
    """The file of a table in the form that is asked for; made once, kept beside the output. Raises as the former."""
    folder = await _output(service, query, PortType.TABLE)
    return await _made(folder / f"{EXPORTED}.{query.form}", _ours("tables", str(folder), query.form))


async def rows(service: Service, query: RowsQuery) -> dict[str, Any]:
    """A page of a table's rows (:func:`app.visual.engine.tables.page`). Raises as the former."""
    folder = await _output(service, query, PortType.TABLE)
    said = await ask(_ours("tables", str(folder), "page", str(query.offset), str(query.size)))
    found: dict[str, Any] = await asyncio.to_thread(json.loads, said)
    return found


async def script(service: Service, query: ScriptQuery) -> bytes:
    """A job's graph, as it is drawn now, as a program.

    Raises:
        NotFound, InvalidInput: no such job; its graph cannot be run, or not be written.
        Conflict: a model that it brings in has not come out.
        Unavailable: its framework is not installed here, or it could not be written.
    """
    checked = await running.check(service, query.job_id)
    if checked.experiment.framework != Framework.SKLEARN:
        raise InvalidInput(
            Problem(
                "only graphs of sklearn are written as programs",
                field="jobId",
                remedy="take the network itself away, by /visualmodule/job/download/model",
            )
        )
    seed = query.seed
    if seed is None:
        seed = checked.run.spec["seed"] if checked.run is not None else 0
    async with service.database.read() as session:
        brought = await running.models(session, service.settings, checked.order)
    sources = {node: _source(one) for node, one in checked.sources.items()}
    for node, one in brought.items():
        sources[node] = await asyncio.to_thread(_model, one, service.settings)
    components = {node.id: node.component for node in checked.order}
    for node, code in (await asyncio.to_thread(own.code_of, service.settings, components)).items():
        kinds = {port.name: port.type for port in components[node].outputs}
        sources[node] = {"file": code.name, "id": code.sha256, "kinds": kinds}
    graph = {
        "title": f"{checked.experiment.name}: job {query.job_id}",
        "seed": seed,
        "nodes": [_node(node, sources.get(node.id, {})) for node in checked.order],
    }
    return await ask(_ours("script", "--format", query.format), given=json.dumps(graph).encode(), field="graph")


def _node(node: Ready, source: Mapping[str, Any]) -> dict[str, Any]:
    """As :class:`app.visual.engine.scripts.program.Node` has it."""
    return {
        "id": node.id,
        "label": node.component.label.en,
        "step": node.component.step,
        "of": node.component.of,
        "parameters": node.parameters,
        "inputs": node.inputs,
        "outputs": [port.name for port in node.component.outputs],
        "source": source,
    }


def _source(source: Readable) -> dict[str, Any]:
    if (preset := BY_ID.get(source.id)) is not None:
        return {"preset": preset.name}
    name = source.name if source.name.lower().endswith(".csv") else f"{source.name}.csv"
    return {
        "file": name,
        "id": source.id,
        "encoding": source.encoding,
        "delimiter": source.delimiter,
        "header": source.header,
    }


def _model(brought: Trained, settings: Settings) -> dict[str, Any]:
    """What a program has to know of a model beside its file."""
    told = json.loads((brought.path(settings) / ABOUT).read_bytes())
    name = f"job-{brought.job_id}.skops"
    return {"file": name, "id": brought.key, "task": told["task"], "target": told["target"]}


async def _of_onnx(service: Service, query: ModelQuery) -> list[str]:
    seed, tables = await running.tables_before(service, query)
    return [
        *("--format", "onnx", "--seed", str(seed)),
        *("--job", str(query.job_id), "--node", str(query.node_id), "--port", query.port),
        *(part for table in tables for part in ("--rows", str(table))),
    ]


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


async def _made(file: Path, program: Sequence[str], more: Sequence[str] = (), remedy: str = "") -> Path:
    """The file, which the program writes where it is not there yet."""
    if not await asyncio.to_thread(file.exists):
        beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            await ask([*program, str(beside), *more], remedy=remedy)
            await asyncio.to_thread(os.replace, beside, file)
        except FileNotFoundError:
            raise NotFound("What the node brought out is not kept any more: run the job again") from None
        finally:
            await asyncio.to_thread(beside.unlink, missing_ok=True)
    return file


def _ours(name: str, *arguments: str) -> list[str]:
    """A program of the engine's that needs no framework."""
    return [sys.executable, "-P", "-m", _program(name), *arguments]


def _program(name: str) -> str:
    return f"app.visual.engine.{name}"


async def ask(program: Sequence[str], given: bytes = b"", field: str = "format", remedy: str = "") -> bytes:
    """What a program of the engine's writes to its standard output; ``given`` is on its standard input.

    Raises:
        InvalidInput: it refuses, and says why; ``field`` names what was asked for, ``remedy`` what can be done.
        Unavailable: it failed, or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            written, said = await process.communicate(given)
    except TimeoutError:
        raise Unavailable(f"It could not be read or written within {_WITHIN_S:g} s") from None
    finally:
        if process.returncode is None:  # also when the caller has gone
            process.kill()
            await process.wait()
    lines = said.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else str(process.returncode)
    if process.returncode == _REFUSED:
        raise InvalidInput(Problem(last, field=field, remedy=remedy))
    if process.returncode != 0:
        raise Unavailable(f"It could not be read or written: {last}")
    return written
