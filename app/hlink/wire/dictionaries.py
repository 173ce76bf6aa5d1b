"""Wire models of 字典 (``/dict``)."""

from __future__ import annotations

from pydantic import Field

from app.wire import OptionalDateTime, OptionalInt32, OptionalInt64, OptionalText, Wire


class DictionaryItem(Wire):
    """字典表: one choice of a dictionary. The texts for styling are published, and empty here."""

    id: OptionalInt64 = None
    type: OptionalText = Field(None, alias="dictType")
    name: OptionalText = Field(None, alias="dictName", description="what the dictionary is about")
    label: OptionalText = Field(None, alias="dictLabel")
    value: OptionalText = Field(None, alias="dictValue")
    position: OptionalInt32 = Field(None, alias="dictSort", description="from 1")
    is_default: OptionalText = Field(None, alias="isDefault", description="Y or N")
    status: OptionalText = Field(None, description="0 in use, 1 listed but disabled")
    remark: OptionalText = None
    css_class: OptionalText = Field("", alias="cssClass")
    list_class: OptionalText = Field("", alias="listClass")
    created_by: OptionalText = Field(None, alias="createBy")
    created_at: OptionalDateTime = Field(None, alias="createTime")
    modified_by: OptionalText = Field(None, alias="modifyBy")
    modified_at: OptionalDateTime = Field(None, alias="modifyTime")
