"""The pages, with their generated parts filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from app.errors import NotFound
from app.hlink import catalogue
from app.hlink.dictionaries import dictionary
from app.hlink.tables import column_types, fields
from app.hlink.tables.fields import FieldTemplate
from app.settings import Settings
from stream_jobs.sql import types

FOLDER = catalogue.FOLDER / "docs"
LANGUAGES = ("en", "zh")
"""The first is for whoever reads neither."""

_STRICT = ConfigDict(extra="forbid")
_MARKER = re.compile(r"\{\{(\w[\w ]*)\}\}")


@dataclass(frozen=True, config=_STRICT)
class ExampleTable:
    """A table that the pages' examples use; ``key``: a side table's join key, a sink's primary key."""

    name: str
    role: str
    kind: str
    columns: Mapping[str, str]
    event_time: str = ""
    key: str = ""


@dataclass(frozen=True, config=_STRICT)
class _Examples:
    tables: tuple[ExampleTable, ...]


@cache
def example_tables() -> tuple[ExampleTable, ...]:
    """The tables of ``schemas/hlink/examples.json``."""
    return catalogue.load("examples", _Examples).tables


@cache
def pages() -> tuple[str, ...]:
    """The pages there are: those that were written, and one for each connector."""
    written = {file.stem for file in (FOLDER / LANGUAGES[0]).glob("*.md")}
    return tuple(sorted(written.union(*(fields.kinds(role) for role in fields.roles()))))


@cache
def page(key: str, language: str) -> str:
    """The page in Markdown. Raises :class:`~app.errors.NotFound` with the keys there are."""
    if key not in pages():
        raise NotFound(f"There is no page '{key}': choose from {', '.join(pages())}")
    file = FOLDER / language / f"{key}.md"
    if not file.exists():
        return _connector(key, language)
    text = file.read_text("utf-8")
    return _MARKER.sub(lambda marker: _GENERATED[marker[1]](language), text)


def language_of(accept: str | None) -> str:
    """The language that a header ``Accept-Language`` likes best of those there are."""
    wanted: list[tuple[float, int, str]] = []
    for position, entry in enumerate((accept or "").split(",")):
        name, _, parameters = entry.partition(";")
        quality = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d*)?)\s*", parameters)
        weight = float(quality[1]) if quality else 1.0
        language = name.strip().lower().partition("-")[0]
        if language in LANGUAGES and weight > 0:
            wanted.append((-weight, position, language))
    return min(wanted)[2] if wanted else LANGUAGES[0]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["-"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') or ' ' for cell in line)} |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _words(language: str, **texts: str) -> str:
    return texts[language]


def _type_table(language: str) -> str:
    """Every type, what it means without parameters, and which databases hold it."""
    known = column_types.known()
    others = {name: [alias for alias, meant in types.ALIASES.items() if meant == name] for name in types.ATOMIC}
    heads = {
        "en": ("Flink type", "also written", "without parameters", "looked up in", "written to"),
        "zh": ("Flink 类型", "其他写法", "不带参数时", "可作维表列", "可作结果表列"),
    }
    rows = [
        (
            _code(name),
            ", ".join(map(_code, others.get(name, []))),
            _code(known.types[name].bare if name in known.types else ""),
            *(", ".join(kind for kind, held in known.jdbc[role].items() if name in held) for role in ("side", "sink")),
        )
        for name in (*types.ATOMIC, *types.COLLECTIONS, "ROW")
    ]
    return _table(heads[language], rows)


def _suggestion_table(language: str) -> str:
    heads = {"en": ("instead of", "write"), "zh": ("不要写", "应写")}
    return _table(heads[language], ((_code(a), _code(b)) for a, b in column_types.known().suggestions.items()))


def _reserved_words(_language: str) -> str:
    return ", ".join(map(_code, sorted(catalogue.reserved_words())))


def _forms(role: str) -> Callable[[str], str]:
    """A section for each kind of table of a role, with the fields of its form."""
    return lambda language: "\n\n".join(f"### {kind}\n\n{_form(language, role, kind)}" for kind in fields.kinds(role))


def _form(language: str, role: str, kind: str) -> str:
    heads = {
        "en": ("field", "meaning", "required", "default", "choices"),
        "zh": ("字段", "含义", "必填", "默认值", "可选值"),
    }
    return _table(heads[language], (row for one in fields.template(role, kind) for row in _field_rows(language, one)))


def _connector(kind: str, language: str) -> str:
    """The page of a connector: the forms of all roles that it can have."""
    titles = {
        "en": {"source": "As a source", "side": "As a side table", "sink": "As a sink"},
        "zh": {"source": "作为数据源", "side": "作为维表", "sink": "作为结果表"},
    }[language]
    sections = (
        f"## {titles[role]}\n\n{_form(language, role, kind)}" for role in fields.roles() if kind in fields.kinds(role)
    )
    return "\n\n".join((f"# {kind}", *sections)) + "\n"


def _field_rows(language: str, one: FieldTemplate, only_with: str = "") -> Iterable[Sequence[str]]:
    yes, no = _words(language, en="yes", zh="是"), _words(language, en="no", zh="否")
    meaning = f"{one.label}. {one.tips}".strip() if one.tips else one.label
    choices = ", ".join(_code(choice.value) for choice in one.choices if choice.value)
    needed = yes if one.required and not one.may_be_empty else no
    yield _code(one.name), meaning, f"{needed}{only_with}", _code(one.default), choices
    for choice in one.choices:
        for union in choice.fields:
            condition = _words(language, en=" (with {})", zh="（仅当 {}）").format(_code(choice.value))
            yield from _field_rows(language, union, condition)


def _example_list(language: str) -> str:
    heads = {"en": ("table", "what it is", "columns"), "zh": ("表", "类型", "列")}
    return _table(
        heads[language], ((_code(one.name), _described(language, one), _columns(one)) for one in example_tables())
    )


def _described(language: str, one: ExampleTable) -> str:
    notes = [f"{one.role}, {one.kind}"]
    if one.event_time:
        notes.append(_words(language, en="event time {}", zh="事件时间 {}").format(_code(one.event_time)))
    if one.key:
        notes.append(_words(language, en="key {}", zh="键 {}").format(_code(one.key)))
    return "; ".join(notes)


def _columns(one: ExampleTable) -> str:
    return ", ".join(f"`{name}` {kind}" for name, kind in one.columns.items())


def _choices(name: str) -> Callable[[str], str]:
    heads = {"en": ("code", "meaning"), "zh": ("代码", "含义")}
    return lambda language: _table(heads[language], ((_code(c.value), c.label) for c in dictionary(name).items))


def _default(setting: str) -> Callable[[str], str]:
    return lambda _language: f"{Settings.model_fields[setting].default:,.10g}"


_GENERATED: Mapping[str, Callable[[str], str]] = {
    "types": _type_table,
    "type suggestions": _suggestion_table,
    "reserved words": _reserved_words,
    "source forms": _forms("source"),
    "side forms": _forms("side"),
    "sink forms": _forms("sink"),
    "examples": _example_list,
    "job status": _choices("job_status_published"),
    "checkpoint mode": _choices("checkpoint_mode"),
    "checkpoint cleanup": _choices("checkpoint_cleanup_mode"),
    "restart strategy": _choices("restart_strategy"),
    "state backend": _choices("statebackend"),
    "flapping restarts": _default("flapping_restarts"),
    "flapping window": _default("flapping_window_s"),
    "lag records": _default("lag_records"),
    "lag for": _default("lag_for_s"),
    "failed checkpoints": _default("failed_checkpoints"),
    "steady": _default("notify_steady_s"),
    "again": _default("notify_again_s"),
    "keys": lambda _language: ", ".join(map(_code, pages())),
}
"""What stands for a page's markers."""
