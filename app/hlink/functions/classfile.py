"""Compiled Java classes, read and never run (The Java Virtual Machine Specification, chapter 4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

PUBLIC, INTERFACE, ABSTRACT = 0x0001, 0x0200, 0x0400

_MAGIC = 0xCAFEBABE
_UTF8, _CLASS = 1, 7
_LONG_OR_DOUBLE = (5, 6)
#: Bytes of a constant after its tag.
_SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}


class NotAClass(ValueError):
    """The bytes are not those of a compiled class."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a class; ``descriptor`` is in the JVM's notation, such as ``(Ljava/lang/String;)I``."""

    name: str
    descriptor: str
    flags: int


@dataclass(frozen=True, slots=True)
class ClassFile:
    """What a class says of itself. Names are as in Java, with points; ``java`` is the release that it needs."""

    name: str
    superclass: str
    flags: int
    methods: tuple[Method, ...]
    java: int

    def has_public(self, name: str, descriptor: str | None = None) -> bool:
        """Whether it declares a public method of that name (and descriptor)."""
        return any(
            method.name == name and method.flags & PUBLIC and descriptor in (None, method.descriptor)
            for method in self.methods
        )


def read_class(content: bytes) -> ClassFile:
    """The class in these bytes.

    Raises:
        NotAClass: there is none.
    """
    try:
        return _Reader(content).class_file()
    except (struct.error, KeyError, IndexError, UnicodeDecodeError) as error:
        raise NotAClass(f"the class file is damaged ({type(error).__name__})") from None


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self._texts: dict[int, str] = {}
        self._classes: dict[int, int] = {}

    def class_file(self) -> ClassFile:
        magic, _, major = self._take(">IHH")
        if magic != _MAGIC:
            raise NotAClass("it is not a class file")
        self._constants()
        flags, this, above, interfaces = self._take(">HHHH")
        self._at += 2 * interfaces
        self._members()  # fields
        methods = self._members()
        return ClassFile(
            name=self._class_name(this),
            superclass=self._class_name(above) if above else "",
            flags=flags,
            methods=tuple(methods),
            java=major - 44,
        )

    def _take(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return values

    def _constants(self) -> None:
        (count,) = self._take(">H")
        index = 1
        while index < count:
            (tag,) = self._take(">B")
            if tag == _UTF8:
                (length,) = self._take(">H")
                # Java's own variant of UTF-8; names that need what is special in it are none that SQL can use.
                self._texts[index] = self._content[self._at : self._at + length].decode("utf-8", "replace")
                self._at += length
            elif tag == _CLASS:
                (self._classes[index],) = self._take(">H")
            else:
                self._at += _SIZES[tag]
            index += 2 if tag in _LONG_OR_DOUBLE else 1

    def _members(self) -> list[Method]:
        (count,) = self._take(">H")
        found = []
        for _ in range(count):
            flags, name, descriptor, attributes = self._take(">HHHH")
            for _ in range(attributes):
                _, length = self._take(">HI")
                self._at += length
            found.append(Method(self._texts[name], self._texts[descriptor], flags))
        return found

    def _class_name(self, index: int) -> str:
        return self._texts[self._classes[index]].replace("/", ".")
