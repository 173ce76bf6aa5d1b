"""Routes of 辅助文档接口 (``/doc``)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header

from app.hlink.docs import library
from app.hlink.wire import Answer

router = APIRouter(tags=["辅助文档接口"])


@router.get("/doc/get/{key}")
async def get(key: str, accept_language: Annotated[str | None, Header()] = None) -> Answer[str]:
    """The page of that key as Markdown, in Chinese or English by the header ``Accept-Language``."""
    return Answer(data=library.page(key, library.language_of(accept_language)))
