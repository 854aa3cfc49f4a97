"""A real MLflow server for tests, in processes of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers_s3 import free_port, stop_process_group, wait_until_healthy, with_parent

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
}


@dataclass
class MlflowServer:
    """An MLflow server that can be stopped and started again on the same port.

    Attributes:
        url: Its address, as a tracking URI.
        store_uri: The database behind it.
        artifact_root: Its default artifact root.
    """

    url: str
    store_uri: str
    artifact_root: str
    _port: int
    _log: Path
    _environment: Mapping[str, str]
    _arguments: tuple[str, ...] = ()
    _process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts it, and waits until it is healthy."""
        # The address of the database holds a password: it goes by the environment, not by the arguments.
        environment = {
            **os.environ,
            **_QUIET,
            **self._environment,
            "MLFLOW_BACKEND_STORE_URI": self.store_uri,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": self.artifact_root,
        }
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*with_parent("TERM"), *command, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self._log.parent,
                start_new_session=True,
            )
        wait_until_healthy(self._process, f"{self.url}/health", self._log)

    def stop(self) -> None:
        """Kills it."""
        if self._process is not None:
            stop_process_group(self._process)
            self._process = None


@contextmanager
def serve_mlflow(
    store_uri: str,
    artifact_root: str,
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> Iterator[MlflowServer]:
    """Runs a server.

    Args:
        store_uri: The database behind it, SQLite or PostgreSQL; the home's own, where our tables are too.
        artifact_root: Its default artifact root, such as ``s3://bucket/mlflow``.
        folder: Where its log goes.
        environment: What it gets beside this process's environment.
        arguments: Further arguments of ``mlflow server``.
    """
    port = free_port()
    server = MlflowServer(
        url=f"http://127.0.0.1:{port}",
        store_uri=store_uri,
        artifact_root=artifact_root,
        _port=port,
        _log=folder / "mlflow-server.log",
        _environment=environment or {},
        _arguments=arguments,
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


ServeMlflow = Callable[..., MlflowServer]


@pytest.fixture(scope="session")
def mlflow_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeMlflow]:
    """Starts servers that run until the session ends: call it with a database's URL and an artifact root."""
    with ExitStack() as running:

        def serve(store_uri: str, artifact_root: str, **options: object) -> MlflowServer:
            folder = tmp_path_factory.mktemp("mlflow")
            return running.enter_context(serve_mlflow(store_uri, artifact_root, folder, **options))  # type: ignore[arg-type]

        yield serve
