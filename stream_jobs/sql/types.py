"""Column types: which are known, and how they are written in DDL.

Type text comes from users and goes into SQL, so it is taken apart and put together again, never passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

from stream_jobs.definitions import Column, DefinitionError
from stream_jobs.sql.quoting import identifier

#: Known type names, with the number of parameters that each may take.
ATOMIC = MappingProxyType(
    {
        "CHAR": (1,),
        "VARCHAR": (0, 1),
        "STRING": (0,),
        "BOOLEAN": (0,),
        "BINARY": (1,),
        "VARBINARY": (0, 1),
        "BYTES": (0,),
        "DECIMAL": (0, 1, 2),
        "TINYINT": (0,),
        "SMALLINT": (0,),
        "INT": (0,),
        "BIGINT": (0,),
        "FLOAT": (0,),
        "DOUBLE": (0,),
        "DATE": (0,),
        "TIME": (0, 1),
        "TIMESTAMP": (0, 1),
        "TIMESTAMP_LTZ": (0, 1),
    }
)
#: Other spellings, and what they mean.
ALIASES = MappingProxyType(
    {
        "INTEGER": "INT",
        "NUMERIC": "DECIMAL",
        "DEC": "DECIMAL",
        "DOUBLE PRECISION": "DOUBLE",
        "TIMESTAMP WITH LOCAL TIME ZONE": "TIMESTAMP_LTZ",
        "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP",
    }
)
COLLECTIONS = ("ARRAY", "MAP", "MULTISET")
_UNBOUNDED = {"VARCHAR": "STRING", "VARBINARY": "BYTES"}
_TOKEN = re.compile(r"\s*([A-Za-z_]+|\d+|[<>(),]|`(?:[^`]|``)*`)")


@dataclass(frozen=True, slots=True)
class DataType:
    """A type: an atomic one with parameters, a collection of element types, or a ROW of named ones."""

    name: str
    parameters: tuple[int, ...] = ()
    elements: tuple[DataType, ...] = ()
    field_names: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.name == "ROW":
            fields = ", ".join(
                f"{identifier(name)} {element}" for name, element in zip(self.field_names, self.elements, strict=True)
            )
            return f"ROW<{fields}>"
        if self.elements:
            return f"{self.name}<{', '.join(str(e) for e in self.elements)}>"
        if self.parameters:
            return f"{self.name}({', '.join(str(p) for p in self.parameters)})"
        return _UNBOUNDED.get(self.name, self.name)

    @property
    def is_time_attribute(self) -> bool:
        """Whether a column of this type can carry event time."""
        return self.name in ("TIMESTAMP", "TIMESTAMP_LTZ") and (self.parameters or (6,))[0] <= 3


def parse(text: str) -> DataType:
    """A type from its text.

    Raises:
        DefinitionError: the text is not a type that Flink knows.
    """
    reader = _Reader(text)
    result = reader.type()
    reader.end()
    return result


def of_column(column: Column) -> DataType:
    """The type of a column, its fields included.

    Raises:
        DefinitionError: an unknown type, a ROW without fields, or fields where there can be none.
    """
    name = column.type.strip().upper()
    if not column.fields:
        if name in ("ROW", "ARRAY"):
            raise DefinitionError(f"column {column.name!r}: {name} has no fields; add its fields below it")
        try:
            return parse(column.type)
        except DefinitionError as error:
            raise DefinitionError(f"column {column.name!r}: {error}") from error
    row = DataType("ROW", (), tuple(of_column(f) for f in column.fields), tuple(f.name for f in column.fields))
    if name == "ROW":
        return row
    if name == "ARRAY":
        single = len(column.fields) == 1 and not column.fields[0].name
        return DataType("ARRAY", (), (row.elements[0] if single else row,))
    raise DefinitionError(f"column {column.name!r}: {column.type} cannot have fields; make it ROW or ARRAY")


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        at = 0
        stripped = text.rstrip()
        while at < len(stripped):
            match = _TOKEN.match(stripped, at)
            if match is None:
                raise self.unknown()
            self.tokens.append(match.group(1))
            at = match.end()
        self.at = 0

    def unknown(self) -> DefinitionError:
        return DefinitionError(
            f"{self.text!r} is not a type that Flink knows; use for example STRING, BIGINT, DECIMAL(10, 2), "
            "TIMESTAMP(3), ARRAY<STRING>"
        )

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token.upper() != expected):
            raise self.unknown()
        self.at += 1
        return token

    def end(self) -> None:
        if self.peek():
            raise self.unknown()

    def type(self) -> DataType:
        name = self.take().upper()
        while self.peek().upper() in ("PRECISION", "WITH", "WITHOUT", "LOCAL", "TIME", "ZONE"):
            name += " " + self.take().upper()
        name = ALIASES.get(name, name)
        if name == "ROW":
            return self.row()
        if name in COLLECTIONS:
            self.take("<")
            elements = [self.type()]
            if name == "MAP":
                self.take(",")
                elements.append(self.type())
            self.take(">")
            return DataType(name, (), tuple(elements))
        if name not in ATOMIC:
            raise self.unknown()
        parameters: list[int] = []
        if self.peek() == "(":
            self.take()
            parameters.append(self.number())
            while self.peek() == ",":
                self.take()
                parameters.append(self.number())
            self.take(")")
        if len(parameters) not in ATOMIC[name]:
            raise self.unknown()
        return DataType(name, tuple(parameters))

    def row(self) -> DataType:
        self.take("<")
        names, elements = [], []
        while True:
            token = self.take()
            names.append(token[1:-1].replace("``", "`") if token.startswith("`") else token)
            elements.append(self.type())
            if self.peek() != ",":
                break
            self.take()
        self.take(">")
        return DataType("ROW", (), tuple(elements), tuple(names))

    def number(self) -> int:
        token = self.take()
        if not token.isdigit():
            raise self.unknown()
        return int(token)
