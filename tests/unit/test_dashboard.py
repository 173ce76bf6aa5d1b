"""The dashboard and what feeds it: every expression names metrics that /metrics has, with labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.metrics import JOB_GAUGES, REGISTRY
from app.settings import Settings

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/hlink.json").read_text())
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())


def expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield variable["name"], variable["query"]["query"]


def metrics() -> set[str]:
    """The names that a scrape has, histograms' and counters' samples among them."""
    create_app(Settings())  # all modules that define metrics
    families = text_string_to_metric_families(generate_latest(REGISTRY).decode())
    names = {family.name for family in families}
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    families = text_string_to_metric_families(generate_latest(REGISTRY).decode())
    return names | {f"{family.name}{ending}" for family in families for ending in endings.get(family.type, ())}


def test_every_expression_names_metrics_that_there_are() -> None:
    known = metrics()
    used = {name for _, expression in expressions() for name in re.findall(r"hlink_\w+", expression)}
    assert used - known == set()
    assert set(JOB_GAUGES) - used == {"hlink_job_checkpoints_completed"}, "shown by the dashboard"


@pytest.mark.parametrize(("panel", "expression"), list(expressions()))
def test_an_expression_asks_for_labels_that_its_metric_has(panel: str, expression: str) -> None:
    for name, matchers in re.findall(r"(hlink_job_\w+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)=~?\"", matchers))
        assert labels <= set(JOB_GAUGES[name][1]), panel
    for name, label in re.findall(r"label_values\((\w+), (\w+)\)", expression):
        assert label in JOB_GAUGES[name][1]
    assert expression.count("(") == expression.count(")")


def test_panels_have_names_places_and_ids_of_their_own() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_prometheus_and_grafana_are_set_up_for_each_other_and_for_the_service() -> None:
    scraped = yaml.safe_load((DOCKER / "prometheus/prometheus.yaml").read_text())["scrape_configs"]
    targets = {target for job in scraped for config in job["static_configs"] for target in config["targets"]}
    assert targets == {"hlink:8086", "jobmanager:9249", "taskmanager:9249"}
    assert {target.partition(":")[0] for target in targets} <= set(COMPOSE["services"])
    (secret,) = COMPOSE["services"]["prometheus"]["secrets"]
    assert scraped[0]["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert COMPOSE["secrets"][secret] == {"environment": "HLINK_API_TOKEN"}

    provisioning = DOCKER / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/hlink.yaml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in COMPOSE["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert all((DOCKER / source).exists() for source in mounts if source.startswith("./"))
