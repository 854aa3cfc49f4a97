"""A real Prometheus, Debian's, scrapes a console and evaluates every rule and every query of the dashboard."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from governance.access_token import Scope
from infra.access_tokens import create_token
from infra.monitoring.reference import FOLDER, alert_rules
from tests.console_server import serving
from tests.infra.monitoring.dashboard_page import PAGE, page_of
from tests.infra.monitoring.test_alerts import panels
from tests.infra.promotion.world import World
from tests.monitored_world import fill_monitored

_TIMEOUT_S = 90.0
Ask = Callable[..., Any]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str, str], Ask]]:
    """Starts a Prometheus with the project's configuration, faster and on another port; returns what asks its API."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed (apt-get install prometheus)")
    started = []

    def start(url: str, token: str) -> Ask:
        document = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
        document["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
        document["rule_files"] = [str(FOLDER / name) for name in document["rule_files"]]
        [scrape] = document["scrape_configs"]
        scrape["static_configs"] = [{"targets": [url.removeprefix("http://")]}]
        (tmp_path / "token").write_text(token)
        scrape["authorization"] = {"credentials_file": str(tmp_path / "token")}
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(document))
        port = free_port()
        command = [
            program,
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

        def ask(path: str, **query: str) -> Any:
            address = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(address, timeout=10) as answer:
                document = json.load(answer)
            assert document["status"] == "success"
            return document["data"]

        return ask

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=20)


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            if found := what():
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, "it has not come about in time"
        time.sleep(0.2)


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
def test_prometheus_scrapes_a_console_and_every_rule_and_query_is_evaluated(
    world: World, prometheus: Callable[[str, str], Ask]
) -> None:
    fill_monitored(world)
    admin = world.people["Admin"]
    _, token = create_token(world.db, identity_id=admin, scopes={Scope.READ}, days=1, actor=admin)
    with serving(world.home, takes_token=True) as console:
        ask = prometheus(console.url, token)
        wait_for(lambda: [one for one in ask("targets")["activeTargets"] if one["health"] == "up"])
        wait_for(lambda: ask("query", query="groundswell_served_model_verified == 1")["result"])

        def rules() -> Any:
            found = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
            return found if all(rule["health"] != "unknown" for rule in found) else None

        found = wait_for(rules)
        assert sorted(rule["name"] for rule in found) == sorted(rule["alert"] for rule in alert_rules())
        assert [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"] == []
        firing = wait_for(lambda: {one["labels"]["alertname"] for one in ask("alerts")["alerts"] if one["state"] == "firing"})
        assert {"RunFailing", "ValidationFailing"} <= firing
        assert not firing & {"UnsignedModelServed", "GroundswellUnreachable", "GpuIdle", "AuditAppendFailing"}
        wait_for(lambda: len(ask("query", query="up[30s]")["result"][0]["values"]) >= 3)
        answers = [
            (title, expression, ask("query", query=expression.replace("$pipeline", ".*"))["result"])
            for title, expression in panels()
        ]
        assert [title for title, _, result in answers if not result] == []
        if os.environ.get("GROUNDSWELL_UPDATE_DASHBOARD"):
            PAGE.write_text(page_of(answers), encoding="utf-8")
    wait_for(lambda: ask("query", query='up{job="groundswell"} == 0')["result"])
