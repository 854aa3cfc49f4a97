"""Whatever a resource names is there: in the rendering, or among what docs/KUBERNETES.md tells to make before."""

import re
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.images.catalogue import ROOT
from tests.infra.kubernetes.rendering import OVERLAYS, Resource, of_kind, pod_templates, render
from tests.infra.kubernetes.test_security import containers, matches

OVERLAY_OF = {"every cluster": set(OVERLAYS), "dev": {"dev"}, "production": {"production"}}
Key = tuple[str, str, str]
"""Kind, name and key: ``("Secret", "groundswell-database", "url")``."""


def documented(overlay: str) -> dict[Key, bool]:
    """Returns what docs/KUBERNETES.md tells to make before an overlay is applied, and whether it has to be there."""
    page = (ROOT / "docs" / "KUBERNETES.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (Secret|ConfigMap) `([^`]+)` \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    assert rows
    found = {}
    for kind, name, keys, where in rows:
        if overlay in OVERLAY_OF[where.partition(",")[0].strip()]:
            for key in re.findall(r"`([^`]+)`", keys):
                found[kind, name, key] = "if you like" not in where
    return found


def variables(container: dict[str, Any]) -> Iterator[tuple[Key, bool]]:
    """Returns the keys that a container's variables come from, and whether they have to be there."""
    for one in container.get("env", ()):
        for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
            if (reference := one.get("valueFrom", {}).get(field)) is not None:
                yield (kind, reference["name"], reference["key"]), not reference.get("optional", False)


def files(spec: dict[str, Any]) -> Iterator[tuple[Key, bool]]:
    """Returns the keys that are files of a pod."""
    for volume in spec["volumes"]:
        assert "secret" not in volume  # variables alone: a file of a Secret is never its reader's alone
        if "configMap" in volume:
            key = {"groundswell-database-ca": "ca.crt", "groundswell-database-access": "pg_hba.conf"}[volume["configMap"]["name"]]
            yield ("ConfigMap", volume["configMap"]["name"], key), True


def named(overlay: str) -> dict[Key, bool]:
    """Returns the keys of Secrets and ConfigMaps that an overlay names and does not have."""
    resources = render(overlay)
    found: dict[Key, bool] = {}
    for template in pod_templates(resources).values():
        found.update(files(template["spec"]))
        for container in containers(template["spec"]):
            found.update(variables(container))
    for monitor in of_kind(resources, "ServiceMonitor").values():
        for endpoint in monitor["spec"]["endpoints"]:
            reference = endpoint["authorization"]["credentials"]
            found["Secret", reference["name"], reference["key"]] = True
    there = {("ConfigMap", name, key) for name, one in of_kind(resources, "ConfigMap").items() for key in one["data"]}
    return {key: needed for key, needed in found.items() if key not in there}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_and_configmaps_are_there_or_are_told_to_be_made(overlay: str) -> None:
    assert named(overlay) == documented(overlay)
    configs = of_kind(render(overlay), "ConfigMap")
    for template in pod_templates(render(overlay)).values():
        for container in containers(template["spec"]):
            for source in container.get("envFrom", ()):
                assert source.keys() == {"configMapRef"}  # a whole Secret would give more than is used
                assert source["configMapRef"]["name"] in configs


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_accounts_claims_and_roles_are_there(overlay: str) -> None:
    resources = render(overlay)
    accounts, claims = of_kind(resources, "ServiceAccount"), of_kind(resources, "PersistentVolumeClaim")
    used = set()
    for name, template in pod_templates(resources).items():
        assert template["spec"]["serviceAccountName"] in accounts, name
        used.add(template["spec"]["serviceAccountName"])
        for volume in template["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, name
        own = {
            one["metadata"]["name"]
            for one in of_kind(resources, "StatefulSet").get(name, {"spec": {}})["spec"].get("volumeClaimTemplates", ())
        }
        volumes = {volume["name"] for volume in template["spec"]["volumes"]} | own
        for container in containers(template["spec"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, name
    assert used == accounts.keys()
    for binding in of_kind(resources, "RoleBinding").values():
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["roleRef"]["name"] in of_kind(resources, "Role")
    exec_into = [rule for rule in of_kind(resources, "Role")["groundswell-admin"]["rules"] if rule["resources"] == ["pods/exec"]]
    assert [rule["resourceNames"] for rule in exec_into] == [["groundswell-admin-0"]]
    assert "groundswell-admin" in of_kind(resources, "StatefulSet")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_select_one_kind_of_pod_at_a_port_that_it_has(overlay: str) -> None:
    resources = render(overlay)
    templates = pod_templates(resources)
    for name, service in of_kind(resources, "Service").items():
        chosen = [
            pod
            for pod, one in templates.items()
            if matches({"matchLabels": service["spec"]["selector"]}, one["metadata"]["labels"])
        ]
        assert chosen == [name]
        ports = {port["name"] for one in templates[name]["spec"]["containers"] for port in one.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"].get("ports", ())} <= ports
    for name, stateful in of_kind(resources, "StatefulSet").items():
        assert of_kind(resources, "Service")[stateful["spec"]["serviceName"]]["spec"]["clusterIP"] == "None", name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_addresses_in_settings_are_those_of_services(overlay: str) -> None:
    resources = render(overlay)
    services = {
        name: {port["port"] for port in one["spec"].get("ports", ())} for name, one in of_kind(resources, "Service").items()
    }
    urls = [
        value for one in of_kind(resources, "ConfigMap").values() for value in one["data"].values() if "://groundswell-" in value
    ]
    inside = [urlsplit(url) for url in urls if url.startswith("http")]
    assert {url.hostname for url in inside} == {"groundswell-mlflow"} | ({"groundswell-objects"} if overlay == "dev" else set())
    for url in inside:
        assert url.port in services[str(url.hostname)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_makes_pods_selects_its_own(overlay: str) -> None:
    for name, resource in of_kind(render(overlay), "Deployment", "StatefulSet").items():
        own = resource["spec"]["template"]["metadata"]["labels"]
        assert matches(resource["spec"]["selector"], own), name
        others = [one["metadata"]["labels"] for key, one in pod_templates(render(overlay)).items() if key != name]
        assert not any(matches(resource["spec"]["selector"], labels) for labels in others), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_has_replicas_survives_a_drained_node(overlay: str) -> None:
    resources = render(overlay)
    budgets = [one["spec"] for one in of_kind(resources, "PodDisruptionBudget").values()]
    replicated = []
    for name, resource in of_kind(resources, "Deployment", "StatefulSet").items():
        spec = resource["spec"]
        if spec["replicas"] > 1:
            replicated.append(name)
            own = [one for one in budgets if matches(one["selector"], spec["template"]["metadata"]["labels"])]
            assert len(own) == 1, name
            assert 0 < own[0]["maxUnavailable"] < spec["replicas"]  # a node can be drained, and somebody goes on serving
            (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
            assert spread["topologyKey"] == "kubernetes.io/hostname"
            assert matches(spread["labelSelector"], spec["template"]["metadata"]["labels"])
    assert replicated == (["groundswell-console", "groundswell-mlflow"] if overlay == "production" else [])


def modes(claim: Resource) -> list[str]:
    found: list[str] = claim["spec"]["accessModes"]
    return found


def test_a_volume_of_one_node_is_for_pods_of_one_node() -> None:
    production = of_kind(render("production"), "PersistentVolumeClaim")
    assert {name: modes(claim) for name, claim in production.items()} == {"groundswell-home": ["ReadWriteMany"]}
    dev = of_kind(render("dev"), "PersistentVolumeClaim")
    assert {name: modes(claim) for name, claim in dev.items()} == {
        "groundswell-home": ["ReadWriteOnce"],
        "groundswell-objects": ["ReadWriteOnce"],
    }
    # The old pod lets go of the volume before the new one begins.
    assert of_kind(render("dev"), "Deployment")["groundswell-objects"]["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_serves_is_asked_whether_it_lives_and_whether_it_is_ready(overlay: str) -> None:
    for name, resource in of_kind(render(overlay), "Deployment", "StatefulSet").items():
        if name == "groundswell-admin":
            continue  # a shell
        (container,) = resource["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("livenessProbe", "readinessProbe"):
            asked = container[probe]
            at = {asked[kind]["port"] for kind in ("httpGet", "tcpSocket") if kind in asked}
            assert at <= ports, name
            assert at or asked["exec"]["command"], name
        grace = resource["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        assert container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) + 5 < grace


def mlflow_security() -> ModuleType:
    """Returns the module by which MLflow's server judges names, without the whole server, whose import takes twenty seconds."""
    import mlflow

    path = Path(mlflow.__file__).parent / "server" / "security_utils.py"
    spec = spec_from_file_location("mlflow_security_utils", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mlflow_answers_to_the_names_by_which_it_is_reached() -> None:
    security = mlflow_security()
    for overlay in OVERLAYS:
        resources = render(overlay)
        (namespace,) = of_kind(resources, "Namespace")
        (config,) = [
            one["data"] for name, one in of_kind(resources, "ConfigMap").items() if name.startswith("groundswell-mlflow-")
        ]
        allowed = config["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
        whole = f"groundswell-mlflow.{namespace}.svc"
        names = ("groundswell-mlflow", whole, f"{whole}.cluster.local")
        assert all(security.is_allowed_host_header(allowed, f"{name}:5000") for name in names)
        assert security.is_allowed_host_header(allowed, "localhost:5000")  # kubectl port-forward
        assert not security.is_allowed_host_header(allowed, "attacker.example")
        assert not security.is_allowed_host_header(allowed, "groundswell-mlflow.attacker.example:5000")
        probes = of_kind(resources, "Deployment")["groundswell-mlflow"]["spec"]["template"]["spec"]["containers"][0]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert probes[probe]["httpGet"]["path"] in security.HEALTH_ENDPOINTS  # which kubelet asks by the pod's address
