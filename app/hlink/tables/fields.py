"""Connector fields: which a table of a role and kind has, and whether the values given for them will do.

The fields are data (``schemas/hlink/fields.json``). Values are text, as the form sends them; the checked result holds
every field that is in force, defaults filled in, credentials set apart and masked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from fnmatch import fnmatchcase
from functools import cache
from urllib.parse import parse_qs, urlsplit

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from app.errors import Problem
from app.hlink import catalogue

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Choice:
    """A value that a field may have; ``fields`` belong to this choice only (wire: unionFields)."""

    value: str
    label: str
    fields: tuple[FieldTemplate, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class FieldTemplate:
    """A field: what it is called, how it is entered, what it may hold."""

    name: str
    label: str
    control: str
    required: bool
    default: str = ""
    minimum: int | None = None
    maximum: int = 2**31 - 1
    tips: str = ""
    format: str = ""
    secret: bool = False
    ours: bool = False
    used: bool = True
    may_be_empty: bool = False
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class _Template:
    role: str
    kinds: tuple[str, ...]
    fields: tuple[FieldTemplate, ...]


@dataclass(frozen=True, config=_STRICT)
class _Catalogue:
    source: str
    mask: str
    secret_properties: tuple[str, ...]
    templates: tuple[_Template, ...]


@dataclass(frozen=True)
class CheckedFields:
    """Values by field name, masked; and the credentials that the masks stand for.

    A credential among the lines of a field is under ``<field>.<key>``.
    """

    values: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)


@cache
def _catalogue() -> _Catalogue:
    return catalogue.load("fields", _Catalogue)


def mask() -> str:
    """What stands for a credential in every answer; sent back, it means "as it was"."""
    return _catalogue().mask


def kinds(role: str) -> tuple[str, ...]:
    """The kinds of table (wire: tableType) that a role (wire: dsType) may have; none for an unknown role."""
    return tuple(dict.fromkeys(kind for t in _catalogue().templates if t.role == role for kind in t.kinds))


def roles() -> tuple[str, ...]:
    """The roles that have templates."""
    return tuple(dict.fromkeys(t.role for t in _catalogue().templates))


def template(role: str, kind: str) -> tuple[FieldTemplate, ...]:
    """The fields of a table of that role and kind; KeyError when there is no such table."""
    for candidate in _catalogue().templates:
        if candidate.role == role and kind in candidate.kinds:
            return candidate.fields
    raise KeyError((role, kind))


def is_secret_property(key: str) -> bool:
    """Whether a client property, header or query parameter of that name holds a credential."""
    return any(fnmatchcase(key.lower(), pattern) for pattern in _catalogue().secret_properties)


def check(
    role: str,
    kind: str,
    given: Mapping[str, str],
    previous: Mapping[str, str] | None = None,
    *,
    table: str | None = None,
) -> tuple[CheckedFields, list[Problem]]:
    """Hold ``given`` (field name to text) against the template.

    ``previous`` are the credentials stored so far: where the mask was sent they go on. Values are in order only when
    no problem is answered with them. Raises KeyError for an unknown role or kind.
    """
    form = template(role, kind)
    values: dict[str, str] = {}
    secrets: dict[str, str] = {}
    problems: list[Problem] = []

    def refuse(name: str, message: str, remedy: str) -> None:
        problems.append(Problem(message, field=name, table=table, remedy=remedy))

    known = {one.name for one in _all_fields(form)}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}"
            refuse(name, f"a {kind} {role} table has no such field", meant)

    def take(one: FieldTemplate) -> None:
        text = given.get(one.name, "")
        # A password may begin or end with a space; nothing else means one.
        value = (text if one.secret else text.strip()) or one.default
        if not value:
            if one.required and not one.may_be_empty:
                refuse(one.name, "is required and has no value", _what_to_give(one))
            values[one.name] = ""
            return
        if one.secret:
            secret = (previous or {}).get(one.name) if value == mask() else value
            if secret is None:
                refuse(
                    one.name,
                    f"'{mask()}' only stands for what was saved before for the same address",
                    "send the value itself",
                )
                return
            values[one.name], secrets[one.name] = mask(), secret
            return
        if one.control == "numberfield":
            if not re.fullmatch(r"-?\d{1,18}", value):
                refuse(one.name, f"'{value}' is not a whole number", _what_to_give(one))
                return
            if one.minimum is not None and int(value) < one.minimum:
                refuse(one.name, f"{value} is too small", f"the smallest is {one.minimum}")
                return
            if int(value) > one.maximum:
                refuse(one.name, f"{value} is too large", f"the largest is {one.maximum}")
                return
        if one.choices:
            chosen = next((c for c in one.choices if c.value == value), None)
            if chosen is None:
                near = ", ".join(c.value or "(empty)" for c in one.choices)
                refuse(one.name, f"'{value}' is not one of its values", f"choose one of: {near}")
                return
            values[one.name] = value
            for dependent in chosen.fields:
                take(dependent)
            return
        if one.format == "properties":
            _take_properties(one.name, value, previous or {}, values, secrets, refuse)
            return
        if one.format in _FORMATS and (fault := _FORMATS[one.format](value)):
            refuse(one.name, *fault)
            return
        values[one.name] = value

    for one in form:
        take(one)
    return CheckedFields(values, secrets), problems


def properties(values: Mapping[str, str], name: str = "properties") -> dict[str, str]:
    """The lines of a field of key=value lines of checked values, key to value; credentials are masked."""
    lines = (line.partition("=") for line in values.get(name, "").splitlines())
    return {key: value for key, _, value in lines if key}


def brokers(text: str) -> list[tuple[str, int]]:
    """Hosts and ports of a bootstrap list. Raises ValueError naming the entry that is not ``host:port``."""
    found = []
    for entry in text.split(","):
        host, _, port = entry.strip().rpartition(":")
        if not host or re.search(r"[\s/]", host) or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"'{entry.strip()}' is not host:port")
        found.append((host.strip("[]"), int(port)))
    return found


def offsets(text: str) -> tuple[tuple[int, int], ...]:
    """Partitions and offsets of ``0,42;1,300``. Raises ValueError naming the pair that is wrong."""
    found: dict[int, int] = {}
    for pair in filter(None, (part.strip() for part in text.split(";"))):
        numbers = re.fullmatch(r"(\d{1,9})\s*,\s*(\d{1,18})", pair)
        if not numbers:
            raise ValueError(f"'{pair}' is not partition,offset")
        if int(numbers[1]) in found:
            raise ValueError(f"partition {int(numbers[1])} is there twice")
        found[int(numbers[1])] = int(numbers[2])
    return tuple(found.items())


JDBC_PREFIXES: Mapping[str, str] = {
    "postgresql": "jdbc:postgresql://",
    "mysql": "jdbc:mysql://",
    "oracle": "jdbc:oracle:thin:",
}
JDBC_EXAMPLES: Mapping[str, str] = {
    "postgresql": "jdbc:postgresql://host:5432/database",
    "mysql": "jdbc:mysql://host:3306/database",
    "oracle": "jdbc:oracle:thin:@//host:1521/service",
}
_URL_CREDENTIALS = re.compile(r"[?&;,(](?:user|username|password|passwd|pwd)\s*=", re.IGNORECASE)


def jdbc_fault(kind: str, url: str) -> tuple[str, str] | None:
    """What is wrong with a JDBC URL for that kind of table, and the remedy. Never repeats a credential."""
    example = f"write {JDBC_EXAMPLES[kind]}"
    scheme = ":".join(url.split(":", 2)[:2]).split("/")[0]
    if not url.startswith(JDBC_PREFIXES[kind]):
        owner = next((k for k, prefix in JDBC_PREFIXES.items() if url.startswith(prefix)), None)
        if owner:
            return f"a {kind} table cannot have a URL of {owner}", f"{example}, or make it a table of type {owner}"
        return f"'{scheme}' is not the beginning of a URL of {kind}", example
    rest = url[len(JDBC_PREFIXES[kind]) :]
    before_query = rest.split("?", 1)[0]
    if kind == "oracle":
        carries, complete = not rest.startswith("@") and "@" in rest, re.fullmatch(r"@\S+", rest)
    else:
        carries, complete = "@" in before_query, re.fullmatch(r"[^/\s@]+/[^/\s?]+(\?\S*)?", rest)
    if carries or _URL_CREDENTIALS.search(url):
        return (
            "the URL carries credentials, and URLs are shown",
            "take them out: connector_username and connector_password are for them",
        )
    return None if complete else ("the URL lacks its host or its database", example)


def _all_fields(form: Sequence[FieldTemplate]) -> Iterator[FieldTemplate]:
    for one in form:
        yield one
        for choice in one.choices:
            yield from _all_fields(choice.fields)


def _what_to_give(one: FieldTemplate) -> str:
    if one.tips:
        return one.tips.rstrip(".")
    if one.control == "numberfield":
        return "give a whole number" + (f" such as {one.default}" if one.default else "")
    return (
        f"give the {one.label[:1].lower()}{one.label[1:]}" if not one.label[:2].isupper() else f"give the {one.label}"
    )


def _take_properties(
    name: str,
    text: str,
    previous: Mapping[str, str],
    values: dict[str, str],
    secrets: dict[str, str],
    refuse: Callable[[str, str, str], None],
) -> None:
    lines: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, separator, value = line.partition("=")
        key, value = key.strip(), value.strip()
        # The line itself is not repeated: it may hold a credential.
        if not separator or not re.fullmatch(r"[A-Za-z0-9._-]+", key):
            refuse(name, f"line {number} is not key=value", "write one property a line, such as client.id=hlink")
        elif key in lines:
            refuse(name, f"'{key}' is there twice", "keep one of the two lines")
        elif not is_secret_property(key):
            if any(is_secret_property(inner) for inner in re.findall(r"([\w.-]+)\s*=", value)):
                # It would be stored and shown as it is: several lines in one, mostly.
                refuse(name, f"the value of {key} holds a credential", "write one key=value a line")
                continue
            lines[key] = value
        else:
            secret = previous.get(f"{name}.{key}") if value == mask() else value
            if secret is None:
                refuse(
                    name, f"'{mask()}' for {key} only stands for what was saved before for the same address", "send it"
                )
                continue
            lines[key], secrets[f"{name}.{key}"] = mask(), secret
    values[name] = "\n".join(f"{key}={value}" for key, value in lines.items())


def _brokers_fault(text: str) -> tuple[str, str] | None:
    try:
        brokers(text)
    except ValueError as error:
        return str(error), "give the brokers as host:port, several separated by commas"
    return None


def _offsets_fault(text: str) -> tuple[str, str] | None:
    try:
        return None if offsets(text) else ("there is no offset", "write pairs such as 0,42;1,300")
    except ValueError as error:
        return str(error), "write pairs such as 0,42;1,300"


def _topic_fault(text: str) -> tuple[str, str] | None:
    # Kafka's own rule: org.apache.kafka.common.internals.Topic.
    if re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) and text not in (".", ".."):
        return None
    return f"'{text}' cannot be a topic", "use at most 249 letters, digits, dots, hyphens and underscores"


def _http_url_fault(text: str) -> tuple[str, str] | None:
    parts = urlsplit(text)
    if parts.username or parts.password or any(is_secret_property(name) for name in parse_qs(parts.query)):
        return "the address carries credentials, and addresses are shown", "put them into headers or properties"
    if parts.scheme in ("http", "https") and parts.hostname:
        return None
    return f"'{text}' is not an address", "write http://host:port"


def _size_fault(text: str) -> tuple[str, str] | None:
    if re.fullmatch(r"\d{1,9}\s*(b|kb|mb|gb)", text):
        return None
    return f"'{text}' is not a size", "write a number and its unit, such as 2mb"


def _duration_fault(text: str) -> tuple[str, str] | None:
    if re.fullmatch(r"\d{1,9}\s*(ms|s|min|h)", text):
        return None
    return f"'{text}' is not a length of time", "write a number and its unit, such as 2s"


_FORMATS: Mapping[str, Callable[[str], tuple[str, str] | None]] = {
    "brokers": _brokers_fault,
    "offsets": _offsets_fault,
    "topic": _topic_fault,
    "http_url": _http_url_fault,
    "size": _size_fault,
    "duration": _duration_fault,
}
