"""The images as they were built, run with another user, a read-only root, no network and no capability."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from components.specs import STEPS
from infra.errors import BackendUnavailableError
from infra.home import Home
from infra.images.build import CODE_LABEL, budget
from infra.images.catalogue import ROOT, catalogue, distribution_version, torch_requirement
from infra.images.code import code_digest
from infra.images.engine import BuiltImage, Engine, Recipe
from infra.images.install import USER_ID
from infra.ledger import sign_checkpoint
from infra.source_digest import source_digest
from tests.engines import require_running_containers

pytestmark = [pytest.mark.slow]
ANYBODY = 12345
IMAGES = [spec.name for spec in catalogue().values() if not spec.is_layer]
STEP_OF = {step.replace("_", "-"): step for step in STEPS}
_PROBE = """
import importlib, json, os, sys
from importlib.metadata import distributions
for name in sys.argv[2:]:
    importlib.import_module(name)
from infra.images.code import code_digest
from infra.source_digest import source_digest
json.dump({
    "code": code_digest(),
    "source": source_digest(sys.argv[1]) if sys.argv[1] else "",
    "user": os.getuid(),
    "libraries": {one.name.lower().replace("_", "-").replace(".", "-"): one.version for one in distributions()},
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    try:
        found = Engine.find()
    except BackendUnavailableError as error:
        pytest.skip(f"{error.diagnosis}: {error.hint}")
    require_running_containers(found.program)
    return found


@pytest.fixture(scope="module")
def built(engine: Engine) -> Callable[[str], BuiltImage]:
    """Returns an image, or skips where it was not built, or from other code."""

    @lru_cache
    def find(name: str) -> BuiltImage | None:
        return engine.find_image(catalogue()[name].image())

    def found(name: str) -> BuiltImage:
        image = find(name)
        if image is None:
            pytest.skip(f"{catalogue()[name].image()} was not built: make images")
        if image.labels.get(CODE_LABEL) != code_digest():
            pytest.skip(f"{image.name} was built from other code: make images")
        return image

    return found


@pytest.fixture(scope="module")
def inside(engine: Engine, built: Callable[[str], BuiltImage]) -> Callable[[str], dict[str, Any]]:
    """Returns what an image says of itself after it has imported what it is for, as a user that it does not know."""

    @lru_cache
    def probe(name: str) -> dict[str, Any]:
        step = STEP_OF.get(name)
        module = STEPS[step].module if step else ""
        modules = ["kfp.dsl.executor_main", "components.kubeflow", module] if step else ["groundswell.cli.main"]
        command = ["python3", "-c", _PROBE, module, *modules]
        told: dict[str, Any] = json.loads(contain(engine, built(name).name, command, environment={"_KFP_RUNTIME": "true"}))
        return told

    return probe


def contain(
    engine: Engine,
    image: str,
    command: list[str],
    *,
    mount: Path | None = None,
    environment: dict[str, str] | None = None,
    network: str = "none",
) -> str:
    """Returns what a command prints in a container that may do as little as can be."""
    user = f"{ANYBODY}:{ANYBODY}" if os.getuid() == 0 or mount is None else f"{os.getuid()}:{os.getgid()}"
    options = ["--rm", "--read-only", "--cap-drop=all", "--tmpfs=/tmp", f"--network={network}", f"--user={user}"]
    options += [f"--env={name}={value}" for name, value in (environment or {}).items()]
    if mount is not None:
        options += [f"--volume={mount}:{mount}"]
        options += ["--userns=keep-id"] if engine.program == "podman" and os.getuid() else []
    entry = [f"--entrypoint={command[0]}", image, *command[1:]]
    ended = subprocess.run([engine.program, "run", *options, *entry], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_does_its_work_as_anybody_and_holds_the_code_that_its_label_says(
    name: str, built: Callable[[str], BuiltImage], inside: Callable[[str], dict[str, Any]]
) -> None:
    told = inside(name)
    assert told["user"] == ANYBODY
    assert told["code"] == built(name).labels[CODE_LABEL]


@pytest.mark.parametrize("step", [step for step, spec in STEPS.items() if spec.contained])
def test_a_step_has_the_same_source_digest_in_its_image_as_in_the_checkout(
    step: str, built: Callable[[str], BuiltImage], inside: Callable[[str], dict[str, Any]]
) -> None:
    name = step.replace("_", "-")
    if built(name).labels[CODE_LABEL] != code_digest():
        pytest.skip("the images were built from other code: make images")
    assert inside(name)["source"] == source_digest(STEPS[step].module)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_an_ordinary_user_s_and_within_its_budget_and_says_where_it_comes_from(
    name: str, engine: Engine, built: Callable[[str], BuiltImage]
) -> None:
    image = built(name)
    assert engine.read(image.name, ["id", "-u"]).strip() == str(USER_ID)
    assert image.size_bytes <= budget()[name] * 1_000_000
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in image.labels.items()}
    assert labels["title"] == catalogue()[name].title
    assert labels["version"] == distribution_version()
    assert labels["licenses"] == "Apache-2.0"
    assert labels["base.digest"].startswith("sha256:")
    revision, _, state = labels["revision"].partition("-")
    assert len(revision) == 40
    assert state in {"", "dirty"}


@pytest.mark.parametrize("name", IMAGES)
def test_the_bill_of_materials_lists_what_is_installed(
    name: str, engine: Engine, built: Callable[[str], BuiltImage], inside: Callable[[str], dict[str, Any]]
) -> None:
    text = engine.read(built(name).name, ["cat", "/usr/share/groundswell/sbom.cdx.json"])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    libraries = {one["name"]: one for one in components if one["purl"].startswith(("pkg:pypi/", "pkg:generic/groundswell@"))}
    assert {key: one["version"] for key, one in libraries.items()} == inside(name)["libraries"]
    assert all(one["hashes"][0]["alg"] == "SHA-256" for one in libraries.values())
    assert any(one["purl"].startswith("pkg:deb/debian/libc6@") for one in components)


@pytest.mark.parametrize("name", ["platform", "validate-data", "register-model"])
def test_images_that_compute_nothing_hold_no_torch(name: str, inside: Callable[[str], dict[str, Any]]) -> None:
    assert "torch" not in inside(name)["libraries"]


def test_the_same_input_gives_the_same_image(engine: Engine, built: Callable[[str], BuiltImage]) -> None:
    platform = catalogue()["platform"]
    below = catalogue()[platform.on].image()
    contexts = sorted((ROOT / "build" / "wheelhouse").glob("python*"))
    if engine.find_image(below) is None or not contexts:
        pytest.skip(f"{built('platform').name} was built elsewhere: make images")
    names = [f"localhost/groundswell-test/{number}:1" for number in range(2)]
    try:
        for name in names:
            labels = built("platform").labels
            arguments = {"BASE": below}
            containerfile = ROOT / platform.containerfile
            engine.build(
                Recipe(name=name, containerfile=containerfile, context=contexts[0], arguments=arguments, labels=labels, epoch=1)
            )
        first, second = (engine.find_image(name) for name in names)
        assert first is not None
        assert second is not None
        assert (first.id, first.digest) == (second.id, second.digest)
    finally:
        subprocess.run([engine.program, "image", "rm", "--force", *names], capture_output=True, check=False)


def test_training_holds_the_torch_of_the_checkout(inside: Callable[[str], dict[str, Any]]) -> None:
    assert f"torch=={inside('train-dit')['libraries']['torch'].partition('+')[0]}" == torch_requirement()


@pytest.fixture
def auditable(home: Home) -> Iterator[Home]:
    """A home that whoever runs in the container may read and write."""
    sign_checkpoint(home.database, home.keys)
    home.database.close()
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", f"{ANYBODY}:{ANYBODY}", str(home.path)], check=True)
    yield home
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "0:0", str(home.path)], check=True)


@pytest.mark.parametrize(
    "command", [["audit", "log"], ["audit", "verify"], ["runs", "list"], ["models", "list"], ["identity", "list"]]
)
def test_an_auditor_needs_the_platform_image_alone(
    command: list[str], engine: Engine, built: Callable[[str], BuiltImage], auditable: Home
) -> None:
    image = built("platform").name
    assert json.loads(
        contain(engine, image, ["groundswell", "--home", str(auditable.path), "--json", *command], mount=auditable.path)
    )


def test_the_platform_image_reads_postgresql(
    engine: Engine, built: Callable[[str], BuiltImage], auditable: Home, postgres_home_url: str
) -> None:
    image, home = built("platform").name, auditable.path
    given = {"GROUNDSWELL_DATABASE_URL": postgres_home_url}
    said = contain(
        engine,
        image,
        ["groundswell", "--home", str(home), "--json", "runs", "list"],
        mount=home,
        environment=given,
        network="host",
    )
    assert json.loads(said) == {"runs": []}
