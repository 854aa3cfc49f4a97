"""The images' recipes: what they hold, and what comes of them without an engine."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from components.images import image
from components.specs import STEPS
from infra.errors import BackendUnavailableError, BadSettingError
from infra.images import build, debian, engine, wheelhouse
from infra.images.catalogue import MAIN_LOCK, ROOT, ImageSpec, catalogue, chain, main_hashes, read_lock
from infra.images.code import ROOMS, code_digest, packed_files
from infra.images.install import USER_ID, is_left_out
from infra.images.sbom import bill, licences
from infra.source_digest import source_digest

LAYERS = [spec for spec in catalogue().values() if spec.is_layer]
IMAGES = [spec for spec in catalogue().values() if not spec.is_layer]
STEP_IMAGES = {step: catalogue()[step.replace("_", "-")] for step, spec in STEPS.items() if spec.contained}
MACHINE_LEARNING = {"great-expectations", "kfp", "mlflow", "mlflow-skinny", "numpy", "pandas", "scikit-learn", "scipy", "torch"}


def names_in(spec: ImageSpec) -> set[str]:
    return {one.name for one in read_lock(spec.lock)}


def test_there_is_an_image_for_every_step_and_one_for_the_records_under_the_names_that_pipelines_use() -> None:
    assert "platform" in {spec.name for spec in IMAGES}
    for step, spec in STEP_IMAGES.items():
        assert not spec.is_layer
        assert spec.image() == image(step)
        assert spec.containerfile == f"components/{step}/Containerfile"


@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_a_lock_holds_versions_of_the_main_lock_only(spec: ImageSpec) -> None:
    locked = read_lock(spec.lock)
    assert {(one.name, one.version) for one in locked} <= main_hashes().keys()
    assert all(main_hashes()[one.name, one.version] for one in locked)
    wanted = {re.split(r"[\[<>=]", one)[0] for part in chain(spec) for one in part.requirements}
    assert wanted <= names_in(spec), "run `make image-locks`"
    for below in chain(spec)[:-1]:
        assert {(one.name, one.version) for one in read_lock(below.lock)} <= {(one.name, one.version) for one in locked}


def test_the_main_lock_is_read_with_every_hash() -> None:
    text = MAIN_LOCK.read_text()
    assert sum(len(one.hashes) for one in read_lock(MAIN_LOCK)) == text.count("--hash=sha256:")
    assert len(read_lock(MAIN_LOCK)) == len(re.findall(r"^\S+==", text, re.MULTILINE))


def test_a_missing_lock_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadSettingError, match=r"none.lock cannot be read") as caught:
        read_lock(tmp_path / "none.lock")
    assert caught.value.hint == "make image-locks"


def test_records_need_no_machine_learning_and_validation_no_torch() -> None:
    assert not names_in(catalogue()["platform"]) & MACHINE_LEARNING
    assert not any(part.torch for name in ("platform", "validate-data", "register-model") for part in chain(catalogue()[name]))
    assert all("mlflow" not in names_in(spec) for spec in STEP_IMAGES.values()), "mlflow-skinny is enough"


def test_the_budget_covers_all_images_within_what_was_promised() -> None:
    budget = build.budget()
    assert budget.keys() == {spec.name for spec in IMAGES}
    assert budget["validate-data"] <= 700
    assert budget["platform"] <= 350
    assert budget["train-dit"] <= 1500


@pytest.mark.parametrize("containerfile", sorted({spec.containerfile for spec in catalogue().values()}))
def test_a_recipe_ends_as_an_ordinary_user_and_copies_no_wheel_into_a_layer(containerfile: str) -> None:
    lines = (ROOT / containerfile).read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == f"USER {USER_ID}:{USER_ID}"
    assert "FROM ${BASE}" in lines
    assert not [line for line in lines if line.startswith(("ADD", "COPY"))]


def test_every_recipe_belongs_to_an_image() -> None:
    found = [*ROOT.glob("components/*/Containerfile"), *ROOT.glob("infra/images/Containerfile.*")]
    recipes = {str(path.relative_to(ROOT)) for path in found}
    assert recipes - {spec.containerfile for spec in catalogue().values()} == {"infra/images/Containerfile.debian"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the wheel for the images holds, and the digest that its builder told."""
    folder = tmp_path_factory.mktemp("wheel")
    told = wheelhouse.build_own_wheel(folder, epoch=1_700_000_000)
    (wheel,) = folder.glob("groundswell-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site", told


def test_the_wheel_holds_all_that_the_source_digest_of_a_step_covers(unpacked: tuple[Path, str]) -> None:
    site, told = unpacked
    assert code_digest(site) == told
    program = "import sys; from infra.source_digest import source_digest; print(*map(source_digest, sys.argv[1:]))"
    modules = [step.module for step in STEPS.values()]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", program, *modules]
    ended = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [source_digest(module) for module in modules]


def test_the_wheel_holds_each_packed_file_of_the_checkout_and_nothing_else(unpacked: tuple[Path, str]) -> None:
    site, _ = unpacked
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "--", *ROOMS]
    versioned = {ROOT / line for line in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()}
    mine = {path.relative_to(ROOT) for room in ROOMS for path in packed_files(ROOT / room)}
    assert {path.relative_to(site) for room in ROOMS for path in packed_files(site / room)} == mine & {
        path.relative_to(ROOT) for path in versioned
    }


def test_the_code_digest_follows_packed_files_and_their_names(tmp_path: Path) -> None:
    def digest(change: Callable[[Path], object]) -> str:
        folder = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tmp_path / "first", folder)
        change(folder / "infra")
        return code_digest(folder)

    for room in ROOMS:
        (tmp_path / "first" / room).mkdir(parents=True)
        (tmp_path / "first" / room / "module.py").write_text("x = 1\n")
    first = code_digest(tmp_path / "first")
    assert digest(lambda room: (room / "README.md").write_text("words\n")) == first
    others = [
        digest(lambda room: (room / "module.py").write_text("x = 2\n")),
        digest(lambda room: (room / "module.py").rename(room / "renamed.py")),
        digest(lambda room: (room / "suite.yaml").write_text("rows: 1\n")),
    ]
    assert len({first, *others}) == 4


def test_the_code_digest_costs_a_command_nothing_that_it_would_not_import() -> None:
    program = "import sys; before = set(sys.modules); import infra.images.code; print(*(set(sys.modules) - before))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in ended.stdout.split()}
    assert imported - {"infra"} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("pandas/tests/io/test_csv.py", True),
        ("numpy/_core/tests/test_umath.py", True),
        ("numpy/_core/tests/_natype.py", False),
        ("numpy/testing/__init__.py", False),
        ("great_expectations/tests/x.py", False),
        ("botocore/data/ec2/2016-11-15/service-2.json.gz", True),
        ("botocore/data/s3/2006-03-01/service-2.json.gz", False),
        ("botocore/data/endpoints.json", False),
        ("torch/lib/libtorch_cpu.so", False),
        ("torch/include/ATen/ATen.h", True),
        ("pyarrow/libarrow_flight.so.2500", True),
        ("pyarrow/libarrow_substrait.so.2500", False),
    ],
)
def test_only_what_no_program_reads_is_left_out(path: str, left_out: bool) -> None:
    assert is_left_out(path) is left_out


def test_a_bill_of_materials_is_valid_and_says_the_same_of_the_same() -> None:
    metadata = Message()
    metadata["Classifier"] = "License :: OSI Approved :: MIT License"
    assert licences(metadata) == [{"license": {"name": "MIT License"}}]
    metadata["License-Expression"] = "MIT"
    assert licences(metadata) == [{"expression": "MIT"}]
    about = {"name": "an image", "version": "0.1.0", "created": "2026-11-22T23:44:19Z", "revision": "0" * 40}
    component = {"type": "library", "bom-ref": "a", "name": "a", "version": "1", "licenses": licences(metadata)}
    made = bill(about, [component])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made)) is None
    assert bill(about, [component]) == made
    assert bill(about, [{**component, "version": "2"}])["serialNumber"] != made["serialNumber"]


def recipe(tmp_path: Path) -> engine.Recipe:
    arguments, labels = {"BASE": "base:1"}, {"a.label": "value"}
    return engine.Recipe(
        name="localhost/x:1", containerfile=tmp_path / "C", context=tmp_path, arguments=arguments, labels=labels, epoch=7
    )


@pytest.mark.parametrize(("program", "time_option"), [("podman", "--timestamp=7"), ("docker", "--build-arg=SOURCE_DATE_EPOCH=7")])
def test_a_build_reaches_no_network_and_no_earlier_build_and_takes_its_time_from_the_source(
    program: str, time_option: str, tmp_path: Path
) -> None:
    command = engine.Engine(program).build_command(recipe(tmp_path))
    assert {"--network=none", "--no-cache", "--build-arg=BASE=base:1", "--label=a.label=value", time_option} <= set(command)
    assert any("localhost/x:1" in word for word in command)
    assert command[-1] == str(tmp_path)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes the search path empty but for the programs that it is called with."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


def test_without_an_engine_the_command_says_so_in_one_line(
    programs: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["platform"]) == 6
    assert capsys.readouterr().err == (
        "error: no container engine answers here\nhint: install podman (as root: apt-get install podman runc) or start docker\n"
    )
    programs("podman", "exit 125")
    assert build.main(["platform", "--engine", "podman"]) == 6
    assert "error: podman does not answer here\n" in capsys.readouterr().err


def test_podman_behind_the_name_of_docker_is_called_by_its_own_name(programs: Callable[[str, str], None]) -> None:
    programs("docker", "echo 'Podman Engine'")
    programs("podman", "exit 0")
    assert engine.Engine.find().program == "podman"


def test_a_full_disk_during_a_build_is_told_with_what_helps(programs: Callable[[str, str], None], tmp_path: Path) -> None:
    programs("podman", "echo 'Error: committing: write /var/x: no space left on device' >&2; exit 125")
    with pytest.raises(BackendUnavailableError, match=r"could not build localhost/x:1: .*no space left on device") as caught:
        engine.Engine("podman").build(recipe(tmp_path))
    assert caught.value.hint.startswith("free some space")


def test_a_base_image_that_cannot_be_had_is_named(programs: Callable[[str, str], None]) -> None:
    programs("podman", "exit 125")
    with pytest.raises(
        BackendUnavailableError, match=r"neither has the base image example\.org/none:1 nor can pull it"
    ) as caught:
        build.find_base(engine.Engine("podman"), "example.org/none:1")
    assert "BASE=debootstrap" in caught.value.hint
    with pytest.raises(BackendUnavailableError, match="debootstrap is not installed"):
        build.find_base(engine.Engine("podman"), "debootstrap")


def test_an_image_over_its_budget_is_refused() -> None:
    values = {"image": "i", "id": "i", "digest": "d", "seconds": 1.0}
    within = build.Outcome(name="small", size_mb=10.0, budget_mb=10.0, **values)
    build.check_budget([within])
    for over in (
        build.Outcome(name="big", size_mb=10.1, budget_mb=10.0, **values),
        build.Outcome(name="big", size_mb=1.0, budget_mb=None, **values),
    ):
        with pytest.raises(BadSettingError, match="over budget: big takes"):
            build.check_budget([within, over])
    assert "small" in build.table([within])


def test_the_base_keeps_licences_and_nothing_that_tells_machine_or_minute(tmp_path: Path) -> None:
    kept = {"usr/share/doc/x/copyright": "MIT", "usr/bin/tool": "x", "var/lib/dpkg/status": "Package: x\n"}
    gone = [
        "usr/share/doc/x/changelog.gz",
        "usr/share/doc/y/README",
        "var/log/apt/term.log",
        "var/cache/apt/x.deb",
        "etc/hostname",
    ]
    gone += ["usr/share/locale/de/x.mo", "etc/apt/sources.list", "etc/resolv.conf", "var/lib/apt/lists/partial/x"]
    for name in (*kept, *gone, "etc/machine-id"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(kept.get(name, "of this machine"))
    debian.clean(tmp_path)
    left = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {**kept, "etc/machine-id": ""}
    assert not (tmp_path / "usr/share/doc/y").exists()


def test_the_mirror_is_the_one_that_apt_on_this_machine_has(programs: Callable[[str, str], None]) -> None:
    lines = ["http://mirror/debian bookworm main", "http://mirror/debian bookworm contrib", "http://s bookworm-security main"]
    programs("apt-get", "\n".join(f"echo '{line}'" for line in lines))
    found = debian.apt_sources()
    assert [(one.uri, one.suite) for one in found] == [("http://mirror/debian", "bookworm"), ("http://s", "bookworm-security")]
    programs("apt-get", "echo 'http://mirror/debian trixie main'")
    with pytest.raises(BackendUnavailableError, match="no source of Debian bookworm"):
        debian.apt_sources()


def test_a_torch_that_needs_a_gpu_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "torch-2.13.0.dist-info/METADATA", "Name: torch\nRequires-Dist: nvidia-cublas-cu12==12.8; sys_platform\n"
        )
    with pytest.raises(BackendUnavailableError, match="needs CUDA's libraries"):
        wheelhouse.check_torch(wheel)
    assert not wheel.exists()


def test_the_requirement_of_torch_is_the_one_of_the_makefile() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(one for one in project["dependencies"] if one.startswith("torch=="))
    assert f"TORCH := {wanted}\n" in (ROOT / "Makefile").read_text()
