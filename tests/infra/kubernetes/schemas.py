"""Holds resources against what Kubernetes and the Prometheus operator publish: the API's schemas, and the operator's CRDs.

The API's come release by release from the package kubernetes-validate, in which a field that is not in a schema is a fault; the
CRDs' from cloudcoil-models-prometheus-operator, which is made from them. The published schemas of the API give values no
bounds, so what the API's reference says of them is put in here: `ENUMERATIONS`, `PATTERNS`.
"""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from tests.infra.kubernetes.rendering import Resource as Manifest

RELEASES = ("1.30.0", "1.37.0")
"""The oldest release that docs/KUBERNETES.md promises, and the newest."""

CUSTOM = {"monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1"}
"""The groups of CRDs, and the modules that hold them."""

_PROTOCOL = ("TCP", "UDP", "SCTP")
ENUMERATIONS: dict[str, tuple[str, ...]] = {
    "apps.v1.DeploymentStrategy.type": ("Recreate", "RollingUpdate"),
    "apps.v1.StatefulSetSpec.podManagementPolicy": ("OrderedReady", "Parallel"),
    "batch.v1.CronJobSpec.concurrencyPolicy": ("Allow", "Forbid", "Replace"),
    "core.v1.Container.imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "core.v1.ContainerPort.protocol": _PROTOCOL,
    "core.v1.PersistentVolumeClaimSpec.accessModes": ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"),
    "core.v1.PodSecurityContext.fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "core.v1.PodSpec.dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "core.v1.PodSpec.restartPolicy": ("Always", "Never", "OnFailure"),
    "core.v1.SeccompProfile.type": ("Localhost", "RuntimeDefault", "Unconfined"),
    "core.v1.ServicePort.protocol": _PROTOCOL,
    "core.v1.ServiceSpec.type": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    "core.v1.TopologySpreadConstraint.whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    "networking.v1.NetworkPolicyPort.protocol": _PROTOCOL,
    "networking.v1.NetworkPolicySpec.policyTypes": ("Egress", "Ingress"),
    "policy.v1.PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy": ("AlwaysAllow", "IfHealthyBudget"),
    "rbac.v1.Subject.kind": ("Group", "ServiceAccount", "User"),
}
"""The values of fields, and of the items of lists, by the type and the field that the API's reference names."""

_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_LABEL = r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?"
PATTERNS = {
    "apimachinery.pkg.api.resource.Quantity": r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
    "core.v1.Container.name": rf"^{_DNS_LABEL}$",
    "core.v1.ContainerPort.name": r"^(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$",
    "core.v1.EnvVar.name": r"^[-._a-zA-Z][-._a-zA-Z0-9]*$",
    "core.v1.ServicePort.name": rf"^{_DNS_LABEL}$",
    "core.v1.Volume.name": rf"^{_DNS_LABEL}$",
}
"""What the text of a field, or of a type, looks like."""

_NAME = re.compile(rf"^(?=.{{1,253}}$){_DNS_LABEL}(\.{_DNS_LABEL})*$")
_MAX_NAME = {"CronJob": 52, "Service": 63, "Namespace": 63}  # a job's name is a CronJob's and eleven characters more
_LABEL_KEY = re.compile(rf"^({_DNS_LABEL}(\.{_DNS_LABEL})*/)?(?=.){_LABEL}$")
_LABEL_VALUE = re.compile(f"^{_LABEL}$")


def faults(resource: Manifest, release: str) -> list[str]:
    """Returns what is wrong with a resource, a line each, with the path to it.

    Args:
        resource: The resource.
        release: The release of Kubernetes, of `RELEASES`.
    """
    kind, version = resource.get("kind"), resource.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str):
        return ["kind and apiVersion are to be said"]
    validator = _custom(version, kind) if version in CUSTOM else _builtin(version, kind, release)
    if validator is None:
        return [f"Kubernetes {release} has no {kind} of {version}"]
    found = [f"{_path(error.absolute_path)}: {error.message}" for error in validator.iter_errors(resource)]
    return sorted({*found, *_nulls(resource, ()), *_names(resource)})


def definitions(release: str) -> dict[str, Any]:
    """Returns the types of a release as they are published, by name."""
    schemas: dict[str, Any] = schema_contents(f"kubernetes-json-schema/v{release}-local-strict/_definitions.json", release)
    return schemas


def field_of(types: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the schema of a field of `ENUMERATIONS` or `PATTERNS`, or of a type.

    Raises:
        KeyError: The release has no such type, or it no such field.
    """
    owner, _, field = name.rpartition(".")
    known = types["$defs"]
    whole = f"io.k8s.{name}" if name.startswith("apimachinery.") else f"io.k8s.api.{name}"
    schema: dict[str, Any] = known[whole] if whole in known else known[f"io.k8s.api.{owner}"]["properties"][field]
    return schema


@cache
def _types(release: str) -> Resource:
    types = definitions(release)
    for name, values in ENUMERATIONS.items():
        schema = field_of(types, name)
        (schema.get("items") or schema)["enum"] = list(values)
    for name, pattern in PATTERNS.items():
        field_of(types, name)["pattern"] = pattern
    return Resource.from_contents(types)


@cache
def _builtin(version: str, kind: str, release: str) -> jsonschema.Draft202012Validator | None:
    group, _, number = version.rpartition("/")
    # as the package names its files: deployment-apps-v1.json, role-rbac-v1.json, service-v1.json
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], number) if part)
    try:
        schema = schema_contents(f"kubernetes-json-schema/v{release}-local-strict/{name}.json", release)
    except FileNotFoundError:
        return None
    return jsonschema.Draft202012Validator(schema, registry=_types(release) @ Registry())


@cache
def _custom(version: str, kind: str) -> jsonschema.Draft202012Validator | None:
    model = getattr(importlib.import_module(CUSTOM[version]), kind, None)
    if model is None:
        return None
    return jsonschema.Draft202012Validator(_strict(model.model_json_schema(by_alias=True)))


def _strict(schema: Any) -> Any:
    """Returns a schema of a pydantic model in which other fields are faults, and null is no value."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    choices = [one for one in strict.pop("anyOf", ()) if one != {"type": "null"}]
    strict |= choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {}
    if "properties" in strict and strict.get("type") == "object":
        strict["additionalProperties"] = False
    if isinstance(strict.get("pattern"), str):  # Go takes flags anywhere
        strict["pattern"] = strict["pattern"].replace("^(?i)", "(?i)^")
    return strict


def _path(parts: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "resource"


def _nulls(value: Any, path: tuple[str | int, ...]) -> Iterator[str]:
    """Fields without a value: the API drops them, so that whoever wrote one meant something else."""
    if value is None:
        yield f"{_path(path)}: has no value"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from _nulls(one, (*path, key))


def _names(resource: Manifest) -> Iterator[str]:
    metadata = resource.get("metadata") or {}
    name, longest = str(metadata.get("name", "")), _MAX_NAME.get(resource["kind"], 253)
    if not _NAME.match(name) or len(name) > longest:
        yield f"metadata.name: {name!r} is no name of at most {longest} characters"
    labels = metadata.get("labels") or {}
    for key, value in labels.items():
        if not (_LABEL_KEY.match(str(key)) and isinstance(value, str) and _LABEL_VALUE.match(value)):
            yield f"metadata.labels: {key}: {value!r} is no label"
