"""The container engine of this machine: docker, or podman by the same interface."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import BackendUnavailableError
from infra.settings import engine_address, runtime_folder

CODE_LABEL = "io.groundswell.code"
_SYSTEM_SOCKETS = (Path("/var/run/docker.sock"), Path("/run/podman/podman.sock"))
_USER_SOCKETS = ("docker.sock", "podman/podman.sock")
_TIMEOUT_S = 60
_START_S = 20.0
_POLL_S = 0.2
_HINT = "start docker, install podman (its service is started when it is needed), or leave --runner out"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that the engine has.

    Attributes:
        name: Its full name.
        digest: ``sha256:...`` of its manifest where the engine knows it, otherwise of its configuration (the image's id).
        labels: Its labels.
    """

    name: str
    digest: str
    labels: Mapping[str, str]

    @property
    def reference(self) -> str:
        """What says exactly which image it is: ``name@digest``."""
        return f"{self.name}@{self.digest}"


class ContainerEngine:
    """A container engine that answers.

    Args:
        address: Its socket, as ``DOCKER_HOST`` has it.
        client: A client of the docker SDK.
    """

    def __init__(self, address: str, client: Any) -> None:
        self.address = address
        self._client = client
        version = client.version()
        named = (component["Name"] for component in version.get("Components") or [{"Name": "Engine"}])
        self.name = f"{next(iter(named)).removesuffix(' Engine').lower()} {version['Version']}"
        self._is_podman = self.name.startswith("podman")
        self._is_rootless = any("rootless" in option for option in client.info().get("SecurityOptions") or [])

    def find_image(self, name: str) -> Image:
        """Returns an image that is here; none is ever pulled, so that what runs is what was built or put here.

        Raises:
            BackendUnavailableError: It is not here.
        """
        import docker

        try:
            found = self._client.images.get(name)
        except docker.errors.ImageNotFound as error:
            raise BackendUnavailableError(
                f"{self.name} has no image {name}", hint="`make images` builds it; or pull it and name it so"
            ) from error
        except docker.errors.DockerException as error:
            raise BackendUnavailableError(f"{self.name} does not say what {name} is: {_one_line(error)}", hint=_HINT) from error
        references = found.attrs.get("RepoDigests") or []
        digests = [reference.rpartition("@")[2] for reference in references if "@sha256:" in reference]
        return Image(name=name, digest=digests[0] if digests else found.id, labels=found.labels or {})

    def user_options(self, *, uid: int, gid: int) -> dict[str, str]:
        """Returns the options that make a container's files belong to a user of this machine.

        An engine without root maps its container's root, or with ``keep-id`` the same number, to the user that it runs as.
        """
        if not self._is_rootless:
            return {"user": f"{uid}:{gid}"}
        return {"user": f"{uid}:{gid}", "userns_mode": "keep-id"} if self._is_podman else {"user": "0:0"}

    def wait_until_gone(self, label: str, *, patience_s: float) -> None:
        """Waits for the containers with a label to end, and kills those that have not when patience is at an end.

        Args:
            label: ``name=value``.
            patience_s: How long to wait.
        """
        import docker

        deadline = time.monotonic() + patience_s
        try:
            while (running := self._client.containers.list(filters={"label": label})) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            for container in running:
                container.remove(force=True)
        except docker.errors.NotFound:
            return  # it ended by itself, just now
        except (docker.errors.DockerException, OSError) as error:
            raise BackendUnavailableError(
                f"{self.name} does not end the containers labelled {label}: {_one_line(error)}", hint="end them by hand"
            ) from error

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


@contextmanager
def open_engine() -> Iterator[ContainerEngine]:
    """Opens the engine that ``DOCKER_HOST`` or ``CONTAINER_HOST`` names, else docker's or podman's socket, else starts podman's.

    Raises:
        BackendUnavailableError: No engine answers.
    """
    named = engine_address()
    sockets = [*_SYSTEM_SOCKETS, *(runtime_folder() / name for name in _USER_SOCKETS)]
    addresses = [named] if named else [f"unix://{socket}" for socket in sockets if socket.is_socket()]
    problems = []
    for address in addresses:
        engine, problem = _connect(address)
        if engine is not None:
            yield from _closing(engine)
            return
        problems.append(f"{address}: {problem}")
    if not named and shutil.which("podman"):
        with _podman_service() as address:
            engine, problem = _connect(address)
            if engine is not None:
                yield from _closing(engine)
                return
            problems.append(f"podman: {problem}")
    raise BackendUnavailableError(f"no container engine answers{_listed(problems)}", hint=_HINT)


def _closing(engine: ContainerEngine) -> Iterator[ContainerEngine]:
    try:
        yield engine
    finally:
        engine.close()


def _listed(problems: list[str]) -> str:
    return f" ({'; '.join(problems)})" if problems else ""


def _connect(address: str) -> tuple[ContainerEngine | None, str]:
    import docker

    try:
        return ContainerEngine(address, docker.DockerClient(base_url=address, timeout=_TIMEOUT_S)), ""
    except (docker.errors.DockerException, OSError, ValueError, KeyError) as error:
        return None, _one_line(error)


@contextmanager
def _podman_service() -> Iterator[str]:
    """Runs podman's service on a socket of its own for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="groundswell-podman-") as folder:
        socket = Path(folder) / "podman.sock"
        log_path = Path(folder) / "log"
        with log_path.open("wb") as log:
            service = subprocess.Popen(
                [*_with_parent(), "podman", "system", "service", "--time=0", f"unix://{socket}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,  # where conmon leaves a file if a container is killed for memory
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + _START_S
            while not socket.is_socket() and service.poll() is None and time.monotonic() < deadline:
                time.sleep(_POLL_S / 4)
            if not socket.is_socket():
                said = _one_line(log_path.read_text(errors="replace")) or "it does not start"
                raise BackendUnavailableError(f"podman's service: {said}", hint=_HINT)
            yield f"unix://{socket}"
        finally:
            service.terminate()
            service.wait()


def _with_parent() -> list[str]:
    """Returns the words before a command that end it with this process, even if this is killed."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())[:300]
