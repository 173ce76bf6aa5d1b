"""Wire models of 数据集管理 (``/visualmodule/dataset``). Fields of ours stand beside the published ones."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.visual.answers import Page, Paging
from app.visual.choices import DataSource, DataStatus, DataType
from app.visual.datasets.csv_format import MOST_COLUMNS
from app.wire import Int32, Int64, OptionalDateTime, OptionalInt32, OptionalInt64, OptionalText, Text, TextFilter, Wire

FILE = "file"
"""The form's field that carries a fragment."""
MOST_FRAGMENTS = 10_000


def _number(value: Any) -> Any:
    """Numbers may come as text, also where they are codes."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,18}\s*", value) else value


def _md5(text: str) -> str:
    text = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise PydanticCustomError("md5", "is no MD5: send 32 hexadecimal digits")
    return text


def _base_name(text: str) -> str:
    """The name without the folders that some browsers send."""
    base = re.split(r"[/\\]", text)[-1].strip()
    return "".join(one for one in base if one.isprintable())[-255:]


Md5 = Annotated[str, AfterValidator(_md5)]
FileName = Annotated[Text, AfterValidator(_base_name), StringConstraints(min_length=1)]


class NewDataSet(Wire):
    """添加数据集."""

    type: Annotated[DataType, BeforeValidator(_number)] = Field(alias="dataType", description="1 images, 2 CSV")
    source: Annotated[DataSource, BeforeValidator(_number)] = Field(
        alias="dataSource", description="0 preset, 1 somebody's own"
    )
    name: Annotated[OptionalText, Field(max_length=200)] = Field(
        None, alias="dataName", description="ours; the file's name without it"
    )
    preset: OptionalText = Field(None, description="ours; which preset: iris without it")


class NewCopy(Wire):
    """A data set of rows of a stream job's table (ours)."""

    name: Annotated[OptionalText, Field(max_length=200)] = Field(
        None, alias="dataName", description="the table's name without it"
    )
    table_id: Int64 = Field(
        alias="tableId", description="of /ds/list: a table of PostgreSQL or a topic of Kafka, whatever its role"
    )
    from_time: OptionalDateTime = Field(
        None, alias="fromTime", description="ISO 8601 (UTC without an offset) or epoch milliseconds; inclusive"
    )
    to_time: OptionalDateTime = Field(
        None, alias="toTime", description="exclusive; without it, what there is when the copy begins"
    )
    time_column: OptionalText = Field(
        None,
        alias="timeColumn",
        description="of a database's table: the column that the times are of; needed where it has several",
    )
    limit: OptionalInt64 = Field(None, ge=1, description="the most rows, in no order")
    columns: list[Text] | None = Field(
        None,
        max_length=MOST_COLUMNS,
        description="all without any; a field of a nested column is column.field",
    )


class CopyEntry(Wire):
    """What a data set is, or was, copied from (ours)."""

    table_id: Int64 = Field(alias="tableId")
    table: Text = Field(alias="tableName")
    from_time: OptionalDateTime = Field(None, alias="fromTime")
    to_time: OptionalDateTime = Field(None, alias="toTime")
    time_column: OptionalText = Field(None, alias="timeColumn")
    limit: OptionalInt64 = None
    columns: list[Text] = Field(default_factory=list)


class CopyingEntry(CopyEntry):
    """A copy under way (ours)."""

    rows: Int64 = Field(0, description="that were copied by now")
    size_text: Text = Field("0 B", alias="dataSize")
    share: float | None = Field(None, description="of all there is to copy, from 0 to 1; null: nobody knows")


class DataSetId(Wire):
    """The id of a data set."""

    id: Int64 = Field(alias="dataId")


class Clearing(DataSetId):
    """清空数据集."""

    upload_only: bool = Field(
        False, alias="uploadOnly", description="ours; give up what comes in, and keep the whole file that is there"
    )


class ColumnEntry(Wire):
    """A column; its type is told from all rows: int, float, bool, date, text."""

    name: Text
    type: Text
    exception: OptionalText = Field(
        None, description="of a text whose first values are of another type: the first row whose value is not"
    )


class UploadEntry(Wire):
    """A file that comes in (ours)."""

    file_name: Text = Field(alias="fileName")
    md5: Text = Field(alias="fileMd5")
    received: Int32 = Field(description="fragments that are there")
    count: Int32 = Field(alias="fragmentCount")


class DataSetEntry(Wire):
    """获取数据集详情, as far as it is published; what lists have."""

    id: Int64 = Field(alias="dataId")
    size_text: Text = Field(alias="dataSize", description="such as 12.3 MB")
    name: Text = Field(alias="dataName")
    status: DataStatus = Field(alias="dataStatus", description="1 not uploaded, 2 uploading, 3 uploaded, 4 processing")
    type: DataType = Field(alias="dataType", description="1 images, 2 CSV")
    source: DataSource = Field(alias="dataSource", description="0 preset, 1 somebody's own")
    preset: OptionalText = Field(None, description="ours")
    target: OptionalText = Field(None, description="ours; of a preset: the column that models of it are to predict")
    file_name: OptionalText = Field(None, alias="fileName", description="ours; of the whole file")
    rows: OptionalInt64 = Field(None, description="ours; of a table, without its header")
    created_at: OptionalDateTime = Field(None, alias="createTime", description="ours")


class Reading(Wire):
    """How a table is read (ours): told from the file."""

    columns: list[ColumnEntry] = Field(default_factory=list)
    encoding: OptionalText = None
    delimiter: OptionalText = None
    header: bool | None = Field(None, description="whether the first row has the columns' names")
    problems: list[Text] = Field(default_factory=list, description="what is wrong with the file, or with an upload")
    problem_count: Int32 = Field(0, alias="problemCount", description="all there are; problems has the first of them")


class DataSetDetail(DataSetEntry, Reading):
    """获取数据集详情."""

    md5: OptionalText = Field(None, alias="fileMd5", description="ours; of the whole file")
    classes: dict[str, int] | None = Field(None, description="ours; of a set of images: class -> images")
    upload: UploadEntry | None = None
    copying: CopyingEntry | None = Field(None, alias="copy")
    origin: CopyEntry | None = Field(None, description="ours; what the whole file was copied from")


class DataSetQuery(Paging):
    """The list of data sets (ours)."""

    name: TextFilter = Field(None, alias="dataName")
    type: Annotated[OptionalInt32, Field(alias="dataType")] = None
    source: Annotated[OptionalInt32, Field(alias="dataSource")] = None


class FragmentForm(Wire):
    """上传数据集文件: what stands in the form beside the fragment itself."""

    data_id: Int64 = Field(alias="dataId")
    file_md5: Md5 = Field(alias="fileMd5")
    file_name: FileName = Field(alias="fileName")
    fragment_md5: Md5 = Field(alias="fragmentMd5")
    fragment_name: FileName = Field(alias="fragmentName")
    fragment_index: Int32 = Field(alias="fragmentIndex", ge=0, description="from 0")
    fragment_count: Int32 = Field(alias="fragmentCount", ge=1, le=MOST_FRAGMENTS)

    @model_validator(mode="after")
    def _index_below_count(self) -> FragmentForm:
        if self.fragment_index >= self.fragment_count:
            raise PydanticCustomError(
                "index",
                "fragmentIndex is {index}, and there are {count} fragments: they are counted from 0",
                {"index": self.fragment_index, "count": self.fragment_count},
            )
        return self


class FragmentQuery(Wire):
    """获取数据集文件下一个分片下标."""

    data_id: Int64 = Field(alias="dataId")
    file_md5: Md5 = Field(alias="fileMd5")


class NextIndex(Wire):
    """获取数据集文件下一个分片下标."""

    next_index: Int32 = Field(alias="nextIndex", description="0 not uploaded, -1 whole, else the first that is missing")


class Taken(Wire):
    """上传数据集文件 (ours): how far the data set is."""

    id: Int64 = Field(alias="dataId")
    status: DataStatus = Field(alias="dataStatus")


class CsvQuery(Paging):
    """查看CSV文件内容."""

    data_id: Int64 = Field(alias="dataId")


class CsvPage(Page[list[str]], Reading):
    """查看CSV文件内容: rows of cells, without the header; ``columns`` has that."""


class StatusChoice(Wire):
    """获取数据状态列表."""

    code: DataStatus = Field(alias="dataStatus")
    name: Text = Field(alias="statusName")


class TypeChoice(Wire):
    """获取数据类型列表."""

    code: DataType = Field(alias="dataType")
    name: Text = Field(alias="typeName")


class SourceChoice(Wire):
    """获取数据来源列表."""

    code: DataSource = Field(alias="dataSource")
    name: Text = Field(alias="sourceName")
