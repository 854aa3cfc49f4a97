"""Every overlay renders, and every resource is one that Kubernetes and the operator take."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.images.catalogue import ROOT
from tests.infra.kubernetes.check import main
from tests.infra.kubernetes.rendering import FOLDER, OVERLAYS, Resource, of_kind, pod_templates, render, title
from tests.infra.kubernetes.schemas import CUSTOM, ENUMERATIONS, RELEASES, definitions, faults, field_of

KINDS = {
    "ConfigMap", "CronJob", "Deployment", "Namespace", "NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget",
    "PrometheusRule", "Role", "RoleBinding", "Service", "ServiceAccount", "ServiceMonitor", "StatefulSet",
}  # fmt: skip


def console(resource: Resource) -> Any:
    return resource["spec"]["template"]["spec"]["containers"][0]


def misspell(resource: Resource) -> None:
    console(resource)["readinesProbe"] = console(resource).pop("readinessProbe")


def write_number_as_word(resource: Resource) -> None:
    resource["spec"]["replicas"] = "two"


def write_text_as_number(resource: Resource) -> None:
    console(resource)["env"][0] = {"name": "PORT", "value": 8080}


def name_unknown_value(resource: Resource) -> None:
    console(resource)["imagePullPolicy"] = "always"


def write_megabytes(resource: Resource) -> None:
    console(resource)["resources"]["limits"]["memory"] = "1GB"


def leave_out_selector(resource: Resource) -> None:
    del resource["spec"]["selector"]


def leave_value_out(resource: Resource) -> None:
    resource["spec"]["template"]["spec"]["volumes"] = None


def put_probe_beside_containers(resource: Resource) -> None:
    resource["spec"]["template"]["spec"]["livenessProbe"] = console(resource).pop("livenessProbe")


def name_old_version(resource: Resource) -> None:
    resource["apiVersion"] = "extensions/v1beta1"


def name_with_capitals(resource: Resource) -> None:
    resource["metadata"]["name"] = "Groundswell_Console"


def write_label_as_flag(resource: Resource) -> None:
    resource["metadata"]["labels"]["enabled"] = True


def scrape_every_moment(resource: Resource) -> None:
    resource["spec"]["endpoints"][0]["interval"] = "often"


def misspell_interval(resource: Resource) -> None:
    resource["spec"]["endpoints"][0]["scrapeInterval"] = "30s"


def leave_out_expression(resource: Resource) -> None:
    del resource["spec"]["groups"][0]["rules"][0]["expr"]


def permit_in_small_letters(resource: Resource) -> None:
    resource["spec"]["policyTypes"] = ["ingress"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_is_valid(overlay: str) -> None:
    resources = render(overlay)
    assert len(resources) > 30
    assert [f"{title(one)}: {fault}" for one in resources for release in RELEASES for fault in faults(one, release)] == []


def test_the_overlays_have_what_is_promised() -> None:
    assert OVERLAYS == ("dev", "production")
    kinds = {overlay: {one["kind"] for one in render(overlay)} for overlay in OVERLAYS}
    assert kinds["production"] == KINDS
    assert kinds["dev"] == KINDS - {"PrometheusRule", "ServiceMonitor"}
    for overlay in OVERLAYS:
        names = [(one["kind"], one["metadata"]["name"]) for one in render(overlay)]
        assert len(names) == len(set(names))
        assert {"groundswell-console", "groundswell-mlflow"} <= of_kind(render(overlay), "Deployment").keys()
        assert {"groundswell-checkpoint", "groundswell-expiry"} <= of_kind(render(overlay), "CronJob").keys()
        labels = {title(one): one["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") for one in render(overlay)}
        assert {name for name, part in labels.items() if part != "groundswell"} == set()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_in_the_namespace_of_the_overlay(overlay: str) -> None:
    (namespace,) = of_kind(render(overlay), "Namespace")
    assert {one["metadata"].get("namespace") for one in render(overlay) if one["kind"] != "Namespace"} == {namespace}
    assert namespace == {"dev": "groundswell-dev", "production": "groundswell"}[overlay]


@pytest.mark.parametrize(
    ("kind", "name", "change", "told"),
    [
        ("Deployment", "groundswell-console", misspell, "'readinesProbe' was unexpected"),
        ("Deployment", "groundswell-console", put_probe_beside_containers, "'livenessProbe' was unexpected"),
        ("Deployment", "groundswell-console", write_number_as_word, "spec.replicas: 'two' is not of type 'integer'"),
        ("Deployment", "groundswell-console", write_text_as_number, "8080 is not of type 'string'"),
        ("Deployment", "groundswell-console", name_unknown_value, "'always' is not one of"),
        ("Deployment", "groundswell-console", write_megabytes, "memory: '1GB' does not match"),
        ("Deployment", "groundswell-console", leave_out_selector, "'selector' is a required property"),
        ("Deployment", "groundswell-console", leave_value_out, "spec.template.spec.volumes: has no value"),
        ("Deployment", "groundswell-console", name_old_version, "has no Deployment of extensions/v1beta1"),
        ("Deployment", "groundswell-console", name_with_capitals, "'Groundswell_Console' is no name"),
        ("Deployment", "groundswell-console", write_label_as_flag, "True is not"),
        ("NetworkPolicy", "groundswell-dns", permit_in_small_letters, "'ingress' is not one of"),
        ("ServiceMonitor", "groundswell", scrape_every_moment, "interval: 'often' does not match"),
        ("ServiceMonitor", "groundswell", misspell_interval, "'scrapeInterval' was unexpected"),
        ("PrometheusRule", "groundswell", leave_out_expression, "'expr' is a required property"),
    ],
)
def test_a_fault_is_found(kind: str, name: str, change: Callable[[Resource], None], told: str) -> None:
    resource = copy.deepcopy(of_kind(render("production"), kind)[name])
    change(resource)
    for release in RELEASES:
        assert [fault for fault in faults(resource, release) if told in fault], faults(resource, release)


@pytest.mark.parametrize("release", RELEASES)
def test_the_values_that_are_put_in_are_those_that_the_reference_names(release: str) -> None:
    types = definitions(release)
    undescribed = {"core.v1.PersistentVolumeClaimSpec.accessModes"}  # its description is a link
    for name, values in ENUMERATIONS.items():
        schema = field_of(types, name)
        assert "enum" not in schema, name
        if name not in undescribed:
            assert [value for value in values if value not in schema["description"]] == [], name


def test_a_resource_of_nothing_is_a_fault() -> None:
    assert faults({"metadata": {"name": "a"}}, RELEASES[0]) == ["kind and apiVersion are to be said"]
    (version,) = CUSTOM
    assert "has no ServiceMonitors" in faults({"apiVersion": version, "kind": "ServiceMonitors"}, RELEASES[0])[0]


def write_overlay(folder: Path, patch: str, *, base: str = "dev") -> Path:
    """Writes an overlay of somebody's own, on one of ours."""
    folder.mkdir()
    resource = os.path.relpath(FOLDER / "overlays" / base, folder.resolve())  # kustomize takes no absolute path
    document = {"resources": [resource], "patches": [{"target": {"kind": "Service"}, "patch": patch}]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return folder


def test_the_check_names_each_fault_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = write_overlay(tmp_path / "sound", '[{"op": "add", "path": "/spec/type", "value": "ClusterIP"}]')
    assert main([str(sound)]) == 0
    assert capsys.readouterr().out == f"sound: {len(render('dev'))} resources, 0 faults (Kubernetes 1.30 and 1.37)\n"
    broken = write_overlay(tmp_path / "broken", '[{"op": "add", "path": "/spec/typ", "value": "ClusterIP"}]')
    assert main([str(sound), str(broken)]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == len(of_kind(render("dev"), "Service"))
    assert all(line.startswith("error: broken: Service groundswell-") and "'typ' was unexpected" in line for line in lines)
    assert f"broken: {len(render('dev'))} resources, {len(lines)} faults" in out


def test_what_kustomize_refuses_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = write_overlay(tmp_path / "refused", '[{"op": "replace", "path": "/spec/nowhere/at/all", "value": 1}]')
    assert main([str(refused)]) == 1
    assert "error: refused: error" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 1


def test_make_kubernetes_is_that_check() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "\nkubernetes: $(STAMP)  ## " in makefile
    assert "$(BIN)/python -m tests.infra.kubernetes.check $(OVERLAYS)" in makefile


def test_pods_are_those_of_the_overlays() -> None:
    common = {"groundswell-admin", "groundswell-checkpoint", "groundswell-console", "groundswell-expiry", "groundswell-mlflow"}
    common |= {"groundswell-mlflow-upgrade", "groundswell-verification"}
    assert pod_templates(render("production")).keys() == common
    assert pod_templates(render("dev")).keys() == common | {"groundswell-database", "groundswell-objects"}
