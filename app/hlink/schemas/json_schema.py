"""A JSON Schema to columns. Drafts 4, 6, 7, 2019-09 and 2020-12; jsonschema holds it against its metaschema first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import jsonschema

from app.hlink.schemas.described import Budget, Refused, array, mapping, row
from stream_jobs.definitions import Column, TimeFormat

Schema = Mapping[str, Any]

_DRAFTS = {
    "http://json-schema.org/draft-04/schema": jsonschema.Draft4Validator,
    "http://json-schema.org/draft-06/schema": jsonschema.Draft6Validator,
    "http://json-schema.org/draft-07/schema": jsonschema.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    "https://json-schema.org/draft/2020-12/schema": jsonschema.Draft202012Validator,
}
_BEFORE_2019 = tuple(draft for draft in _DRAFTS if "/draft-0" in draft)
_NEWEST = "https://json-schema.org/draft/2020-12/schema"

_SCALARS = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
#: Times as RFC 3339 has them: with an offset, which Flink's own format does not read.
_TIMES = {"date-time": "TIMESTAMP_LTZ(3)", "time": "TIME"}
_OBJECT_WORDS = ("properties", "additionalProperties", "patternProperties", "required")
_ARRAY_WORDS = ("items", "prefixItems", "contains")
_STRING_WORDS = ("format", "pattern", "minLength", "maxLength", "contentEncoding")


def columns(text: str) -> tuple[Column, ...]:
    """The columns of messages that the schema describes.

    Raises Refused: it is no schema of a known draft, or describes what no table can have.
    """
    try:
        root = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("", f"it is not JSON: {error}", "send a JSON Schema as a file") from None
    if not isinstance(root, dict):
        raise Refused("", "it is not a JSON object", "send a JSON Schema that describes an object")
    reader = _Reader(root, _draft(root))
    top = reader.read("", root, "#", ("#",))
    if top.type == "ARRAY" and top.fields:
        # A message that is a list of objects is as many rows.
        return top.fields
    if top.type != "ROW":
        raise Refused("#", f"a message is {top.type}, not an object", "describe the whole message as an object")
    return top.fields


def _draft(root: Schema) -> str:
    named = str(root.get("$schema", _NEWEST))
    draft = named.rstrip("#").replace("https://json-schema.org/draft-0", "http://json-schema.org/draft-0")
    if draft not in _DRAFTS:
        raise Refused("$schema", f"'{named}' is not a known draft", f"use one of: {', '.join(_DRAFTS)}")
    try:
        _DRAFTS[draft].check_schema(root)
    except jsonschema.SchemaError as error:
        place = "/".join(("#", *map(str, error.absolute_path)))
        raise Refused(place, f"it is not a JSON Schema: {error.message[:300]}", "correct it there") from None
    except RecursionError:
        raise Refused("", "it is nested too deeply", "flatten it") from None
    return draft


class _Reader:
    def __init__(self, root: Schema, draft: str) -> None:
        self._root = root
        self._draft = draft
        self._budget = Budget()

    def read(self, name: str, schema: Any, place: str, refs: tuple[str, ...], depth: int = 0) -> Column:
        """The column of one place of the schema; ``refs`` are the references that led here."""
        self._budget.step(place, depth)
        parts, refs = self._parts(schema, place, refs)
        merged = _merged(parts, place)
        comment = str(merged.get("description") or merged.get("title") or "")
        kind = _kind(merged, place)

        def below(name: str, schema: Any, word: str) -> Column:
            return self.read(name, schema, f"{place}/{word}", refs, depth + 1)

        if kind == "object":
            return self._object(name, merged, place, comment, below)
        if kind == "array":
            return replace(array(name, below("", _items(merged, place), "items")), comment=comment)
        if kind == "string":
            return _text(name, merged, comment)
        return Column(name, _SCALARS[kind], comment=comment)

    def _object(self, name: str, merged: Schema, place: str, comment: str, below: Any) -> Column:
        properties: Mapping[str, Any] = merged.get("properties") or {}
        if properties:
            known = [below(key, value, f"properties/{key}") for key, value in properties.items() if value is not False]
            return row(name, known, comment)
        others = merged.get("additionalProperties")
        if isinstance(others, dict):
            return replace(mapping(name, below("", others, "additionalProperties")), comment=comment)
        patterns: Mapping[str, Any] = merged.get("patternProperties") or {}
        if len(patterns) == 1:
            ((pattern, value),) = patterns.items()
            return replace(mapping(name, below("", value, f"patternProperties/{pattern}")), comment=comment)
        raise Refused(
            place,
            "it is an object without properties",
            "describe its properties, or with additionalProperties what all its values are; "
            'or make it {"type": "string"}, which reads the object as text',
        )

    def _parts(self, schema: Any, place: str, refs: tuple[str, ...]) -> tuple[list[Schema], tuple[str, ...]]:
        """What holds at a place at once: the schema itself, what it refers to, what it is all of."""
        if not isinstance(schema, dict):
            raise Refused(place, "it allows anything", "give its type")
        own = dict(schema)
        parts: list[Schema] = []
        reference = own.pop("$ref", None)
        for word in ("$dynamicRef", "$recursiveRef"):
            if word in own:
                raise Refused(place, f"{word} is not possible here", "write a $ref to #/$defs/...")
        if reference is not None:
            if reference in refs:
                raise Refused(
                    place,
                    f"{reference} contains itself, and a table's nesting has an end",
                    'write out as many levels as there are, or make it {"type": "string"}, which reads it as text',
                )
            target = self._resolved(reference, place)
            self._budget.step(place, 0)
            found, refs = self._parts(target, reference, (*refs, reference))
            parts += found
            if self._draft in _BEFORE_2019:
                # What stands beside a $ref counted for nothing then.
                return parts, refs
        for index, one in enumerate(own.pop("allOf", ())):
            self._budget.step(place, 0)
            found, refs = self._parts(one, f"{place}/allOf/{index}", refs)
            parts += found
        for word in ("anyOf", "oneOf"):
            branches = own.pop(word, ())
            if not branches:
                continue
            real = [(i, branch) for i, branch in enumerate(branches) if not _is_null(branch)]
            if len(real) != 1:
                raise Refused(
                    f"{place}/{word}",
                    f"it has {len(real)} forms, and a column has one type",
                    'keep one beside {"type": "null"}, or make it {"type": "string"}, which reads any of them as text',
                )
            ((index, branch),) = real
            self._budget.step(place, 0)
            found, refs = self._parts(branch, f"{place}/{word}/{index}", refs)
            parts += found
        return [own, *parts], refs

    def _resolved(self, reference: str, place: str) -> Any:
        own = str(self._root.get("$id") or self._root.get("id") or "").rstrip("#")
        local = reference.removeprefix(own) if own and reference.startswith(f"{own}#") else reference
        if not local.startswith("#"):
            raise Refused(place, f"{reference} is in another file", "copy it in here, under $defs")
        if local != "#" and not local.startswith("#/"):
            return self._anchored(local[1:], place)
        found: Any = self._root
        for step in filter(None, local[1:].split("/")):
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise Refused(place, f"{reference} leads nowhere: there is no '{key}'", "correct the reference")
        return found

    def _anchored(self, anchor: str, place: str) -> Any:
        for one in _subschemas(self._root):
            if one.get("$anchor") == anchor or one.get("$id", one.get("id")) == f"#{anchor}":
                return one
        raise Refused(place, f"there is no anchor '{anchor}'", "correct the reference")


def _subschemas(schema: Any) -> Iterator[Schema]:
    if isinstance(schema, dict):
        yield schema
    if isinstance(schema, dict | list):
        for one in schema.values() if isinstance(schema, dict) else schema:
            yield from _subschemas(one)


def _merged(parts: Sequence[Schema], place: str) -> dict[str, Any]:
    """One schema that says what all parts say. What two parts say of one property becomes an allOf of it."""
    merged: dict[str, Any] = {}
    for part in parts:
        for word, value in part.items():
            if word not in merged:
                merged[word] = value
            elif word == "properties":
                merged[word] = {**merged[word], **_joined(merged[word], value)}
            elif word == "type":
                merged[word] = _common(merged[word], value, place)
            elif word == "items" and merged[word] != value:
                merged[word] = {"allOf": [merged[word], value]}
            elif word == "additionalProperties" and not isinstance(merged[word], dict):
                merged[word] = value
    return merged


def _joined(left: Schema, right: Schema) -> dict[str, Any]:
    return {
        key: {"allOf": [left[key], value]} if key in left and left[key] != value else value
        for key, value in right.items()
    }


def _common(left: Any, right: Any, place: str) -> list[str]:
    found = sorted(_names(left) & _names(right))
    if not found:
        raise Refused(
            place, f"it would have to be {left} and {right} at once", "let the schemas of allOf agree on the type"
        )
    return found


def _names(kind: Any) -> set[str]:
    names = {kind} if isinstance(kind, str) else set(kind)
    # An integer is a number, so that what is common to both is the integer.
    return names | {"integer"} if "number" in names else names


def _kind(merged: Schema, place: str) -> str:
    """The one type beside null."""
    named = merged.get("type")
    kinds = {named} if isinstance(named, str) else set(named or _implied(merged))
    kinds.discard("null")
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) == 1:
        return str(kinds.pop())
    if kinds:
        raise Refused(
            place,
            f"it may be {' or '.join(sorted(kinds))}, and a column has one type",
            'choose one type, or "string", which reads any of them as text',
        )
    raise Refused(place, "it has no type" + (" but null" if named else ""), "give its type, such as string or object")


def _implied(merged: Schema) -> set[str]:
    """What a schema without ``type`` means by its other words."""
    if "enum" in merged or "const" in merged:
        return {_type_of(value) for value in merged.get("enum", [merged.get("const")])}
    for words, kind in ((_OBJECT_WORDS, "object"), (_ARRAY_WORDS, "array"), (_STRING_WORDS, "string")):
        if any(word in merged for word in words):
            return {kind}
    return set()


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _is_null(branch: Any) -> bool:
    if not isinstance(branch, dict):
        return False
    return branch.get("type") in ("null", ["null"]) or ("const" in branch and branch["const"] is None)


def _items(merged: Schema, place: str) -> Any:
    items = merged.get("items")
    if "prefixItems" in merged or isinstance(items, list):
        raise Refused(place, "its elements have a type each by their position", "make it an object with named fields")
    if not isinstance(items, dict):
        raise Refused(place, "it does not say what its elements are", "describe them in items")
    return items


def _text(name: str, merged: Schema, comment: str) -> Column:
    if str(merged.get("contentEncoding", "")).lower() == "base64":
        return Column(name, "BYTES", comment=comment)
    form = str(merged.get("format"))
    if form in _TIMES:
        return Column(name, _TIMES[form], comment=comment, time=TimeFormat.RFC_3339)
    return Column(name, "DATE" if form == "date" else "STRING", comment=comment)
