"""Routes of 实验管理, 框架管理 and 组件管理."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from app.errors import InvalidInput, Problem
from app.service import ReadSession, TheService, WriteSession
from app.visual.answers import Answer, Listed, Page, measured
from app.visual.catalogue import Framework, PortType, attributes
from app.visual.choices import LEARNINGS, PATTERNS, STATUSES
from app.visual.components import as_published
from app.visual.experiments import service as experiments
from app.visual.experiments.service import Found
from app.visual.experiments.wire import (
    ExperimentAddition,
    ExperimentChange,
    ExperimentEntry,
    ExperimentId,
    ExperimentQuery,
    ExperimentView,
    FrameworkChoice,
    LearningChoice,
    PatternChoice,
    PortTypes,
    StatusChoice,
    framework_choices,
)
from app.visual.own import service as own
from app.visual.runs import status_of
from app.wire import Int64, OptionalInt32

router = APIRouter(prefix="/visualmodule", dependencies=[measured])

TheFramework = Annotated[Framework, Query(alias="frameId", description="1 sklearn, 2 tensorflow, 3 mxnet, 4 pytorch")]
ExperimentPath = Annotated[Int64, Path(alias="expId")]


@router.get("/component/structure", tags=["组件管理"])
async def structure(session: ReadSession, framework: TheFramework) -> Answer[list[dict[str, Any]]]:
    """获取组件结构: the components by stage and group, with all that the page needs to draw them."""
    known = await own.known(session, framework)
    return Answer(
        obj=[
            {
                "name": stage.name,
                "desc": stage.label.zh,
                "descEn": stage.label.en,
                "children": [
                    {
                        "name": group.name,
                        "desc": group.label.zh,
                        "descEn": group.label.en,
                        "operators": [
                            as_published(one)
                            for one in known.components
                            if (one.stage, one.group) == (stage.name, group.name)
                        ],
                    }
                    for group in stage.groups
                ],
            }
            for stage in known.stages
        ]
    )


@router.get("/component/attribute", tags=["组件管理"])
async def attribute(
    framework: TheFramework,
    port_types: Annotated[PortTypes, Query(alias="portTypes", description="with commas between them")],
) -> Answer[list[dict[str, Any]]]:
    """获取组件属性: what can be done with what comes out of ports of these types."""
    known = attributes()
    found = []
    for name in dict.fromkeys(one.strip() for one in port_types.split(",") if one.strip()):
        if name not in list(PortType):
            raise InvalidInput(
                Problem(f"'{name[:100]}' is no type of ports", field="portTypes", remedy=f"use {', '.join(PortType)}")
            )
        can = [{"name": one.name, "describe": one.label.zh, "describeEn": one.label.en} for one in known.get(name, ())]
        found.append({"portType": name, "attribute": can})
    return Answer(obj=found)


@router.get("/framework/list", tags=["框架管理"])
async def frameworks(
    service: TheService,
    learning: Annotated[OptionalInt32, Query(alias="learnType")] = None,
) -> Answer[Listed[FrameworkChoice]]:
    """获取框架列表."""
    return Answer(obj=Listed(data=await framework_choices(service.settings, learning)))


@router.get("/experiment/pattern/list", tags=["实验管理"])
async def patterns() -> Answer[Listed[PatternChoice]]:
    """获取实验模式列表."""
    return Answer(obj=Listed(data=[PatternChoice(code=code, name=name) for code, name in PATTERNS.items()]))


@router.get("/experiment/status/list", tags=["实验管理"])
async def statuses() -> Answer[Listed[StatusChoice]]:
    """获取实验状态列表."""
    return Answer(obj=Listed(data=[StatusChoice(code=code, name=name) for code, name in STATUSES.items()]))


@router.get("/experiment/learnType/list", tags=["实验管理"])
async def learnings() -> Answer[Listed[LearningChoice]]:
    """获取学习类型列表."""
    return Answer(obj=Listed(data=[LearningChoice(code=code, name=name) for code, name in LEARNINGS.items()]))


@router.get("/experiment/list", tags=["实验管理"])
async def page(session: ReadSession, query: Annotated[ExperimentQuery, Query()]) -> Answer[Page[ExperimentEntry]]:
    """获取实验列表: newest first; an experiment's status is that of the newest run of its jobs."""
    rows, total = await experiments.page(session, query)
    entries = [ExperimentEntry(**_entry(found)) for found in rows]
    return Answer(obj=Page(data=entries, page=query.number, limit=query.size, total=total))


@router.get("/experiment/{expId}", tags=["实验管理"])
async def get(session: ReadSession, experiment_id: ExperimentPath) -> Answer[ExperimentView]:
    """获取实验详情."""
    found = await experiments.find_with_run(session, experiment_id)
    return Answer(
        obj=ExperimentView(
            **_entry(found),
            learning=found.experiment.learning,
            framework=found.experiment.framework,
            modified_at=found.experiment.modify_time,
        )
    )


@router.post("/experiment", tags=["实验管理"])
async def add(session: WriteSession, wanted: ExperimentAddition) -> Answer[ExperimentId]:
    """添加实验."""
    return Answer(obj=ExperimentId(id=(await experiments.add(session, wanted)).id))


@router.put("/experiment", tags=["实验管理"])
async def change(session: WriteSession, wanted: ExperimentChange) -> Answer[ExperimentId]:
    """编辑实验."""
    return Answer(obj=ExperimentId(id=(await experiments.change(session, wanted)).id))


@router.delete("/experiment/{expId}", tags=["实验管理"])
async def remove(session: WriteSession, experiment_id: ExperimentPath) -> Answer[ExperimentId]:
    """删除实验: with its jobs; refused while one of them runs."""
    await experiments.remove(session, experiment_id)
    return Answer(obj=ExperimentId(id=experiment_id))


def _entry(found: Found) -> dict[str, Any]:
    experiment = found.experiment
    return {
        "id": experiment.id,
        "name": experiment.name,
        "pattern": experiment.pattern,
        "status": status_of(found.run),
        "description": experiment.description,
        "created_at": experiment.create_time,
    }
