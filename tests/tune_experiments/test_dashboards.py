"""The files for Prometheus and Grafana against the metrics that the code exports, and against Ray's own."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE
from ray._private.ray_constants import SESSION_LATEST as LINK
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from tune_experiments.exported_metrics import COMMON_LABELS, METRICS

FOLDER = Path(str(files("tune_experiments"))) / "dashboards"
BOARD: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
OURS = {metric.prometheus_name: metric for metric in METRICS}
GRAFANA_UNITS = {"ratio": "percentunit", "nats": "none", "": "none"}  # all other units are counts: short


def exprs(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def names(text: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", text))


def test_the_board_shows_every_metric_that_is_exported() -> None:
    assert {name for panel in PANELS for expr in exprs(panel) for name in names(expr)} >= OURS.keys()


def test_the_board_asks_for_nothing_that_neither_we_nor_ray_export() -> None:
    known = OURS.keys() | {f"ray_{name}" for name in METRICS_GAUGES}
    assert names(json.dumps(BOARD)) <= known


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_the_units_and_labels_of_its_metrics(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        (name,) = names(target["expr"])
        if name in OURS:
            labels = {*COMMON_LABELS, *OURS[name].labels}
            assert panel["fieldConfig"]["defaults"]["unit"] == GRAFANA_UNITS.get(OURS[name].unit, "short")
            assert '{experiment=~"$experiment"}' in target["expr"]
        else:
            labels = {"ip", "Component"}
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
        assert grouped <= labels
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= grouped


def test_panels_have_ids_places_and_queries_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken) and all(0 <= x < 24 for x, _ in taken)
    for panel in PANELS:
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_board_lets_one_choose_data_source_and_experiment() -> None:
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert variables.keys() == {"datasource", "experiment"}
    asked = re.fullmatch(r"label_values\((\w+), experiment\)", variables["experiment"]["query"]["query"])
    assert asked and asked[1] in OURS
    sources = {json.dumps(panel["datasource"]) for panel in PANELS}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}


def test_prometheus_reads_the_list_that_ray_writes() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    assert job["file_sd_configs"][0]["files"] == [f"/tmp/ray/{LINK}/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]
