"""``python -m app.visual.engine.tables PORT_FOLDER page OFFSET ROWS`` | ``csv FILE`` | ``parquet FILE``.

Rows of a table that was kept: some of them, as JSON on the standard output, or all, as a file for use elsewhere. A
process of its own, so that the service has no table in its memory; whatever the table's size, it holds a piece of it.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, ipc, parquet

from app.visual.engine.plan import TABLE


def page(folder: Path, offset: int, rows: int) -> dict[str, Any]:
    """``rows`` of the table from ``offset`` on, its columns with their types, and how many rows it has.

    What JSON has no form for is text, images as addresses of the scheme ``data``; numbers that are none are null.
    """
    with pa.memory_map(str(folder / TABLE)) as source, ipc.open_file(source) as pieces:
        # One piece was cut into batches of one size when it was written: only the last one may be shorter.
        count = pieces.num_record_batches
        size = pieces.get_batch(0).num_rows if count else 0
        total = size * (count - 1) + pieces.get_batch(count - 1).num_rows if count else 0
        found: list[pa.RecordBatch] = []
        at, end = min(offset, total), min(offset + rows, total)
        while at < end:
            batch = pieces.get_batch(at // size)
            part = batch.slice(at % size, min(end - at, batch.num_rows - at % size))
            found.append(part)
            at += part.num_rows
        columns = [{"name": one.name, "type": str(_kept_type(one.type, "page"))} for one in pieces.schema]
        values = [_plain_values(pa.chunked_array(one, type=one[0].type)) for one in zip(*found, strict=True)]
    return {"columns": columns, "data": [list(row) for row in zip(*values, strict=True)], "total": total}


def write(folder: Path, kind: str, file: Path) -> None:
    """All rows as a file: ``csv`` (UTF-8, with a header) or ``parquet``."""
    with pa.memory_map(str(folder / TABLE)) as source, ipc.open_file(source) as pieces:
        schema = pa.schema([pa.field(one.name, _kept_type(one.type, kind)) for one in pieces.schema])
        writer = csv.CSVWriter(str(file), schema) if kind == "csv" else parquet.ParquetWriter(str(file), schema)
        with writer:
            for batch in _batches(pieces):
                cast = [_cast(column, one.type) for column, one in zip(batch.columns, schema, strict=True)]
                writer.write_batch(pa.record_batch(cast, schema=schema))


def _batches(pieces: Any) -> Iterator[pa.RecordBatch]:
    for number in range(pieces.num_record_batches):
        yield pieces.get_batch(number)


def _kept_type(kind: pa.DataType, file: str) -> pa.DataType:
    """The type that a column has where it is read: without dictionaries, and in CSV as what can be written there."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.string() if file == "csv" and (pa.types.is_duration(kind) or pa.types.is_binary(kind)) else kind


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_binary(column.type) and pa.types.is_string(kind):
        return pa.array(_as_addresses(column), kind)
    return column.cast(kind)


def _as_addresses(images: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """Images as browsers show them."""
    return [
        None if image is None else f"data:image/png;base64,{base64.b64encode(image).decode()}"
        for image in images.to_pylist()
    ]


def _plain_values(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_binary(kind):
        return _as_addresses(column)
    if pa.types.is_floating(kind):
        return [value if value is None or math.isfinite(value) else None for value in column.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_null(kind):
        return list(column.to_pylist())
    return list(column.cast(pa.string()).to_pylist())


def main() -> None:
    folder, what, *rest = sys.argv[1:]
    if what == "page":
        offset, rows = map(int, rest)
        sys.stdout.write(json.dumps(page(Path(folder), offset, rows), allow_nan=False))
    else:
        write(Path(folder), what, Path(rest[0]))


if __name__ == "__main__":
    main()
