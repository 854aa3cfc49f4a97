"""The pods of the overlay `dev`, run by podman as they are rendered, but for their addresses: this machine is the only node."""

import base64
import copy
import json
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.images.catalogue import distribution_version
from infra.settings import image_name
from infra.team.secrets import make_secrets
from tests.engines import require_running_containers
from tests.infra.kubernetes.rendering import of_kind, pod_templates, render
from tests.infra.kubernetes.test_security import containers
from tests.servers_s3 import free_port
from tests.team_server import podman, wait_for

NAME = "groundswell"
IMAGES = ("database", "mlflow", "objects", "platform")
NOT_PODMANS = ("lifecycle", "livenessProbe", "ports", "readinessProbe", "startupProbe")  # no kubelet asks, no network is between


class Node:
    """A node of a test's own: other names, free ports, nothing left afterwards."""

    def __init__(self, folder: Path) -> None:
        self.prefix = f"{NAME}-test-{secrets.token_hex(4)}"
        self.ports = {name: free_port() for name in ("console", "database", "mlflow", "objects")}
        self._database_url = f"postgresql+psycopg://groundswell@127.0.0.1:{self.ports['database']}/groundswell"
        self._folder = folder
        self._resources = render("dev")
        self._played: list[str] = []

    def make_secrets(self) -> None:
        """Makes the Secrets, as docs/KUBERNETES.md says."""
        make_secrets(self._folder / "secrets")
        value = {path.name: path.read_text() for path in (self._folder / "secrets").iterdir()}
        self._make_secret("database", {"url": self._database_url, "password": value["database-password"]})
        keys = {"id": "access-key-id", "key": "secret-access-key", "rclone-auth-key": "rclone-auth-key"}
        self._make_secret("objects", {key: value[file] for key, file in keys.items()})

    def _make_secret(self, name: str, values: Mapping[str, str]) -> None:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps({key: base64.b64encode(value.encode()).decode() for key, value in values.items()}))
        podman("secret", "create", f"{self.prefix}-{name}", str(path))

    def play(self, name: str) -> None:
        """Starts a pod of what is called ``groundswell-NAME``."""
        template = pod_templates(self._resources)[f"{NAME}-{name}"]
        # podman 4 fails where it is to remove a container that initialised something
        kept = {"io.podman.annotations.init.container.type": "always"}
        metadata = {"name": f"{NAME}-{name}", "labels": template["metadata"]["labels"], "annotations": kept}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self._spec(name, copy.deepcopy(template["spec"]))}
        documents = [*of_kind(self._resources, "ConfigMap").values(), pod]
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all([self._renamed(self._addressed(one)) for one in documents]))
        self._played.append(name)
        podman("kube", "play", str(path))

    def _spec(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        spec["hostNetwork"] = True
        spec.pop("topologySpreadConstraints", None)
        claims = (
            of_kind(self._resources, "StatefulSet").get(f"{NAME}-{name}", {"spec": {}})["spec"].get("volumeClaimTemplates", ())
        )
        for claim in claims:
            source = {"claimName": f"{NAME}-{name}-{claim['metadata']['name']}"}
            spec["volumes"].append({"name": claim["metadata"]["name"], "persistentVolumeClaim": source})
        for container in containers(spec):
            for field in NOT_PODMANS:
                container.pop(field, None)
            if "command" in container:  # podman leaves $(NAME) as it is
                container["command"] = [
                    one.replace("$(MLFLOW_BACKEND_STORE_URI)", self._database_url) for one in container["command"]
                ]
            if name == "database":
                container["env"].append({"name": "PGPORT", "value": str(self.ports["database"])})
        return spec

    def _addressed(self, part: Any) -> Any:
        """Puts this machine's addresses in the place of services'."""
        if isinstance(part, list):
            return [self._addressed(item) for item in part]
        if isinstance(part, dict):
            return {key: self._addressed(value) for key, value in part.items()}
        if not isinstance(part, str):
            return part
        for name, port in (("mlflow", 5000), ("objects", 9000)):
            part = part.replace(f"http://{NAME}-{name}:{port}", f"http://127.0.0.1:{self.ports[name]}")
        whole = {
            "5000": self.ports["mlflow"],
            ":9000": f"127.0.0.1:{self.ports['objects']}",
            "--port=8080": f"--port={self.ports['console']}",
        }
        return str(whole.get(part, part))

    def _renamed(self, part: Any) -> Any:
        if isinstance(part, list):
            return [self._renamed(item) for item in part]
        if not isinstance(part, dict):
            return part
        renamed = {key: self._renamed(value) for key, value in part.items()}
        for key in {"name", "claimName"} & renamed.keys():
            if isinstance(renamed[key], str) and renamed[key].startswith(f"{NAME}-"):
                renamed[key] = self.prefix + renamed[key].removeprefix(NAME)
        return renamed

    def confinement(self, name: str, container: str) -> tuple[str, bool, list[str]]:
        """Returns a container's user, whether its root filesystem is read-only, and its capabilities."""
        (found,) = json.loads(podman("inspect", f"{self.prefix}-{name}-{container}").stdout)
        return found["Config"]["User"], found["HostConfig"]["ReadonlyRootfs"], found["EffectiveCaps"] or []

    def end(self, name: str, container: str) -> tuple[int, str]:
        """Waits for a job's container, and returns its exit code and what it wrote."""
        code = int(podman("wait", f"{self.prefix}-{name}-{container}").stdout)
        return code, self.logs(name, container)

    def logs(self, name: str, container: str) -> str:
        """Returns what a container wrote."""
        ended = podman("logs", f"{self.prefix}-{name}-{container}", check=False)
        return ended.stdout + ended.stderr

    def groundswell(self, *arguments: str) -> Any:
        """Calls the command line in the admin's shell."""
        return json.loads(podman("exec", f"{self.prefix}-admin-admin", "groundswell", "--json", *arguments).stdout)

    def ask(self, name: str, path: str, *, token: str = "", host: str = "") -> int:
        """Returns the status with which a server answers; 0 where it does not."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[name]}{path}")
        for field, value in (("Authorization", token and f"Bearer {token}"), ("Host", host)):
            if value:
                request.add_header(field, value)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def remove(self) -> None:
        """Removes all that was made."""
        podman("pod", "rm", "--force", "--time=1", *(f"{self.prefix}-{name}" for name in self._played), check=False)
        volumes = podman("volume", "ls", "--quiet").stdout.split()
        podman("volume", "rm", "--force", *(one for one in volumes if one.startswith(self.prefix)), check=False)
        podman("secret", "rm", f"{self.prefix}-database", f"{self.prefix}-objects", check=False)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    if shutil.which("podman") is None or podman("info", check=False).returncode:
        pytest.skip("podman does not answer here: apt-get install podman runc")
    require_running_containers("podman")
    for name in IMAGES:
        image = image_name(name, version=distribution_version())
        if podman("image", "exists", image, check=False).returncode:
            pytest.skip(f"{image} was not built: make team-images")
    made = Node(tmp_path)
    try:
        yield made
    finally:
        made.remove()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_pods_of_dev_work_together_as_they_are_confined(node: Node) -> None:
    node.make_secrets()
    node.play("database")
    node.play("objects")
    ready = ["exec", f"{node.prefix}-database-database", "pg_isready", "--quiet", "--host=127.0.0.1"]
    wait_for(lambda: podman(*ready, check=False).returncode == 0, "PostgreSQL", timeout_s=120)
    node.play("mlflow")  # which makes its tables first
    wait_for(lambda: node.ask("mlflow", "/health") == 200, "MLflow", timeout_s=240)
    assert node.ask("mlflow", "/", host="attacker.example") == 403
    assert node.ask("mlflow", "/health", host="10.1.2.3:5000") == 200  # as kubelet asks

    node.play("admin")
    ada = node.groundswell("identity", "create", "Ada", "--role", "admin")
    token = node.groundswell("identity", "token", "create", ada["identity_id"], "--for", "read")["token"]
    node.play("console")
    wait_for(lambda: node.ask("console", "/readyz") == 200, "the console", timeout_s=120)
    for name in ("admin", "console", "mlflow", "objects"):
        assert node.confinement(name, name) == ("65532:65532", True, [])
    assert node.confinement("database", "database") == ("999:999", True, [])
    assert node.ask("console", "/healthz") == 200
    assert [node.ask("console", path) for path in ("/", "/metrics")] == [401, 401]
    assert [node.ask("console", path, token=token) for path in ("/", "/metrics")] == [200, 200]

    for name, container, told in (
        ("checkpoint", "checkpoint", "\n\n— groundswell"),
        ("expiry", "expiry", "given up"),
        ("verification", "verification", "1 signed checkpoint"),
        ("mlflow-upgrade", "upgrade", ""),
    ):
        node.play(name)
        code, text = node.end(name, container)
        assert (code, told in text) == (0, True), text
    assert node.groundswell("audit", "verify")["num_checkpoints"] == 1

    stopped = podman("stop", "--time=30", f"{node.prefix}-console-console")
    assert stopped.returncode == 0
    state = json.loads(podman("inspect", f"{node.prefix}-console-console").stdout)[0]["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)  # it ended by itself
