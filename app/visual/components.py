"""Components in their published form."""

from __future__ import annotations

from typing import Any

from app.visual.catalogue import Component, Parameter


def as_published(component: Component) -> dict[str, Any]:
    """An operator of 获取组件结构; what it has in common with ``cpntInfo`` is the same there."""
    return {
        "uuid": component.uuid,
        "clazzname": component.name,
        "desc": component.label.zh,
        "descEn": component.label.en,
        "ports": {
            "in": [{"name": port.name, "dtype": port.type, "optional": port.optional} for port in component.inputs],
            "out": [{"name": port.name, "dtype": port.type} for port in component.outputs],
        },
        "params": [_parameter(one) for one in component.parameters],
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "hint": parameter.hint,
        "desc": parameter.label.zh,
        "descEn": parameter.label.en,
        "ptype": parameter.type,
        "default": parameter.default,
        "is_required": parameter.required,
        "front": parameter.control,
        "choice": parameter.choices,
        "item_type": parameter.item_type,
        "min_val": parameter.minimum,
        "max_val": parameter.maximum,
    }
