"""The operator's resources: they find the console, ask it for what it serves, and alert by the rules of infra/monitoring."""

import yaml

from groundswell.console.app import _ROUTES
from infra.monitoring.reference import FOLDER
from tests.infra.kubernetes.rendering import OVERLAYS, of_kind, pod_templates, render
from tests.infra.kubernetes.test_security import matches

PATHS = {route.path for route in _ROUTES}


def test_the_rules_are_those_of_the_alerts() -> None:
    (rule,) = of_kind(render("production"), "PrometheusRule").values()
    remedy = "rules.yaml says how its groups are taken from infra/monitoring/alerts.yaml"
    assert rule["spec"] == yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8")), remedy


def test_the_monitor_finds_the_console_s_service_and_its_port() -> None:
    (monitor,) = of_kind(render("production"), "ServiceMonitor").values()
    assert "namespaceSelector" not in monitor["spec"]  # its own
    services = of_kind(render("production"), "Service")
    found = [name for name, one in services.items() if matches(monitor["spec"]["selector"], one["metadata"]["labels"])]
    assert found == ["groundswell-console"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert [port["name"] for port in services["groundswell-console"]["spec"]["ports"]] == [endpoint["port"]]
    assert endpoint["path"] in PATHS
    assert endpoint["authorization"]["type"] == "Bearer"
    # The alert GroundswellUnreachable asks for the job of this name.
    assert services["groundswell-console"]["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "groundswell"
    assert 'up{job="groundswell"}' in (FOLDER / "alerts.yaml").read_text(encoding="utf-8")


def test_prometheus_reaches_the_console_and_nothing_else() -> None:
    resources = render("production")
    prometheus = {"kubernetes.io/metadata.name": "monitoring"}
    reached = set()
    for policy in of_kind(resources, "NetworkPolicy").values():
        for rule in policy["spec"].get("ingress", ()):
            if any(peer.get("namespaceSelector", {}).get("matchLabels") == prometheus for peer in rule["from"]):
                assert rule["ports"] == [{"protocol": "TCP", "port": 8080}]
                pods = pod_templates(resources).items()
                reached |= {name for name, pod in pods if matches(policy["spec"]["podSelector"], pod["metadata"]["labels"])}
    assert reached == {"groundswell-console"}


def test_kubelet_asks_the_console_for_what_it_serves() -> None:
    for overlay in OVERLAYS:
        (container,) = of_kind(render(overlay), "Deployment")["groundswell-console"]["spec"]["template"]["spec"]["containers"]
        probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert set(probes.values()) <= PATHS
        assert (probes["livenessProbe"], probes["readinessProbe"]) == ("/healthz", "/readyz")
