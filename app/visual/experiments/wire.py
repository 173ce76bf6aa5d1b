"""The published models of 实验管理, 框架管理 and 组件管理."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.settings import Settings
from app.visual.answers import Paging
from app.visual.catalogue import Framework
from app.visual.choices import FRAMEWORKS, Learning, Pattern, Status
from app.visual.experiments.models import LONGEST_DESCRIPTION, LONGEST_NAME
from app.visual.frameworks import lacking
from app.wire import DateTime, Int64, OptionalInt32, TextFilter, Wire, storable

# The bounds first: they hold for what is left when the blanks around it are gone.
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_NAME), AfterValidator(storable)
]
Description = Annotated[str, StringConstraints(max_length=LONGEST_DESCRIPTION), AfterValidator(storable)]


def _port_types(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("empty", "names no port type; give one or several, with commas between them")
    return text


PortTypes = Annotated[str, AfterValidator(_port_types)]


class PatternChoice(Wire):
    """获取实验模式列表."""

    code: Pattern = Field(alias="expPattern")
    name: str = Field(alias="patternName")


class StatusChoice(Wire):
    """获取实验状态列表."""

    code: Status = Field(alias="expStatus")
    name: str = Field(alias="statusName")


class LearningChoice(Wire):
    """获取学习类型列表."""

    code: Learning = Field(alias="learnType")
    name: str = Field(alias="typeName")


class FrameworkChoice(Wire):
    """获取框架列表. ``available`` and ``remedy`` are ours: whether graphs of it can be run here, and if not, why."""

    code: Framework = Field(alias="frameId")
    name: str = Field(alias="frameName")
    available: bool = True
    remedy: str | None = None


class ExperimentQuery(Paging):
    """获取实验列表: the filters."""

    name: TextFilter = Field(None, alias="expName")
    pattern: OptionalInt32 = Field(None, alias="expPattern")
    status: OptionalInt32 = Field(None, alias="expStatus")


class ExperimentAddition(Wire):
    """添加实验."""

    name: Name = Field(alias="expName")
    pattern: Pattern = Field(alias="expPattern")
    learning: Learning = Field(alias="learnType")
    framework: Framework = Field(alias="frameId")
    description: Description = ""


class ExperimentChange(Wire):
    """编辑实验: what is left out stays."""

    id: Int64 = Field(alias="expId")
    name: Name = Field(alias="expName")
    description: Description | None = None


class ExperimentId(Wire):
    """The answer to 添加实验."""

    id: Int64 = Field(alias="expId")


class ExperimentEntry(Wire):
    """A row of 获取实验列表."""

    id: Int64 = Field(alias="expId")
    name: str = Field(alias="expName")
    pattern: Pattern = Field(alias="expPattern")
    status: Status = Field(alias="expStatus")
    description: str
    created_at: DateTime = Field(alias="createTime")


class ExperimentView(ExperimentEntry):
    """获取实验详情."""

    learning: Learning = Field(alias="learnType")
    framework: Framework = Field(alias="frameId")
    modified_at: DateTime = Field(alias="updateTime")


async def framework_choices(settings: Settings, learning: int | None) -> list[FrameworkChoice]:
    """The frameworks, or those of one way to learn."""
    wanted = {code: name for code, (name, kind) in FRAMEWORKS.items() if learning is None or kind == learning}
    lacks = {code: await lacking(settings, code) for code in wanted}
    return [
        FrameworkChoice(code=code, name=name, available=lacks[code] is None, remedy=lacks[code])
        for code, name in wanted.items()
    ]
