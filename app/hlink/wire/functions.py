"""Wire models of 自定义函数 (``/ds/udf``)."""

from __future__ import annotations

from pydantic import Field

from app.hlink.wire.envelope import Paging
from app.wire import OptionalDateTime, OptionalInt32, OptionalInt64, OptionalText, TextFilter, TimeFilter, Wire

FILE = "jarfile"
"""The field of a form that carries a function's file."""


class FunctionUpload(Wire):
    """自定义函数jar包上传 (``POST /ds/udf/upload``): beside the form with the file."""

    name: OptionalText = Field(None, alias="udfName", description="what SQL calls it")
    kind: OptionalText = Field(
        None,
        alias="udfType",
        description="SCALAR (published as SCALA), TABLE, AGGREGATE, TABLEAGG; PYTHON is ours. Empty: what the class is",
    )
    implementation: OptionalText = Field(
        None,
        alias="udfClass",
        description="the class, or module.function in Python; empty: the only function of the jar",
    )
    description: OptionalText = Field(None, alias="udfDesc")


class FunctionUpdate(Wire):
    """自定义函数更新 (``PUT /ds/udf/update``): a form with a file makes a new version, which is ours."""

    id: OptionalInt64 = None
    description: OptionalText = Field(None, alias="udfDesc")
    implementation: OptionalText = Field(
        None, alias="udfClass", description="of the new version; empty: the same as before"
    )


class Uploaded(Wire):
    """JarUploadResponseBody: the file's name and ``success``; the function's id and version are ours."""

    file_name: OptionalText = Field(None, alias="filename")
    status: OptionalText = None
    id: OptionalInt64 = None
    version: OptionalInt32 = None


class FunctionEntity(Wire):
    """自定义函数对象: a record of ``/ds/udf/list``; version and checksum are ours."""

    id: OptionalInt64 = None
    name: OptionalText = Field(None, alias="udfName")
    kind: OptionalText = Field(None, alias="udfType", description="SCALAR, TABLE, AGGREGATE, TABLEAGG, PYTHON")
    implementation: OptionalText = Field(None, alias="udfClass")
    description: OptionalText = Field(None, alias="udfDesc")
    path: OptionalText = Field(None, alias="udfPath", description="where the file is kept, in HLINK_HOME")
    file_name: OptionalText = Field(None, alias="jarName")
    state: OptionalInt32 = Field(None, alias="deleteFlag", description="0 in use")
    version: OptionalInt32 = None
    sha256: OptionalText = None
    created_by: OptionalText = Field(None, alias="createBy")
    created_at: OptionalDateTime = Field(None, alias="createTime")
    modified_by: OptionalText = Field(None, alias="modifyBy")
    modified_at: OptionalDateTime = Field(None, alias="modifyTime")


class FunctionVersionView(Wire):
    """One version of a function (ours)."""

    version: OptionalInt32 = None
    implementation: OptionalText = Field(None, alias="udfClass")
    file_name: OptionalText = Field(None, alias="jarName")
    sha256: OptionalText = None
    created_at: OptionalDateTime = Field(None, alias="createTime")


class FunctionView(FunctionEntity):
    """The answer of ``/ds/udf/get`` (ours): the function, its versions, newest first, and the jobs that call it."""

    versions: list[FunctionVersionView]
    jobs: list[str] = Field(description="names of jobs")


class FunctionQuery(Paging):
    """自定义函数分页列表 (``GET /ds/udf/list``): every field filters; text by substring."""

    name: TextFilter = Field(None, alias="udfName")
    implementation: TextFilter = Field(None, alias="udfClass")
    description: TextFilter = Field(None, alias="udfDesc")
    created_by: TextFilter = Field(None, alias="createBy")
    created_at: TimeFilter = Field(None, alias="createTime")
    modified_by: TextFilter = Field(None, alias="modifyBy")
    modified_at: TimeFilter = Field(None, alias="modifyTime")
