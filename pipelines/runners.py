"""What runs the steps of a pipeline on this machine: processes, or containers with nothing in them but what a step needs."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components.images import image
from governance.errors import IntegrityError
from infra.errors import BackendUnavailableError, BadSettingError
from infra.home import Home
from infra.run_records import stop_path
from infra.runs import PIPELINE_RUNNERS
from pipelines.graph import PIPELINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.container_engine import ContainerEngine
    from infra.settings import Settings

RUN_LABEL = "io.groundswell.run"
HOME_LABEL = "io.groundswell.home"
_PATIENCE_S = 60.0
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_GPU = Path("/dev/nvidiactl")
_CERTIFICATES = ("AWS_CA_BUNDLE", "MLFLOW_TRACKING_SERVER_CERT_PATH", "PGSSLROOTCERT")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What is to run the steps of one run.

    Attributes:
        job: What the process of the pipeline has to know of it; nothing secret.
        environment: What that process needs in its environment.
        images: The images by step, as ``name@digest``; empty where there are none.
        stop: Ends what it has started and what is not ended by ending the pipeline's processes.
    """

    job: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    stop: "Callable[[], None]" = lambda: None


def check_runner(name: str) -> None:
    """Refuses a runner that there is not.

    Raises:
        BadSettingError: There is no such runner.
    """
    if name not in PIPELINE_RUNNERS:
        raise BadSettingError(f"there is no runner {name!r}", hint=f"runners: {', '.join(PIPELINE_RUNNERS)}")


@contextmanager
def open_runner(name: str, home: Home, *, pipeline: str, run_id: str) -> Iterator[Runner]:
    """Makes a runner ready for a run.

    Args:
        name: ``subprocess``, or ``docker`` for containers in docker or podman.
        home: The home; no other pipeline is running in it.
        pipeline: The pipeline.
        run_id: The run.

    Raises:
        BackendUnavailableError: No engine answers, it lacks an image, or an image was built from other code than this.
        IntegrityError: An image was replaced while the run went on.
    """
    if name == "subprocess":
        yield Runner(job={"runner": name})
        return
    from infra.container_engine import open_engine

    with open_engine() as engine:
        # Left by a run that was killed; whatever they do would only be waited for.
        engine.wait_until_gone(f"{HOME_LABEL}={home.path}", patience_s=0.0)
        images = _find_images(engine, PIPELINES[pipeline])
        labels = {RUN_LABEL: run_id, HOME_LABEL: str(home.path)}
        options = {**engine.user_options(uid=os.getuid(), gid=os.getgid()), "labels": labels}
        yield Runner(
            job={"runner": name, "engine": engine.name, "images": images, "options": options},
            environment={"DOCKER_HOST": engine.address},
            images=images,
            stop=partial(_stop_containers, engine, home, run_id),
        )
        for step, reference in images.items():
            if engine.find_image(image(step)).reference != reference:
                raise IntegrityError(
                    f"image {image(step)} was replaced while the run went on: its record names another one than may have run",
                    hint="build no images during a run; run the same command again",
                )


def container_options(job: Mapping[str, Any], settings: "Settings") -> dict[str, Any]:
    """Returns what every container of a run is started with: no privilege, no network that it does not need, one folder.

    Args:
        job: The job with the runner's part (`Runner.job`) and the pipeline's ``arguments``.
        settings: The home's settings.
    """
    from docker.types import DeviceRequest, Mount

    temporary = settings.home / "runs" / job["arguments"]["run_id"] / "tmp"
    network = network_mode(settings)
    options: dict[str, Any] = {
        **job["options"],
        "environment": {
            **settings.container_environment(images=job["images"]),
            "HOME": "/tmp",  # noqa: S108 - the container's own
            "TMPDIR": str(temporary),
        },
        "working_dir": "/tmp",  # noqa: S108
        "tmpfs": {"/tmp": "mode=1777"},  # noqa: S108
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "init": True,
        "mounts": [
            Mount(type="bind", source=str(path), target=str(path), read_only=read_only)
            for path, read_only in _mounts(settings, [Path(job["arguments"][name]) for name in _given(job)])
        ],
    }
    if network is not None:
        options["network_mode"] = network
    if network != "host":
        options["hostname"] = platform.node()
    if settings.container_memory:
        options["mem_limit"] = settings.container_memory
    if _GPU.exists():
        options["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return options


def network_mode(settings: "Settings") -> str | None:
    """Returns the network of a step's container.

    Returns:
        ``none`` where every backend is a file or folder, ``host`` where one listens on this machine only, otherwise None: the
        engine's default.
    """
    urls = [settings.database_url, settings.mlflow_tracking_uri, settings.artifact_root]
    remote = [url for url in urls if "://" in url and not url.startswith(("sqlite:", "file:"))]
    if not remote:
        return "none"
    hosts = {urlsplit(url).hostname for url in [*remote, settings.backends.get("AWS_ENDPOINT_URL", "")]}
    return "host" if hosts & _LOOPBACK else None


def _given(job: Mapping[str, Any]) -> Sequence[str]:
    return [name for name in ("dataset", "codec") if name in job["arguments"]]


def _mounts(settings: "Settings", given: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Yields what lies outside the home, which is mounted anyway, and whether it is only read."""
    database = urlsplit(settings.database_url)
    written = [Path(settings.artifact_root)] if "://" not in settings.artifact_root else []
    if database.scheme == "sqlite":
        written.append(Path(database.path.removeprefix("/")).parent)
    read = [*given, *(Path(settings.backends[name]) for name in _CERTIFICATES if name in settings.backends)]
    for path, read_only in [*((path, False) for path in written), *((path, True) for path in read)]:
        if not path.is_relative_to(settings.home):
            yield path, read_only


def _find_images(engine: "ContainerEngine", steps: Sequence[str]) -> dict[str, str]:
    from infra.container_engine import CODE_LABEL
    from infra.images.code import code_digest

    found = {step: engine.find_image(image(step)) for step in steps}
    for one in found.values():
        built_from = one.labels.get(CODE_LABEL, "")
        if built_from != code_digest():
            raise BackendUnavailableError(
                f"image {one.name} was built from other code ({built_from[:12] or 'it does not say which'}) than this "
                f"({code_digest()[:12]})",
                hint="`make images` builds it anew; or use the groundswell that the images belong to",
            )
    return {step: one.reference for step, one in found.items()}


def _stop_containers(engine: "ContainerEngine", home: Home, run_id: str) -> None:
    stop_path(home, run_id).touch()
    engine.wait_until_gone(f"{RUN_LABEL}={run_id}", patience_s=_PATIENCE_S)
