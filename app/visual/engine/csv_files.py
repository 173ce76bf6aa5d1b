"""CSV files as frames. Arrow reads them, on one processor; what it cannot read is told with its line."""

from __future__ import annotations

import codecs
import csv as rows_of_text
from collections import Counter
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from app.visual.engine.values import NodeFailure, missing_as_nan

_SHOWN = 60
"""So much of a broken line is shown."""


def read(
    path: str, encoding: str = "utf-8", delimiter: str = ",", header: bool = True, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """All rows. ``names`` are the columns', in place of those that a header gives. Raises :class:`NodeFailure`."""
    encoding = _known(encoding)
    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False, encoding=encoding, autogenerate_column_names=not header),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(strings_can_be_null=True, timestamp_parsers=[csv.ISO8601]),
        )
        called = list(names) if names is not None else _names(table.column_names, header)
    except FileNotFoundError:
        raise NodeFailure("The data set's file is gone: upload it again") from None
    except UnicodeDecodeError as error:
        raise NodeFailure(_not_in(path, encoding)) from error
    except pa.ArrowInvalid as error:
        raise NodeFailure(_broken(path, encoding, delimiter, str(error))) from error
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        raise NodeFailure(_not_in(path, encoding))
    if len(called) != table.num_columns:
        raise NodeFailure(
            f"The file has {table.num_columns} columns, and had {len(called)} when it was uploaded: upload it again"
        )
    return _frame(table.rename_columns(called))


def _known(encoding: str) -> str:
    try:
        # Arrow passes a mark of the byte order over by itself, where it reads UTF-8.
        return "utf-8" if (name := codecs.lookup(encoding).name) == "utf-8-sig" else name
    except LookupError:
        raise NodeFailure(f"There is no encoding '{encoding}': utf-8 and gb18030 are usual") from None


def _names(names: list[str], header: bool) -> list[str]:
    if not header:
        return [f"column_{n}" for n in range(1, len(names) + 1)]
    names = [name.strip() or f"column_{n}" for n, name in enumerate(names, 1)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise NodeFailure(f"The header has the column '{twice[0]}' more than once: rename one of them in the file")
    return names


def _frame(table: pa.Table) -> pd.DataFrame:
    for position, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            table = table.set_column(position, column.name, table.column(position).cast(pa.float64()))
        elif pa.types.is_time(column.type):
            table = table.set_column(position, column.name, table.column(position).cast(pa.string()))
    return missing_as_nan(table.to_pandas(use_threads=False, date_as_object=False))


def _broken(path: str, encoding: str, delimiter: str, message: str) -> str:
    if "UTF8" in message:
        return _not_in(path, encoding)
    if "Empty CSV file" in message:
        return "The file is empty: there is not even a header"
    # Arrow counts neither empty lines nor those within quotes.
    with open(path, encoding=encoding, errors="replace", newline="") as file:
        lines, columns, before = rows_of_text.reader(file, delimiter=delimiter), 0, 0
        try:
            for values in lines:
                columns = columns or len(values)
                if values and len(values) != columns:
                    return (
                        f"Line {before + 1} has {len(values)} values where there are {columns} columns: "
                        f"{delimiter.join(values)[:_SHOWN]!r}. Mend the line, or choose another delimiter"
                    )
                before = lines.line_num
        except rows_of_text.Error as error:
            return f"Line {before + 1} cannot be read ({error}): is there a quotation mark that is not closed?"
    return f"The file cannot be read: {message}"


def _not_in(path: str, encoding: str) -> str:
    remedy = f"choose the encoding that the file has, {'gb18030' if encoding == 'utf-8' else 'utf-8'} for instance"
    with open(path, "rb") as file:
        decoder = codecs.getincrementaldecoder(encoding)()
        for number, line in enumerate(file, 1):
            try:
                decoder.decode(line)
            except UnicodeDecodeError as error:
                text = error.object[error.start : error.start + 4].hex(" ")
                return f"Line {number} is not in {encoding} (its byte {error.start + 1} and on: {text}): {remedy}"
    return f"The file ends in the middle of a character of {encoding}: {remedy}"
