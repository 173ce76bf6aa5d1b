"""Routes of 字典 (``/dict``)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.hlink.dictionaries.catalogue import dictionaries, dictionary
from app.hlink.wire import Answer, DictionaryItem
from app.ids import new_id

router = APIRouter(tags=["字典"])


@router.get("/dict/getSnowflakeId")
async def snowflake_id() -> Answer[str]:
    """获取虚拟ID: a new id for a column's ``virtualId``, as text because that is text."""
    return Answer(data=str(new_id()))


@router.get("/dict/list")
async def every() -> Answer[dict[str, list[DictionaryItem]]]:
    """字典列表 接口: all dictionaries, by type."""
    return Answer(data={name: _items(name) for name in dictionaries()})


@router.get("/dict/list/{dictType}")
async def one(name: Annotated[str, Path(alias="dictType")]) -> Answer[list[DictionaryItem]]:
    """根据字典类型获取字典集合 接口: one dictionary, in the order in which to show it."""
    return Answer(data=_items(name))


def _items(name: str) -> list[DictionaryItem]:
    """The dictionary's choices under this one of its names; ids are those of places in the data file."""
    found = dictionary(name)
    number = list(dictionaries()).index(name) + 1
    return [
        DictionaryItem(
            id=number * 100 + position,
            type=name,
            name=found.name,
            label=choice.label,
            value=choice.value,
            position=position,
            is_default="Y" if choice.default else "N",
            status="1" if choice.off else "0",
            remark=choice.remark,
        )
        for position, choice in enumerate(found.items, start=1)
    ]
