"""What an uploaded file has in it: functions are found by reading it, and nothing of it runs in the service."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from app.errors import InvalidInput, Problem
from app.hlink.functions.classfile import ABSTRACT, INTERFACE, PUBLIC, ClassFile, NotAClass, read_class
from app.uploads import check_archive
from stream_jobs.definitions import FunctionKind

NEWEST_JAVA = 21
"""The release of the Java runtime that the stack brings: planner and cluster run classes up to this one."""
LARGEST_CLASS = 2 * 1024**2
LARGEST_SOURCE = 512 * 1024

_FLINK = "org.apache.flink.table.functions."
_KINDS = {
    _FLINK + "ScalarFunction": FunctionKind.SCALAR,
    _FLINK + "TableFunction": FunctionKind.TABLE,
    _FLINK + "AggregateFunction": FunctionKind.AGGREGATE,
    _FLINK + "TableAggregateFunction": FunctionKind.TABLE_AGGREGATE,
}
_BASES = {kind: base.removeprefix(_FLINK) for base, kind in _KINDS.items()}
#: The methods that Flink looks for, by name; of each tuple one is enough.
_METHODS: dict[FunctionKind, Sequence[tuple[str, ...]]] = {
    FunctionKind.SCALAR: [("eval",)],
    FunctionKind.TABLE: [("eval",)],
    FunctionKind.AGGREGATE: [("accumulate",)],
    FunctionKind.TABLE_AGGREGATE: [("accumulate",), ("emitValue", "emitUpdateWithRetract")],
}
_SHOWN = 20
_LONGEST_CHAIN = 50


@dataclass(frozen=True, slots=True)
class Found:
    """A function in an uploaded file; ``suffix`` is what the file is: jar, py or zip."""

    kind: FunctionKind
    implementation: str
    suffix: str


def find_class(path: Path, name: str, wanted: str, kind: FunctionKind | None, libraries: Sequence[Path]) -> Found:
    """The function class ``wanted`` of a jar; without a name the only one there is.

    ``name`` is what the jar is called, ``kind`` what the class must be (None: whatever it is), ``libraries`` are
    Flink's jars, through which superclasses are followed.

    Raises:
        InvalidInput: naming the jar, the class, what is wrong with it, and the classes that would do.
    """
    check_archive(path, name)
    with _Classes(path, libraries) as classes:
        if not wanted:
            candidates = classes.functions(kind)
            if len(candidates) != 1:
                raise _refusal("no class is named", name, candidates, kind)
            wanted = candidates[0]
        try:
            return Found(classes.judged(wanted, kind), wanted, "jar")
        except _Unfit as error:
            raise _refusal(f"class {wanted!r} {error}", name, classes.functions(kind), kind) from None


def _refusal(message: str, jar: str, candidates: Sequence[str], kind: FunctionKind | None) -> InvalidInput:
    what = f"{kind} function" if kind else "function"
    if candidates:
        more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
        remedy = f"{jar} has these {what}s: {', '.join(candidates[:_SHOWN])}{more}"
    else:
        remedy = f"{jar} has no {what}: put one in it"
    return InvalidInput(Problem(f"{jar}: {message}", field="udfClass", remedy=remedy))


class _Unfit(Exception):
    """The class is not the function that is wanted; the message goes on after its name."""


class _Classes:
    """The classes of a jar, and of Flink's own jars where the jar's go back to them."""

    def __init__(self, jar: Path, libraries: Sequence[Path]) -> None:
        self._jar = zipfile.ZipFile(jar)
        self._libraries = libraries
        self._opened: list[zipfile.ZipFile] | None = None
        self._stack = ExitStack()
        self._stack.enter_context(self._jar)

    def __enter__(self) -> _Classes:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def functions(self, kind: FunctionKind | None) -> list[str]:
        """The names of all classes that are functions of that kind."""
        found = []
        for entry in self._jar.namelist():
            name = entry.removesuffix(".class").replace("/", ".")
            if entry.endswith(".class") and not entry.startswith("META-INF/") and not entry.endswith("-info.class"):
                try:
                    self.judged(name, kind)
                except _Unfit:
                    continue
                found.append(name)
        return sorted(found)

    def judged(self, name: str, kind: FunctionKind | None) -> FunctionKind:
        """The kind of function that a class of the jar is. Raises :class:`_Unfit`."""
        own = self._read([self._jar], name)
        if own is None:
            raise _Unfit("is not in the jar")
        if own.name != name:
            raise _Unfit(f"calls itself {own.name!r}")
        if own.java > NEWEST_JAVA:
            raise _Unfit(f"is compiled for Java {own.java}; compile it for Java {NEWEST_JAVA} or 17 (--release 17)")
        chain = list(self._chain(own))
        found = _KINDS.get(chain[-1].superclass)
        if found is None:
            raise _Unfit(f"extends {chain[-1].superclass}, which is none of Flink's {', '.join(_BASES.values())}")
        if kind is not None and found is not kind:
            raise _Unfit(f"is a {found} function (it extends {_BASES[found]}), not {kind}")
        if not own.flags & PUBLIC:
            raise _Unfit("is not public")
        if own.flags & (ABSTRACT | INTERFACE):
            raise _Unfit("is abstract")
        if not own.has_public("<init>", "()V"):
            raise _Unfit("has no public constructor without arguments")
        for names in _METHODS[found]:
            if not any(one.has_public(method) for one in chain for method in names):
                raise _Unfit(f"has no public method {' or '.join(names)}")
        return found

    def _chain(self, own: ClassFile) -> Iterator[ClassFile]:
        """The class and those above it, up to the one that extends Flink's base, or one that is not known."""
        current: ClassFile | None = own
        for _ in range(_LONGEST_CHAIN):
            assert current is not None
            yield current
            above = current.superclass
            if above in _KINDS or not above or above == "java.lang.Object":
                return
            current = self._read([self._jar], above) or self._read(self._flink(), above)
            if current is None:
                return
        raise _Unfit("extends itself")

    def _flink(self) -> list[zipfile.ZipFile]:
        if self._opened is None:
            self._opened = [self._stack.enter_context(zipfile.ZipFile(jar)) for jar in self._libraries]
        return self._opened

    def _read(self, archives: Sequence[zipfile.ZipFile], name: str) -> ClassFile | None:
        entry = f"{name.replace('.', '/')}.class"
        for archive in archives:
            try:
                size = archive.getinfo(entry).file_size
            except KeyError:
                continue
            if size > LARGEST_CLASS:
                raise _Unfit(f"needs {name}, which is larger than any class")
            try:
                return read_class(archive.read(entry))
            except NotAClass as error:
                raise _Unfit(f"cannot be read: {name}: {error}") from None
        return None


def find_python(path: Path, name: str, wanted: str) -> Found:
    """The Python function ``wanted`` (``module.function``) of a ``.py`` file or a zip of packages.

    That the module defines it is read from its source; that PyFlink can use it the planner finds out, which imports it.

    Raises:
        InvalidInput: naming the file and what is wrong with it.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", wanted):
        raise InvalidInput(
            Problem(
                f"{wanted!r} does not name a Python function" if wanted else "no Python function is named",
                field="udfClass",
                remedy="write module.function, such as features.distance",
            )
        )
    module, _, function = wanted.rpartition(".")
    top = module.split(".")[0]
    if top in sys.stdlib_module_names or top in sys.modules or importlib.util.find_spec(top) is not None:
        raise InvalidInput(
            Problem(
                f"{name}: a module {top!r} is there already, and yours would not be found",
                field="udfClass",
                remedy=f"call the module otherwise, such as my_{top}",
            )
        )
    is_source = name.lower().endswith(".py")
    if is_source and "." in module:
        raise InvalidInput(
            Problem(
                f"{name} is one module, and {wanted!r} is in a package",
                field="udfClass",
                remedy="write module.function, or send the package as a zip",
            )
        )
    source = _source(path, name) if is_source else _source_in_zip(path, name, module)
    names = _defined_names(source, name)
    if function not in names:
        shown = ", ".join(sorted(one for one in names if not one.startswith("_"))[:_SHOWN]) or "nothing"
        raise InvalidInput(
            Problem(
                f"{name}: module {module!r} does not define {function!r}", field="udfClass", remedy=f"it has {shown}"
            )
        )
    return Found(FunctionKind.PYTHON, wanted, "py" if is_source else "zip")


def _source(path: Path, name: str) -> bytes:
    if path.stat().st_size > LARGEST_SOURCE:
        raise InvalidInput(Problem(f"{name} is larger than any module", field="jarfile", remedy="send the source"))
    return path.read_bytes()


def _source_in_zip(path: Path, name: str, module: str) -> bytes:
    check_archive(path, name)
    stem = module.replace(".", "/")
    with zipfile.ZipFile(path) as archive:
        for entry in (f"{stem}.py", f"{stem}/__init__.py"):
            if entry in archive.namelist() and archive.getinfo(entry).file_size <= LARGEST_SOURCE:
                return archive.read(entry)
        modules = sorted(
            entry.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for entry in archive.namelist()
            if entry.endswith(".py")
        )
    raise InvalidInput(
        Problem(
            f"{name} has no module {module!r}",
            field="udfClass",
            remedy=f"it has {', '.join(modules[:_SHOWN]) or 'no module'}; a package lies at the top of the zip",
        )
    )


def _defined_names(source: bytes, name: str) -> set[str]:
    """What a module defines or imports, by its syntax tree."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise InvalidInput(
            Problem(f"{name} is not Python {sys.version_info[0]}.{sys.version_info[1]}: {error}", line=line)
        ) from None
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Assign():
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name() as target):
                found.add(target.id)
            case ast.Import() | ast.ImportFrom():
                found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found
