"""An OpenAPI 3 document, read as the published documents are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

Schema = Mapping[str, Any]


class Document:
    """An OpenAPI 3 document, read as the published one is written."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def operation(self, endpoint: str) -> Mapping[str, Any]:
        method, path = endpoint.split()
        for template, operations in self._content["paths"].items():
            if _shape(template) == _shape(path) and method.lower() in operations:
                found: Mapping[str, Any] = operations[method.lower()]
                return found
        pytest.fail(f"{endpoint} is not served")

    def resolved(self, schema: Schema) -> Schema:
        """The schema itself: references followed, "or null" taken away."""
        while True:
            if "$ref" in schema:
                name = schema["$ref"].rsplit("/", 1)[1]
                schema = self._content["components"]["schemas"][name]
                continue
            others = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
            if len(others) != 1:
                return schema
            schema = others[0]

    def type(self, schema: Schema) -> str:
        """The type in Swagger 2 notation; of a map it is that of its values, as the document writes it."""
        found = self.resolved(schema)
        if found.get("format") == "binary":
            return "file"
        if isinstance(found.get("additionalProperties"), dict):
            return self.type(found["additionalProperties"])
        name = str(found.get("type", "object"))
        return f"{name}({found['format']})" if "format" in found else name

    def fields(self, schema: Schema) -> Mapping[str, Schema]:
        """The fields of an object, of an array's items, or of a map's values."""
        found = self.resolved(schema)
        if "items" in found:
            return self.fields(found["items"])
        if isinstance(found.get("additionalProperties"), dict):
            return self.fields(found["additionalProperties"])
        properties: Mapping[str, Schema] = found.get("properties", {})
        return properties

    def differences(self, published: Mapping[str, Any], schema: Schema, where: str) -> Iterator[str]:
        """What of a published tree of fields the schema lacks or gives another type."""
        declared = self.fields(schema)
        for name, entry in published.items():
            wanted, below = entry if isinstance(entry, list) else (entry, {})
            if name not in declared:
                yield f"{where}.{name} is missing"
                continue
            found = self.type(declared[name])
            is_map = isinstance(self.resolved(declared[name]).get("additionalProperties"), dict)
            if found != wanted and not (is_map and wanted == "object"):
                yield f"{where}.{name} is {found}, published as {wanted}"
            yield from self.differences(below, declared[name], f"{where}.{name}")

    def form(self, operation: Mapping[str, Any]) -> Mapping[tuple[str, str], Any]:
        """The fields of a multipart body, as Swagger 2 had them: parameters in "formData"."""
        content = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data")
        if content is None:
            return {}
        required = self.resolved(content["schema"]).get("required", [])
        return {
            ("formData", name): {"schema": {"type": "file"} if _is_file(field) else field, "required": name in required}
            for name, field in self.fields(content["schema"]).items()
        }


def _is_file(field: Schema) -> bool:
    return field.get("format") == "binary" or field.get("contentMediaType") == "application/octet-stream"


def _shape(path: str) -> list[str]:
    return ["{}" if part.startswith("{") else part for part in path.rstrip("/").split("/")]
