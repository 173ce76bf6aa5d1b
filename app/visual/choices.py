"""The codes of the published document and their names: 实验管理, 任务管理, 数据集管理."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from app.visual.catalogue import Framework


class Pattern(IntEnum):
    """How an experiment is made (wire: ``expPattern``)."""

    DRAWN = 1
    AUTOMATIC = 9


class Learning(IntEnum):
    """What is learnt with (wire: ``learnType``)."""

    MACHINE = 1
    DEEP = 2


class Status(IntEnum):
    """Of jobs and experiments (wire: ``jobStatus``, ``expStatus``); nodes have all but the first."""

    PREPARING = 0
    WAITING = 1
    RUNNING = 2
    STOPPED = 3
    SUCCEEDED = 4
    FAILED = 5


class Purpose(IntEnum):
    """What a job is for (wire: ``jobPattern``)."""

    PREDICT = 0
    TRAIN = 1


class DataType(IntEnum):
    """What a data set has (wire: ``dataType``)."""

    IMAGES = 1
    CSV = 2


class DataSource(IntEnum):
    """Where a data set is from (wire: ``dataSource``)."""

    PRESET = 0
    OWN = 1


class DataStatus(IntEnum):
    """How far a data set is (wire: ``dataStatus``)."""

    NOT_UPLOADED = 1
    UPLOADING = 2
    UPLOADED = 3
    PROCESSING = 4


PATTERNS: Mapping[Pattern, str] = {Pattern.DRAWN: "拖拽式", Pattern.AUTOMATIC: "全自动"}
LEARNINGS: Mapping[Learning, str] = {Learning.MACHINE: "机器学习", Learning.DEEP: "深度学习"}
STATUSES: Mapping[Status, str] = {
    Status.PREPARING: "准备中",
    Status.WAITING: "等待中",
    Status.RUNNING: "运行中",
    Status.STOPPED: "已中止",
    Status.SUCCEEDED: "成功",
    Status.FAILED: "失败",
}
DATA_TYPES: Mapping[DataType, str] = {DataType.IMAGES: "图片", DataType.CSV: "CSV"}
DATA_SOURCES: Mapping[DataSource, str] = {DataSource.PRESET: "预置", DataSource.OWN: "自定义"}
DATA_STATUSES: Mapping[DataStatus, str] = {
    DataStatus.NOT_UPLOADED: "未上传",
    DataStatus.UPLOADING: "上传中",
    DataStatus.UPLOADED: "已上传",
    DataStatus.PROCESSING: "处理中",
}
FRAMEWORKS: Mapping[Framework, tuple[str, Learning]] = {
    Framework.SKLEARN: ("sklearn", Learning.MACHINE),
    Framework.TENSORFLOW: ("tensorflow", Learning.DEEP),
    Framework.MXNET: ("mxnet", Learning.DEEP),
    Framework.PYTORCH: ("pytorch", Learning.DEEP),
}
"""Framework -> its name, and what is learnt with it."""
