"""A team's server of a test's own, which `podman kube play` starts."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from infra.images.catalogue import ROOT, distribution_version
from infra.settings import image_name
from infra.team.secrets import NAME, make_secrets
from tests.servers_s3 import free_port

TEAM = ROOT / "infra" / "team"
CONTAINERS = ("database", "objects", "mlflow", "platform")
VALUES = ("access-key-id", "database-password", "rclone-auth-key", "secret-access-key")
_START_TIMEOUT_S = 300.0


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = _START_TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {timeout_s:.0f} s"
        time.sleep(0.5)


class TeamServer:
    """A team's server of a test's own: other names, free ports, nothing left afterwards."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.name = f"groundswell-test-{secrets.token_hex(4)}"
        self.secrets = folder / "secrets"
        make_secrets(self.secrets)
        self.ports = {name: free_port() for name in ("5432", "5000", "9000")}
        self._description = folder / "team.yaml"
        self._description.write_text(yaml.safe_dump_all(self._documents()))

    def _documents(self) -> list[Any]:
        text = (TEAM / "team.yaml").read_text().replace("--every=60", "--every=1")
        text = text.replace("initialDelaySeconds: 60", "initialDelaySeconds: 300")  # the test asks all the time
        for port, free in self.ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}").replace(f'PORT: "{port}"', f'PORT: "{free}"')
        found = list(yaml.safe_load_all(text))
        for container in found[1]["spec"]["containers"]:
            container["image"] = image_name(container["name"], version=distribution_version())
        return [self._renamed(document) for document in found]

    def _renamed(self, part: Any) -> Any:
        if isinstance(part, list):
            return [self._renamed(item) for item in part]
        if not isinstance(part, dict):
            return part
        renamed = {key: self._renamed(value) for key, value in part.items()}
        for key in {"name", "claimName"} & renamed.keys():
            value = renamed[key]
            if isinstance(value, str) and (value == NAME or value.startswith(f"{NAME}-")):
                renamed[key] = self.name + value.removeprefix(NAME)
        return renamed

    def up(self) -> None:
        podman("kube", "play", str(self._description))
        wait_for(self.is_healthy, "the team's server")

    def down(self) -> None:
        podman("kube", "down", str(self._description))

    def is_healthy(self) -> bool:
        return all(podman("healthcheck", "run", f"{self.name}-{one}", check=False).returncode == 0 for one in CONTAINERS)

    def logs(self, container: str) -> str:
        ended = podman("logs", f"{self.name}-{container}")
        return ended.stdout + ended.stderr

    def groundswell(self, *arguments: str) -> str:
        return podman("exec", f"{self.name}-platform", "groundswell", *arguments).stdout

    def empty_database(self) -> None:
        script = "PGPASSWORD=$POSTGRES_PASSWORD psql -q -h 127.0.0.1 -U groundswell -d template1 "
        script += "-c 'DROP DATABASE groundswell WITH (FORCE)' -c 'CREATE DATABASE groundswell'"
        podman("exec", f"{self.name}-database", "sh", "-c", script)

    def check_secrets(self) -> None:
        """Looks for the secrets where none may be: logs, arguments of processes, images."""
        seen = [self.logs(one) for one in CONTAINERS]
        seen += [podman("top", f"{self.name}-{one}", "args").stdout for one in CONTAINERS]
        seen += [podman("image", "inspect", image_name(one, version=distribution_version())).stdout for one in CONTAINERS]
        for name in VALUES:
            value = (self.secrets / name).read_text()
            assert not [text for text in seen if value in text or json.dumps(value)[1:-1] in text], name

    def remove(self) -> None:
        podman("pod", "rm", "--force", "--time=5", self.name, check=False)
        podman("volume", "rm", "--force", *(f"{self.name}-{one}" for one in ("database", "objects", "home")), check=False)
        podman("secret", "rm", self.name, check=False)


def podman(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    environment = dict(os.environ)
    if not Path("/run/systemd/system").exists():
        environment["DISABLE_HC_SYSTEMD"] = "true"  # nothing runs health checks by itself; the test does
    ended = subprocess.run(["podman", *arguments], capture_output=True, text=True, errors="replace", env=environment, check=False)
    assert not check or ended.returncode == 0, ended.stderr
    return ended
