"""Published checkpoints as registered models: with origin and licence on record, generated from, fine-tuned, or refused."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.home import Home
from infra.ledger import iter_entries
from infra.model_versions import find_version, list_versions, open_version
from infra.settings import Settings
from tests.model_core.transformer.test_public_checkpoints import write_diffusers, write_facebook
from tests.pipelines.calling import Called, call_here
from tests.pipelines.test_finetune import own_pictures, run_finetune

ORIGIN, LICENCE = "https://example.org/DiT-tiny.pt", "CC-BY-NC-4.0"
_WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
SAID = ("--name", "published", "--origin", ORIGIN, "--licence", LICENCE)


def import_facebook(home: Path, path: Path, codec: Path | None, *more: object) -> Called:
    given = ("--codec", codec) if codec is not None else ()
    heads = ("--num-heads", 4)
    return call_here(home, "--json", "models", "import", path, "--layout", "facebook-dit", *SAID, *heads, *given, *more)


def import_diffusers(home: Path, path: Path, *more: object) -> Called:
    return call_here(home, "--json", "models", "import", path, "--layout", "diffusers", *SAID, *more)


def write_vae(folder: Path, **changes: Any) -> Path:
    """A small AutoencoderKL that was never trained, as diffusers writes it."""
    from diffusers import AutoencoderKL

    sizes: dict[str, Any] = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(**{"latent_channels": 4, **sizes, **blocks, **changes}).save_pretrained(folder)
    return folder


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A folder of a diffusers pipeline."""
    folder = tmp_path / "DiT-tiny"
    folder.mkdir()
    write_diffusers(folder)
    write_vae(folder / "vae", scaling_factor=0.18215)
    return folder


@pytest.fixture(scope="module")
def imported(home_template: Path, tiny_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path, Called]:
    """A home into which a `.pt` file was imported, and that file."""
    folder = tmp_path_factory.mktemp("imported")
    shutil.copytree(home_template, folder / "home")
    path = write_facebook(folder)
    called = import_facebook(folder / "home", path, tiny_codec)
    assert called.exit_code == 0, called.stderr
    return Home.open(Settings.load(folder / "home")), path, called


def test_it_is_a_version_whose_package_says_where_it_is_from(imported: tuple[Home, Path, Called]) -> None:
    home, path, called = imported
    assert called.document["model_version"] == "published/1"
    package = open_version(find_version(home.database, "published/1"), home.package_keys, home.package_cache)
    origin = package.config["origin"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (origin["stated"], origin["licence"], origin["files"]) == (ORIGIN, LICENCE, {"DiT-tiny.pt": digest})
    assert package.evaluation == {"format": "groundswell-evaluation/1", "metrics": {}, "evaluated": False}
    for told in ("What it was trained on is not known to groundswell", "It was not evaluated here", digest, "CC-BY-NC-4.0"):
        assert told in package.model_card


def test_its_bill_of_materials_has_licence_address_and_file(imported: tuple[Home, Path, Called]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    home, path, _ = imported
    package = open_version(find_version(home.database, "published/1"), home.package_keys, home.package_cache)
    text = package.read_bytes("mlbom.cdx.json").decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    model = json.loads(text)["metadata"]["component"]
    assert model["licenses"] == [{"license": {"name": LICENCE}}]
    assert model["externalReferences"] == [{"type": "distribution", "url": ORIGIN}]
    properties = {one["name"]: one["value"] for one in model["properties"]}
    assert properties["groundswell:imported_file:DiT-tiny.pt"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "datasets" not in model["modelCard"]["modelParameters"]


def test_ledger_and_lineage_name_the_file_and_say_what_is_unknown(imported: tuple[Home, Path, Called]) -> None:
    home, path, _ = imported
    (entry,) = iter_entries(home.database, action="checkpoint.imported")
    assert entry.details["files"] == {"DiT-tiny.pt": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert (entry.details["origin"], entry.details["licence"]) == (ORIGIN, LICENCE)
    graph = call_here(home.path, "--json", "lineage", "published/1", "--format", "json").document
    assert entry.subject in {node["subject"] for node in graph["nodes"]}
    assert any("was trained on is unknown" in question and ORIGIN in question for question in graph["open_questions"])
    audited = call_here(home.path, "--json", "audit", "verify")
    assert audited.exit_code == 0, audited.stdout + audited.stderr


def test_it_generates_by_label_and_knows_no_captions(imported: tuple[Home, Path, Called], tmp_path: Path) -> None:
    home = imported[0].path
    made = call_here(home, "--json", "generate", "published/1", "--label", "class 2", "--num-steps", 2, "--out", tmp_path)
    assert made.exit_code == 0, made.stderr
    assert len(made.document["files"]) == 1
    refused = call_here(home, "generate", "published/1", "--prompt", "a fox", "--out", tmp_path)
    assert (refused.exit_code, "ask by label" in refused.stderr) == (3, True)


def test_it_is_shown_and_compared_and_says_why_it_cannot_be_evaluated(imported: tuple[Home, Path, Called]) -> None:
    home = imported[0].path
    for arguments in (("models", "list"), ("models", "show", "published/1"), ("models", "diff", "published/1", "published/1")):
        called = call_here(home, *arguments)
        assert (called.exit_code, "published" in called.stdout) == (0, True), called.stderr
    refused = call_here(home, "evaluate", "published/1")
    assert (refused.exit_code, "fine-tune it on pictures of your own" in refused.stderr) == (3, True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_fine_tuned_into_a_version_that_names_its_licence(imported: tuple[Home, Path, Called], tmp_path: Path) -> None:
    shutil.copytree(imported[0].path, tmp_path / "home")
    called = run_finetune(tmp_path / "home", "published/1", own_pictures(tmp_path / "mugs"), "evaluate.num_steps=2")
    assert called.exit_code == 0, called.stderr
    home = Home.open(Settings.load(tmp_path / "home"))
    version = find_version(home.database, "published-finetuned/1")
    package = open_version(version, home.package_keys, home.package_cache)
    assert package.config["conditioning"]["labels"][-1] == "mug"
    assert f"published/1: imported from {ORIGIN}, licence {LICENCE}" in package.model_card
    (ancestor,) = json.loads(package.read_bytes("mlbom.cdx.json"))["metadata"]["component"]["pedigree"]["ancestors"]
    assert ancestor["licenses"] == [{"license": {"name": LICENCE}}]
    graph = call_here(home.path, "--json", "lineage", "published-finetuned/1", "--format", "json").document
    assert any("was trained on is unknown" in question for question in graph["open_questions"])


def test_its_bundle_verifies(imported: tuple[Home, Path, Called], tmp_path: Path) -> None:
    home, out = imported[0].path, tmp_path / "evidence.zip"
    assert call_here(home, "bundle", "export", "published/1", "-o", out).exit_code == 0
    assert call_here(home, "bundle", "verify", out, "--key", home / "keys" / "public" / "log.pem").exit_code == 0


def test_a_diffusers_pipeline_is_imported_with_its_own_codec_and_labels(home: Home, pipeline: Path, tmp_path: Path) -> None:
    called = import_diffusers(home.path, pipeline)
    assert called.exit_code == 0, called.stderr
    package = open_version(find_version(home.database, "published/1"), home.package_keys, home.package_cache)
    assert package.config["conditioning"]["labels"] == ["tench", "crane (1)", "shark", "crane (3)", "owl"]
    assert package.config["image_size"] == 16
    assert {"transformer/config.json", "vae/diffusion_pytorch_model.safetensors"} <= set(package.config["origin"]["files"])
    made = call_here(
        home.path, "--json", "generate", "published/1", "--label", "owl", "--num-steps", 2, "--out", tmp_path / "out"
    )
    assert made.exit_code == 0, made.stderr
    again = import_diffusers(home.path, pipeline)
    assert again.document["model_version"] == "published/1"  # the same work, and so the same package


def _link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _large(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate((64 << 30) + 1)


def _text(path: Path) -> None:
    path.write_text("no checkpoint")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_link, "is a symbolic link"),
        (_fifo, "is no file"),
        (_large, "larger than 65,536 MiB"),
        (_text, "the checkpoint cannot be read"),
        (Path.unlink, "does not exist"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_and_nothing_of_it_stays(
    home: Home, tiny_codec: Path, tmp_path: Path, harm: Callable[[Path], object], told: str
) -> None:
    path = write_facebook(tmp_path / "given")
    harm(path)
    _refused(home, import_facebook(home.path, path, tiny_codec), told)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: _link(folder / _WEIGHTS), "links are not followed"),
        (lambda folder: _link(folder / "transformer"), "holds no folder transformer"),
        (lambda folder: _link(folder / "vae"), "is a symbolic link"),
        (
            lambda folder: (folder / _WEIGHTS).rename(folder / "transformer" / "w.bin"),
            "w.bin is a pickle, which is never loaded",
        ),
        (lambda folder: (folder / "model_index.json").write_text("x" * (1 << 21)), "larger than 1 MiB"),
        (lambda folder: shutil.rmtree(folder / "vae"), "no codec is given to decode them"),
        (lambda folder: (folder / "vae" / "config.json").write_text("{}"), "config.json"),
    ],
)
def test_a_folder_that_cannot_be_imported_is_refused_and_nothing_of_it_stays(
    home: Home, pipeline: Path, harm: Callable[[Path], object], told: str
) -> None:
    harm(pipeline)
    _refused(home, import_diffusers(home.path, pipeline), told)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--name", "a b"), "--name"),
        (("--licence", "line\nbreak"), "--licence"),
        (("--num-heads", 0), "--num-heads"),
        (("--num-heads", 5), "not a multiple of num_heads"),
        (("--labels", "few.txt"), "2 different labels are named, the checkpoint knows 5"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    home: Home, tiny_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[object, ...], told: str
) -> None:
    (tmp_path / "few.txt").write_text("owl\nfox\n")
    monkeypatch.chdir(tmp_path)
    _refused(home, import_facebook(home.path, write_facebook(tmp_path), tiny_codec, *more), told)


def test_without_a_codec_or_with_one_of_other_channels_it_is_refused(home: Home, tmp_path: Path) -> None:
    path = write_facebook(tmp_path)
    _refused(home, import_facebook(home.path, path, None), "no codec is given to decode them")
    _refused(home, import_facebook(home.path, path, tmp_path), "there is no codec at")
    other = write_vae(tmp_path / "other", latent_channels=8, scaling_factor=0.5)
    _refused(home, import_facebook(home.path, path, other), "latents of 4 channels, the codec's have 8")


def _refused(home: Home, called: Called, told: str) -> None:
    assert called.exit_code == 3, called.stderr
    assert told in called.stderr
    assert sum(line.startswith("error: ") for line in called.stderr.splitlines()) == 1
    assert list_versions(home.database) == []
    assert not list(home.path.glob("runs/*/checkpoint"))
    assert not list(home.path.glob("work/*/outputs"))
