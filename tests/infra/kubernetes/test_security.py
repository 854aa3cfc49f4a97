"""What is deployed is confined: pods by the profile `restricted`, people by RBAC, traffic by policies; secrets are references."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from infra.images.catalogue import distribution_version
from tests.infra.kubernetes.rendering import OVERLAYS, Resource, of_kind, pod_templates, render

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY|AUTH_KEY|CREDENTIAL|DATABASE_URL|STORE_URI)")
PODS = [(overlay, name) for overlay in OVERLAYS for name in pod_templates(render(overlay))]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", ()), *spec["containers"], *spec.get("ephemeralContainers", ())]


def beyond_restricted(spec: dict[str, Any]) -> Iterator[str]:
    """Says in what a pod is not as the Pod Security Standards' profile `restricted` wants it, control by control.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    pod = spec.get("securityContext", {})
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    if any(sysctl["name"] not in SYSCTLS for sysctl in pod.get("sysctls", ())):
        yield "sysctls"
    yield from (f"volume {volume['name']}" for volume in spec.get("volumes", ()) if not volume.keys() - {"name"} <= VOLUMES)
    for container in containers(spec):
        own = container.get("securityContext", {})
        controls = {
            **on_itself(own),
            **from_pod({**pod, **own}),
            "runAsUser": 0 not in (own.get("runAsUser"), pod.get("runAsUser")),
        }
        controls["hostPort"] = not any(port.get("hostPort") for port in container.get("ports", ()))
        yield from (f"{container['name']}: {control}" for control, kept in controls.items() if not kept)


def on_itself(own: dict[str, Any]) -> dict[str, bool]:
    """Returns whether a container keeps the controls that it has to keep itself."""
    capabilities = own.get("capabilities", {})
    return {
        "privileged": not own.get("privileged"),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "capabilities": "ALL" in capabilities.get("drop", ()) and set(capabilities.get("add", ())) <= {"NET_BIND_SERVICE"},
        "procMount": own.get("procMount", "Default") == "Default",
    }


def from_pod(both: dict[str, Any]) -> dict[str, bool]:
    """Returns whether the controls are kept that a container may have from its pod."""
    confined = {"RuntimeDefault", "Localhost"}
    return {
        "runAsNonRoot": both.get("runAsNonRoot") is True,
        "seccompProfile": both.get("seccompProfile", {}).get("type") in confined,
        "appArmorProfile": both.get("appArmorProfile", {}).get("type", "RuntimeDefault") in confined,
        "seLinuxOptions": not both.get("seLinuxOptions"),
        "windowsOptions": not both.get("windowsOptions", {}).get("hostProcess"),
    }


def spec_of(overlay: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = pod_templates(render(overlay))[name]["spec"]
    return spec


@pytest.mark.parametrize(("overlay", "name"), PODS)
def test_a_pod_is_within_the_profile_restricted(overlay: str, name: str) -> None:
    assert list(beyond_restricted(spec_of(overlay, name))) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_enforces_the_profile(overlay: str) -> None:
    (namespace,) = of_kind(render(overlay), "Namespace").values()
    labels = namespace["metadata"]["labels"]
    modes = ("enforce", "audit", "warn")
    assert {mode: labels[f"pod-security.kubernetes.io/{mode}"] for mode in modes} == dict.fromkeys(modes, "restricted")


def test_a_pod_beyond_the_profile_is_seen() -> None:
    loose = {
        "hostNetwork": True,
        "volumes": [{"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}}],
        "containers": [
            {"name": "a", "securityContext": {"privileged": True, "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}
        ],
    }
    assert list(beyond_restricted(loose)) == [
        "hostNetwork",
        "volume docker",
        "a: privileged",
        "a: allowPrivilegeEscalation",
        "a: capabilities",
        "a: runAsNonRoot",
        "a: seccompProfile",
    ]


@pytest.mark.parametrize(("overlay", "name"), PODS)
def test_a_pod_writes_to_its_volumes_alone_is_bounded_and_has_no_token(overlay: str, name: str) -> None:
    spec = spec_of(overlay, name)
    accounts = of_kind(render(overlay), "ServiceAccount")
    assert spec["automountServiceAccountToken"] is False
    assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # variables such as GROUNDSWELL_MLFLOW_PORT would be read as settings
    for container in containers(spec):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
    assert [
        volume["name"] for volume in spec["volumes"] if volume.get("emptyDir", {"sizeLimit": "1Gi"}).keys() != {"sizeLimit"}
    ] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_what_is_rendered(overlay: str) -> None:
    resources = render(overlay)
    assert of_kind(resources, "Secret") == {}
    for name, config in of_kind(resources, "ConfigMap").items():
        assert [key for key in config["data"] if SECRET_NAME.search(key)] == [], name
        assert not re.search(r"://[^/\s:]+:[^@/\s]+@", str(config["data"])), name
    for name, template in pod_templates(resources).items():
        for container in containers(template["spec"]):
            for variable in container.get("env", ()):
                if SECRET_NAME.search(variable["name"]) and not variable["name"].endswith("_FILE"):
                    assert variable["valueFrom"].keys() == {"secretKeyRef"}, (name, variable["name"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_roles_are_of_the_namespace_and_grant_what_is_named_alone(overlay: str) -> None:
    resources = render(overlay)
    assert of_kind(resources, "ClusterRole", "ClusterRoleBinding") == {}
    for name, role in of_kind(resources, "Role").items():
        for rule in role["rules"]:
            granted = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert "*" not in granted, name
            assert not granted & {"secrets", "escalate", "bind", "impersonate", "serviceaccounts/token"}, name
            assert rule["apiGroups"] != ["rbac.authorization.k8s.io"], name
            if not set(rule["verbs"]) <= {"get", "list", "watch"}:  # whoever may change something, may change that one thing
                assert rule["resourceNames"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_of_ours_has_a_role(overlay: str) -> None:
    resources = render(overlay)
    (namespace,) = of_kind(resources, "Namespace")
    subjects = [subject for binding in of_kind(resources, "RoleBinding").values() for subject in binding["subjects"]]
    accounts = {(one["namespace"], one["name"]) for one in subjects if one["kind"] == "ServiceAccount"}
    assert accounts == ({("monitoring", "prometheus-k8s")} if overlay == "production" else set())
    assert {one["name"] for one in subjects if one["kind"] == "Group"} == {"groundswell-admins", "groundswell-viewers"}
    assert namespace not in {place for place, _ in accounts}


def test_images_in_production_are_named_by_digest_and_those_of_dev_are_those_that_make_builds() -> None:
    for template in pod_templates(render("production")).values():
        for container in containers(template["spec"]):
            assert re.fullmatch(
                r"registry\.example/groundswell/(platform|mlflow)-python@sha256:([0-9a-f])\2{63}", container["image"]
            )
    names = {one["image"] for template in pod_templates(render("dev")).values() for one in containers(template["spec"])}
    version = distribution_version()
    made = ("database", "mlflow", "objects", "platform")
    assert names == {f"localhost/groundswell/{name}-python:{version}" for name in made}


def matches(selector: Resource | None, labels: dict[str, str]) -> bool:
    """Whether a label selector matches; the policies here have ``matchLabels`` alone."""
    if selector is None:
        return False
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


class Network:
    """What the policies of an overlay let through, as the API's reference says it."""

    def __init__(self, overlay: str) -> None:
        resources = render(overlay)
        self.policies = of_kind(resources, "NetworkPolicy")
        self.pods = {name: one["metadata"]["labels"] for name, one in pod_templates(resources).items()}

    def selected(self, name: str, direction: str) -> list[dict[str, Any]]:
        """Returns the rules that are for a pod's traffic in a direction, ``ingress`` or ``egress``; fails where none is."""
        specs = [one["spec"] for one in self.policies.values() if matches(one["spec"]["podSelector"], self.pods[name])]
        specs = [spec for spec in specs if direction.capitalize() in spec["policyTypes"]]
        assert specs, f"{name}: everything"
        return [rule for spec in specs for rule in spec.get(direction, ())]

    def lets(self, source: str, target: str, port: int) -> bool:
        """Whether one pod reaches another at a TCP port."""

        def fits(rule: dict[str, Any], peers: str, other: str) -> bool:
            peer = any(matches(one.get("podSelector"), self.pods[other]) for one in rule[peers] if "namespaceSelector" not in one)
            return peer and {"protocol": "TCP", "port": port} in rule["ports"]

        out = any(fits(rule, "to", target) for rule in self.selected(source, "egress"))
        return out and any(fits(rule, "from", source) for rule in self.selected(target, "ingress"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_goes_in_or_out_of_a_pod_but_what_a_policy_names(overlay: str) -> None:
    network = Network(overlay)
    assert network.policies["groundswell-default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in network.pods:
        for rule in (*network.selected(name, "ingress"), *network.selected(name, "egress")):
            assert rule["ports"], name
            assert rule.get("from") or rule.get("to"), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_policy_selects_pods_that_there_are_at_ports_that_they_have(overlay: str) -> None:
    network = Network(overlay)
    templates = pod_templates(render(overlay))
    for name, policy in network.policies.items():
        chosen = [pod for pod, labels in network.pods.items() if matches(policy["spec"]["podSelector"], labels)]
        assert chosen, name
        for rule in policy["spec"].get("ingress", ()):
            for pod in chosen:
                open_ports = {
                    port["containerPort"] for one in templates[pod]["spec"]["containers"] for port in one.get("ports", ())
                }
                assert {port["port"] for port in rule["ports"]} <= open_ports, name
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())):
            for peer in (*rule.get("from", ()), *rule.get("to", ())):
                if peer.keys() == {"podSelector"}:
                    assert any(matches(peer["podSelector"], labels) for labels in network.pods.values()), name


def test_pods_reach_what_they_use_and_nothing_else() -> None:
    network = Network("dev")
    ports = {"groundswell-console": 8080, "groundswell-database": 5432, "groundswell-mlflow": 5000, "groundswell-objects": 9000}
    reached = {
        source: {target for target, port in ports.items() if network.lets(source, target, port)} for source in network.pods
    }
    backends = {"groundswell-database", "groundswell-objects"}
    assert reached == {
        "groundswell-admin": {*backends, "groundswell-mlflow"},
        "groundswell-checkpoint": backends,
        "groundswell-console": backends,
        "groundswell-database": set(),
        "groundswell-expiry": backends,
        "groundswell-mlflow": backends,
        "groundswell-mlflow-upgrade": {"groundswell-database"},
        "groundswell-objects": set(),
        "groundswell-verification": backends,
    }
    assert not any(network.lets(source, "groundswell-admin", port) for source in network.pods for port in ports.values())
    assert not network.lets("groundswell-console", "groundswell-database", 22)


def test_webhooks_do_not_reach_the_cluster_or_the_cloud_s_own() -> None:
    policy = of_kind(render("production"), "NetworkPolicy")["groundswell-webhooks-clients"]
    ((peer,),) = [rule["to"] for rule in policy["spec"]["egress"]]
    assert peer["ipBlock"]["cidr"] == "0.0.0.0/0"
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"}
    assert private <= set(peer["ipBlock"]["except"])
    clients = {name for name, labels in Network("production").pods.items() if matches(policy["spec"]["podSelector"], labels)}
    assert clients == {"groundswell-admin", "groundswell-expiry"}
