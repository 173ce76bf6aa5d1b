"""Routes of 文件上传下载操作接口 (``/file``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import HlinkError, InvalidInput, NoSuchAddress, NotFound, Problem
from app.hlink.jars import service as jars
from app.hlink.wire import Answer
from app.service import ReadSession, TheService
from app.uploads import Files

router = APIRouter(tags=["文件上传下载操作接口"])

_BY_CONTENTS = re.compile(r"(?:files/)?([0-9a-f]{64})")
"""What lists of uploaded files show as their path."""


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file; JSON when there is something wrong with the request.",
        "content": {"application/octet-stream": {}, "application/json": {"schema": Answer[None].model_json_schema()}},
    }
}


@router.get("/file/down", response_class=FileResponse, responses=_ANSWERS)
async def down(
    service: TheService,
    session: ReadSession,
    file_name: Annotated[str, Query(alias="fileName", description="what to call it; without filePath also which")] = "",
    file_path: Annotated[
        str, Query(alias="filePath", description="files/<SHA-256>, or id, resUname or resName of a jar")
    ] = "",
) -> FileResponse:
    """通用下载: an uploaded file. ``filePath`` is a name to look up and never a path on this machine."""
    wanted = file_path.strip() or file_name.strip()
    if not wanted:
        raise InvalidInput(Problem("no file is named", field="filePath", remedy="give a jar of /jars/list"))
    try:
        path, name = await _uploaded(session, Files.of(service.settings), wanted)
    except HlinkError as error:
        raise NoSuchAddress(error.message) from None
    return FileResponse(path, filename=file_name.strip() or name, media_type="application/octet-stream")


async def _uploaded(session: AsyncSession, files: Files, wanted: str) -> tuple[Path, str]:
    if by_contents := _BY_CONTENTS.fullmatch(wanted):
        path, name = files.path(by_contents[1]), by_contents[1]
    else:
        if "/" in wanted or "\\" in wanted:
            raise NotFound(f"{wanted!r} is not an uploaded file: give its id or its name")
        jar = await jars.find(session, wanted)
        path, name = files.path(jar.sha256, jar.name), jar.name
    if path.is_symlink():
        raise NotFound(f"{wanted!r} is not an uploaded file")
    return path, name
