"""Wire models of components of somebody's own (``/visualmodule/component/own``), all of them ours."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.visual.answers import Paging
from app.wire import DateTime, Int64, TextFilter, Wire

FILE = "file"
"""The form's field that carries the component's file."""


class OwnQuery(Paging):
    """Which components are listed."""

    name: TextFilter = Field(None, description="a part of the name")


class OwnEntry(Wire):
    """A component of somebody's own, in the version that is in use."""

    uuid: str = Field(description="by which nodes name it (cpntInfo.uuid)")
    name: str = Field(alias="clazzname")
    version: int
    file_name: str = Field(alias="fileName")
    size: Int64
    sha256: str = Field(description="of its file; what nodes bring out is kept by it")
    created_by: str = Field(alias="createBy")
    created_at: DateTime = Field(alias="createTime")


class OwnView(OwnEntry):
    """A component with what graphs need to know of it, as in 获取组件结构."""

    operator: dict[str, Any]
