"""Wire models of 文件管理 (``/jars``)."""

from __future__ import annotations

from pydantic import Field

from app.hlink.wire.envelope import CustomParameters, Paging
from app.wire import OptionalDateTime, OptionalInt32, OptionalInt64, OptionalText, TextFilter, TimeFilter, Wire

FILE = "jarfile"
"""The form's field that carries the jar."""


class JarUpload(Wire):
    """jar包上传: the query fields that go with the form."""

    cluster_id: OptionalInt64 = Field(None, alias="clusterId", description="the cluster that gets it at once")
    entry_class: OptionalText = Field(None, alias="entryClass", description="the manifest's without it")
    kind: OptionalInt32 = Field(None, alias="resType", description="0 jar")
    size_text: OptionalText = Field(None, alias="resSizeStr", description="read and used for nothing")
    status: OptionalInt32 = Field(None, description="read and used for nothing")


class JarUploaded(Wire):
    """JarUploadResponseBody; ``filename`` is what ``useJar`` of a job takes, and so is ``id`` (ours)."""

    file_name: OptionalText = Field(None, alias="filename")
    status: OptionalText = None
    id: OptionalInt64 = None


class JarEntity(Wire):
    """jar包资源."""

    id: OptionalInt64 = None
    cluster_id: OptionalInt64 = Field(None, alias="clusterId")
    entry_class: OptionalText = Field(None, alias="entryClass")
    name: OptionalText = Field(None, alias="resName", description="as it was uploaded")
    unique_name: OptionalText = Field(None, alias="resUname")
    size: OptionalInt64 = Field(None, alias="resSize", description="bytes")
    size_text: OptionalText = Field(None, alias="resSizeStr")
    kind: OptionalInt32 = Field(None, alias="resType", description="0 jar")
    status: OptionalInt32 = Field(None, description="1 on its cluster, 0 only here: a run brings it there")
    created_by: OptionalText = Field(None, alias="createBy")
    created_at: OptionalDateTime = Field(None, alias="createTime")
    modified_by: OptionalText = Field(None, alias="modifyBy")
    modified_at: OptionalDateTime = Field(None, alias="modifyTime")


class JarPageQuery(Paging):
    """jar包列表分页查询: text by substring, the rest by equality."""

    cluster_id: OptionalInt64 = Field(None, alias="clusterId")
    entry_class: TextFilter = Field(None, alias="entryClass")
    name: TextFilter = Field(None, alias="resName")
    unique_name: TextFilter = Field(None, alias="resUname")
    kind: OptionalInt32 = Field(None, alias="resType")
    created_by: TextFilter = Field(None, alias="createBy")
    created_at: TimeFilter = Field(None, alias="createTime")
    modified_by: TextFilter = Field(None, alias="modifyBy")
    modified_at: TimeFilter = Field(None, alias="modifyTime")


class JarQuery(JarPageQuery):
    """jar包列表获取(无分页): ``curPage`` and ``pageSize`` are published with it and used for nothing."""

    id: OptionalInt64 = None
    file_size: OptionalInt64 = Field(None, alias="resSize")
    parameters: CustomParameters = Field(None, alias="parms")
