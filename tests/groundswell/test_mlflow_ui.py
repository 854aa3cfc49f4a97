import socket
import subprocess
from typing import Any

import pytest

from infra.home import Home
from infra.settings import child_environment
from tests.groundswell.conftest import Cli


class _Server:
    """Stands for MLflow's server, stopped with ctrl-C."""

    def __init__(self, arguments: list[str], **options: Any) -> None:
        self.arguments = arguments
        self.environment = options["env"]
        self.is_stopped = False
        servers.append(self)

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None:
            raise KeyboardInterrupt
        return 0

    def poll(self) -> int | None:
        return 0 if self.is_stopped else None

    def terminate(self) -> None:
        self.is_stopped = True


servers: list[_Server] = []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_mlflow_serves_the_homes_own_store_until_it_is_stopped(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", _Server)
    port = free_port()
    called = cli("--home", home.path, "--json", "mlflow", "--port", port)
    assert called.exit_code == 0
    assert called.document == {"url": f"http://127.0.0.1:{port}"}
    server = servers.pop()
    stores = {
        "MLFLOW_BACKEND_STORE_URI": home.settings.mlflow_tracking_uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": home.settings.artifact_root,
    }
    assert server.environment == {**child_environment(), **stores}
    assert not any("://" in argument for argument in server.arguments)  # everybody on the machine can read them
    assert server.is_stopped


def test_a_port_in_use_is_told_at_once(cli: Cli, home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        called = cli("--home", home.path, "mlflow", "--port", taken.getsockname()[1])
    assert called.exit_code == 6
    assert called.stderr.splitlines()[1] == "hint: choose another with --port"


def test_a_servers_address_is_told(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDSWELL_MLFLOW_URI", "https://mlflow.example.com")
    assert "https://mlflow.example.com" in cli("--home", home.path, "mlflow").stdout
