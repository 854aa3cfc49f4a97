"""The alert rules and the dashboard: Prometheus's own tools take them, and they name metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.monitoring.catalogue import METRICS
from infra.monitoring.reference import FOLDER, alert_rules
from tests.infra.monitoring.dashboard_page import PAGE, queries_of

DASHBOARD = FOLDER / "grafana" / "dashboards" / "groundswell.json"
NAMED = {
    "AuditAppendFailing",
    "TreeHeadStale",
    "ApprovalWaiting",
    "ChampionExpiring",
    "UnsignedModelServed",
    "ValidationFailing",
    "RunFailing",
    "TrainingStalled",
    "GpuIdle",
}
_KNOWN = {name for one in METRICS for name in one.series} | {"up", "ALERTS"}
_NAME = re.compile(r"\b(groundswell_\w+|up|ALERTS)\b")


def panels() -> list[tuple[str, str]]:
    """Returns title and expression of each query of the dashboard."""
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [(panel["title"], target["expr"]) for panel in document["panels"] for target in panel.get("targets", ())]


def promtool(*arguments: object) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    ended = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_promtool_takes_the_configuration_and_the_rules() -> None:
    assert f"{len(alert_rules())} rules found" in promtool("check", "config", FOLDER / "prometheus.yaml")


def test_each_alert_fires_when_it_should_and_is_silent_next_to_that() -> None:
    assert "SUCCESS" in promtool("test", "rules", FOLDER / "alerts_test.yaml")


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    rules = {rule["alert"]: rule for rule in alert_rules()}
    assert rules.keys() >= NAMED
    tested = (FOLDER / "alerts_test.yaml").read_text(encoding="utf-8")
    for name, rule in rules.items():
        assert len(re.findall(rf"\b{name}\b", tested)) >= 2, name
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "action"}


@pytest.mark.parametrize(("where", "expression"), [*((rule["alert"], rule["expr"]) for rule in alert_rules()), *panels()])
def test_expressions_name_metrics_that_are_exported(where: str, expression: str) -> None:
    names = set(_NAME.findall(expression))
    assert names, where
    assert names <= _KNOWN, where


def test_every_metric_that_people_look_at_is_on_the_dashboard_or_in_an_alert() -> None:
    used = {name for _, expression in panels() for name in _NAME.findall(expression)}
    used |= {name for rule in alert_rules() for name in _NAME.findall(rule["expr"])}
    beside = {
        *("groundswell_info", "groundswell_artifacts_tampered_total", "groundswell_lineage_imports_total"),
        *("groundswell_ledger_checkpoint_timestamp_seconds", "groundswell_champion_since_timestamp_seconds"),
        *("groundswell_running_step_started_timestamp_seconds", "groundswell_step_ended_timestamp_seconds"),
        "groundswell_served_model_checked_timestamp_seconds",
    }
    assert {one.name for one in METRICS if not used & set(one.series)} == beside


def test_panels_have_places_of_their_own_and_the_provisioned_source() -> None:
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", ()))
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    provisioning = Path(FOLDER / "grafana" / "provisioning")
    [source] = yaml.safe_load((provisioning / "datasources" / "groundswell.yaml").read_text())["datasources"]
    assert (source["type"], source["uid"]) == ("prometheus", "groundswell")
    [provider] = yaml.safe_load((provisioning / "dashboards" / "groundswell.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards/groundswell"


def test_the_page_of_the_dashboards_answers_lists_its_queries() -> None:
    assert queries_of(PAGE.read_text(encoding="utf-8")) == panels()
