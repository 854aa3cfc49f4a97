"""Tiny but complete outputs of the steps before register_model, and a package-signing key."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image
from safetensors.numpy import save_file

from governance.digest import tree_digest
from governance.package_contents import PackageSources, build_package
from governance.platform_keys import PlatformKey, fingerprint_of
from infra.mlflow_client import initialise_mlflow
from infra.package_keys import PackageKeys

NAME = "emoji-dit"
ATTRIBUTION = "Graphics by the OpenMoji project | CC BY-SA 4.0"
CODE_DIGESTS = {"train_dit": "c0" * 32, "evaluate": "c1" * 32}


def write_key(folder: Path) -> tuple[Path, Path]:
    """Writes a package-signing key pair; returns (private, public)."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "package-signing.pem", folder / "package-signing.pub.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def package_keys(public: Path) -> PackageKeys:
    """Returns a package-signing key that no ledger names as one that signs packages."""
    pem = public.read_text(encoding="utf-8")
    key = PlatformKey(
        name="package-signing", algorithm="ecdsa-p256", public_key_pem=pem, fingerprint=fingerprint_of(pem), since=""
    )
    return PackageKeys([key])


def copy_home_with_schema(home: Path) -> None:
    """Puts a database with MLflow's schema, which takes seconds to make and so is made once, into a home."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(_template().name) / "groundswell.db", home / "groundswell.db")


@lru_cache(maxsize=1)
def _template() -> "tempfile.TemporaryDirectory[str]":
    folder = tempfile.TemporaryDirectory()
    initialise_mlflow(f"sqlite:///{folder.name}/groundswell.db", f"{folder.name}/mlartifacts")
    return folder


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, sort_keys=True), encoding="utf-8")


def write_inputs(root: Path, *, validation_success: bool = True, weight: float = 0.5, width: int = 16) -> dict[str, Path]:
    """Writes the six inputs of register_model below a folder; the model has width x width weights, all of one value."""
    inputs = {name: root / name for name in ("model", "codec", "latents", "dataset", "validation", "evaluation")}
    for folder in inputs.values():
        folder.mkdir(parents=True)
    _write_dataset(inputs["dataset"])
    dataset_digest = tree_digest(inputs["dataset"])
    write_json(
        inputs["validation"] / "report.json",
        {
            "success": validation_success,
            "dataset_digest": dataset_digest,
            "num_rows": 5,
            "expectations": [{"type": "expect_column_values_to_not_be_null", "success": True}],
        },
    )
    write_json(
        inputs["codec"] / "config.json",
        {
            "format": "groundswell-codec/1",
            "latent_channels": 8,
            "downscale": 4,
            "latent_mean": [0.0] * 8,
            "latent_std": [1.0] * 8,
        },
    )
    save_file({"decoder.weight": np.full((8, 3), 0.25, np.float32)}, inputs["codec"] / "codec.safetensors")
    write_json(inputs["codec"] / "report.json", {"psnr": 25.0})
    write_json(inputs["latents"] / "config.json", {"dataset_digest": dataset_digest})
    _write_model(inputs["model"], dataset_digest, tree_digest(inputs["codec"]), np.full((width, width), weight, np.float32))
    _write_evaluation(inputs["evaluation"])
    return inputs


def make_sources(inputs: Mapping[str, Path]) -> PackageSources:
    return PackageSources(
        model=inputs["model"],
        codec=inputs["codec"],
        dataset=inputs["dataset"],
        validation=inputs["validation"],
        evaluation=inputs["evaluation"],
        digests={name: tree_digest(path) for name, path in inputs.items()},
        num_items={"holdout": 1, "train": 4},
        licences={"CC-BY-SA-4.0": 5},
        code_digests=CODE_DIGESTS,
    )


def make_package(root: Path, **options: Any) -> Path:
    """Builds an unsigned package from fresh inputs."""
    package = root / "package"
    package.mkdir(parents=True)
    build_package(package, make_sources(write_inputs(root / "inputs", **options)), name=NAME)
    return package


def _write_dataset(folder: Path) -> None:
    table = pa.table({"split": ["train"] * 4 + ["holdout"], "licence": ["CC-BY-SA-4.0"] * 5, "source": ["OpenMoji 17.0.0"] * 5})
    pq.write_table(table, folder / "manifest.parquet")
    write_json(
        folder / "dataset.json",
        {
            "name": "openmoji",
            "importer": "openmoji",
            "options": {},
            "labels": ["flags", "food"],
            "licences": ["CC-BY-SA-4.0"],
            "attribution": ATTRIBUTION,
            "image_size": 32,
        },
    )


def _write_model(folder: Path, dataset_digest: str, codec_digest: str, weights: np.ndarray) -> None:
    write_json(
        folder / "config.json",
        {
            "format": "groundswell-dit/1",
            "architecture": {"hidden_size": 16, "depth": 1, "num_heads": 2, "patch_size": [1, 2, 2], "in_channels": 8},
            "objective": "rectified_flow",
            "conditioning": {
                "labels": ["flags", "food"],
                "text_encoder": {"name": "all-MiniLM-L6-v2", "digest": "ee" * 32, "dim": 384},
            },
            "latent_shape": [8, 1, 8, 8],
            "image_size": 32,
            "libraries": {"torch": "2.13.0+cpu"},
            "codec_digest": codec_digest,
            "dataset_digest": dataset_digest,
            "sampling": {"num_steps": 20, "guidance_scale": 3.0},
            "training": {"num_steps": 1470, "batch_size": 32, "learning_rate": 0.001, "seed": 0},
        },
    )
    save_file({"blocks.0.weight": weights}, folder / "transformer.safetensors")
    write_json(folder / "training.json", {"losses": [1.0, 0.5]})


def _write_evaluation(folder: Path) -> None:
    write_json(
        folder / "report.json",
        {
            "metrics": {
                "kid": 0.0731,
                "kid_low": 0.061,
                "kid_high": 0.0853,
                "kid_real": 0.0004,
                "kid_noise": 0.52,
                "category_accuracy": 0.8125,
                "category_accuracy_low": 0.76,
                "category_accuracy_high": 0.86,
                "category_accuracy_chance": 0.5,
                "category_accuracy_real": 0.975,
                "memorised_share": 0.0,
                "memorised_share_real": 0.01,
            },
            "num_samples": 256,
            "num_train": 4,
            "num_holdout": 1,
            "features": {"name": "EfficientNet-Lite0", "weights_licence": "not stated"},
        },
    )
    Image.new("RGB", (8, 8), (200, 30, 30)).save(folder / "samples.png")
    (folder / "report.html").write_text("<html></html>")
