"""Wire models of notifications: ours, the published API has none."""

from __future__ import annotations

from pydantic import Field

from app.hlink.wire.envelope import Paging
from app.wire import Int32, Int64, OptionalDateTime, OptionalInt64, OptionalText, Text, TextFilter, Wire


class TargetChange(Wire):
    """The body of ``POST /notifications`` and ``PUT /notifications/{id}``; what is not given stays."""

    name: OptionalText = None
    url: OptionalText = Field(
        None, description="as Apprise takes it: json://host:port/path, mailto://..., dingtalk://token, feishu://token"
    )
    events: list[Text] | None = Field(
        None,
        max_length=20,
        description="FAILED, LOST, FLAPPING, LAGGING, CHECKPOINTS_FAILING, RECOVERED; empty: all of them",
    )
    jobs: list[Int64] | None = Field(None, alias="jobIds", max_length=500, description="empty: all jobs")
    enabled: bool | None = None


class TargetView(Wire):
    """Somebody who is told when something is wrong with a job."""

    id: Int64
    name: str
    url: str = Field(description="without its secrets; sent back, it means: as it was")
    events: list[str]
    jobs: list[Int64] = Field(alias="jobIds")
    enabled: bool
    created_by: OptionalText = Field(None, alias="createBy")
    created_at: OptionalDateTime = Field(None, alias="createTime")
    modified_by: OptionalText = Field(None, alias="modifyBy")
    modified_at: OptionalDateTime = Field(None, alias="modifyTime")


class NotificationView(Wire):
    """Something that was sent to a target, or is to be."""

    id: Int64
    target_id: Int64 = Field(alias="targetId")
    target: str = Field(description="the target's name")
    event: str
    jobs: list[Int64] = Field(alias="jobIds")
    title: str
    text: str
    state: str = Field(description="PENDING, SENT, GIVEN_UP")
    attempts: Int32
    reason: OptionalText = Field(None, description="why it could not be sent")
    created_at: OptionalDateTime = Field(None, alias="createTime")
    next_at: OptionalDateTime = Field(None, alias="nextTime", description="when it is tried again")
    ended_at: OptionalDateTime = Field(None, alias="endTime")


class NotificationQuery(Paging):
    """Filters of ``GET /notifications/sent``."""

    state: TextFilter = Field(None, description="PENDING, SENT, GIVEN_UP")
    target_id: OptionalInt64 = Field(None, alias="targetId")
