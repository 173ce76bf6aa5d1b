"""What an ONNX file says of itself, read without what is in it: no library of models belongs in the service.

The file is a message of Protocol Buffers (https://protobuf.dev/programming-guides/encoding/), ``ModelProto`` of
``onnx.proto``: all but its ``metadata_props`` is skipped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_METADATA, _KEY, _VALUE = 14, 1, 2
"""The numbers of ``ModelProto.metadata_props``, and of the two fields of its entries."""
_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}
"""Bytes of the types of fixed size."""


class NotOnnx(ValueError):
    """The file is no message of Protocol Buffers."""


def metadata(file: Path) -> dict[str, str]:
    """The ``metadata_props`` of an ONNX file. Raises :class:`NotOnnx`, and ``OSError`` where it cannot be read."""
    found = {}
    with file.open("rb") as stream:
        end = os.fstat(stream.fileno()).st_size
        while stream.tell() < end:
            number, size = _field(stream)
            after = stream.tell() + size
            if number == _METADATA:
                entry = {_KEY: "", _VALUE: ""}
                while stream.tell() < after:
                    part, length = _field(stream)
                    entry[part] = stream.read(length).decode()
                found[entry[_KEY]] = entry[_VALUE]
            stream.seek(after)
    return found


def _field(stream: BinaryIO) -> tuple[int, int]:
    """The number of the field that begins here, and how many bytes it has from here on."""
    number, kind = divmod(_varint(stream), 8)
    if kind == _LENGTH:
        return number, _varint(stream)
    if kind == _VARINT:
        _varint(stream)
        return number, 0
    if kind not in _FIXED:
        raise NotOnnx(f"a field of the unknown type {kind}")
    return number, _FIXED[kind]


def _varint(stream: BinaryIO) -> int:
    value = shift = 0
    while byte := stream.read(1):
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return value
    raise NotOnnx("it ends within a field")
