"""Imports a published checkpoint as a registered model: its files are copied, put on record, and converted by a step."""

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import select

from components.runtime import run_step
from components.store import artifact_digest
from governance.canonical import canonical_digest, canonical_text
from infra.errors import BadSettingError
from infra.home import Home
from infra.ledger import sign_head
from infra.tables import artifacts
from pipelines.recorded import OnView, recorded_run, shown

PIPELINE: Final = "import"
STEP: Final = "import_checkpoint"
_MAX_WEIGHTS_BYTES: Final = 64 << 30
_MAX_CONFIG_BYTES: Final = 1 << 20
_CHUNK: Final = 1 << 22
_WEIGHTS: Final = "diffusion_pytorch_model.safetensors"
_PIPELINE_HINT: Final = "a diffusers pipeline is a folder with transformer/ and vae/"
_VAE_FILES: Final = ("config.json", _WEIGHTS)
# What is taken of a diffusers pipeline, and whether it has to be there.
_DIFFUSERS: Final = (
    ("transformer/config.json", True),
    (f"transformer/{_WEIGHTS}", True),
    ("scheduler/scheduler_config.json", False),
    ("model_index.json", False),
)


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What is to be imported.

    Attributes:
        path: A `.pt` file, or a folder of a diffusers pipeline.
        layout: Which of the two.
        name: The name to register it under.
        origin: Where it was got from.
        licence: Its licence.
        codec: A codec's folder, ours or an AutoencoderKL; a diffusers pipeline's own where it is not given.
        codec_scaling_factor: Scale factor of an AutoencoderKL that names none.
        num_heads: Attention heads of a `.pt` file of sizes that the paper does not have.
        labels: Names of its labels.
    """

    path: Path
    layout: Literal["facebook-dit", "diffusers"]
    name: str
    origin: str
    licence: str
    codec: Path | None = None
    codec_scaling_factor: float | None = None
    num_heads: int | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ImportOutcome:
    """What an import has come to.

    Attributes:
        run_id: The run.
        model_version: ``name/version``.
        root_digest: Root digest of its package.
        files: SHA-256 of the files that were given, by name.
    """

    run_id: str
    model_version: str
    root_digest: str
    files: dict[str, str]


def import_checkpoint(home: Home, request: ImportRequest, *, actor: str, on_view: OnView = lambda _: None) -> ImportOutcome:
    """Imports a published checkpoint and registers it.

    Args:
        home: The home.
        request: What.
        actor: The identity that imports.
        on_view: Called about five times a second with how far it has come.

    Raises:
        BadSettingError: A file is missing, a link, no regular file, or too large; or an option does not go with the layout.
        BadModelError: The checkpoint or the codec cannot be read, or they do not go together.
        RefusedError: The key that signs packages was revoked.
    """
    home.require_signing_key()
    wanted, own_codec = _wanted(request)
    params: dict[str, Any] = {
        "name": request.name,
        "layout": request.layout,
        "origin": request.origin,
        "licence": request.licence,
        "num_heads": request.num_heads,
        "labels": list(request.labels) if request.labels is not None else None,
        "codec_scaling_factor": request.codec_scaling_factor,
    }
    _require_sound(params)
    home.begin_mlflow_schema()
    with recorded_run(home, pipeline=PIPELINE, runner="in-process", params={STEP: params}, actor=actor) as run:
        folder = home.run_folder(run.run_id) / "checkpoint"
        try:
            files = {name: _copy(source, folder / name, name) for name, source in wanted.items()}
            given = {_given_name(request, name): digest for name, digest in sorted(files.items())}
            config = {**params, "files": given}
            digest = _record(home, folder, request, given, actor=actor, run_id=run.run_id)
            inputs = {"checkpoint": folder, **({"codec": own_codec} if own_codec is not None else {})}
            with shown(run, steps=(STEP,), on_view=on_view):
                run_step(run, STEP, config, inputs, declared={"checkpoint": digest})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        version, root_digest = _registered(home, run.run_id)
    with home.database.unit_of_work() as uow:
        sign_head(uow, home.keys)
    return ImportOutcome(run_id=run.run_id, model_version=version, root_digest=root_digest, files=given)


def _require_sound(params: dict[str, Any]) -> None:
    """Refuses values that the step would refuse, before anything is copied."""
    from pydantic import ValidationError

    from components.import_checkpoint.config import Config

    try:
        Config.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        told = f"--{'.'.join(map(str, first['loc'])).replace('_', '-')}: {first['msg']}"
        raise BadSettingError(told, hint="see `groundswell models import --help`") from error


def _wanted(request: ImportRequest) -> tuple[dict[str, Path], Path | None]:
    """Returns which files are taken, by their name in the record, and a codec of ours where one is given."""
    path = request.path
    if path.is_symlink() or not path.exists():
        raise BadSettingError(f"{path} does not exist, or is a symbolic link", hint="name the checkpoint itself")
    if request.layout == "facebook-dit":
        if not path.is_file():
            raise BadSettingError(f"{path} is no file", hint="a checkpoint of facebookresearch/DiT is one .pt file")
        wanted = {"checkpoint.pt": path}
    else:
        if not path.is_dir():
            raise BadSettingError(f"{path} is no folder", hint=_PIPELINE_HINT)
        if request.num_heads is not None:
            raise BadSettingError("--num-heads is for the layout facebook-dit", hint="a diffusers folder says how many there are")
        wanted = _of_pipeline(path)
    codec = request.codec
    if codec is None:
        if request.layout == "diffusers" and (path / "vae").is_dir():
            return {**wanted, **_of_vae(path / "vae")}, None
        raise BadSettingError(
            "the checkpoint makes latents, and no codec is given to decode them",
            hint="give the one that it was trained with, an AutoencoderKL's folder or a codec's: --codec FOLDER",
        )
    if codec.is_symlink() or not (codec / "config.json").is_file():
        raise BadSettingError(f"there is no codec at {codec}", hint="it is a folder with a config.json and safetensors weights")
    if (codec / _WEIGHTS).exists():
        return {**wanted, **_of_vae(codec)}, None
    return wanted, codec.absolute()


def _of_pipeline(folder: Path) -> dict[str, Path]:
    transformer = folder / "transformer"
    if transformer.is_symlink() or not transformer.is_dir():
        raise BadSettingError(f"{folder} holds no folder transformer", hint=_PIPELINE_HINT)
    if not (transformer / _WEIGHTS).exists():
        found = sorted(one.name for one in transformer.iterdir())[:20]
        pickled = next((name for name in found if name.endswith((".bin", ".pt", ".pth", ".ckpt"))), None)
        raise BadSettingError(
            f"{transformer} holds no {_WEIGHTS}" + (f"; {pickled} is a pickle, which is never loaded" if pickled else ""),
            hint="weights are one safetensors file",
        )
    return {name: folder / name for name, needed in _DIFFUSERS if needed or (folder / name).exists()}


def _of_vae(folder: Path) -> dict[str, Path]:
    if folder.is_symlink():
        raise BadSettingError(f"{folder} is a symbolic link", hint="name the folder itself")
    return {f"vae/{name}": folder / name for name in _VAE_FILES}


def _copy(source: Path, target: Path, name: str) -> str:
    """Copies a file without following links in its place, and returns its SHA-256."""
    bound = _MAX_CONFIG_BYTES if source.suffix == ".json" else _MAX_WEIGHTS_BYTES
    if source.parent.is_symlink():
        raise BadSettingError(f"{source.parent} is a symbolic link", hint="name the checkpoint itself")
    try:
        descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise BadSettingError(
            f"{source} cannot be read: {error.strerror}", hint="links are not followed; name the checkpoint itself"
        ) from error
    digest, size = hashlib.sha256(), 0
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_size > bound:
            told = f"{name} is no regular file, or larger than {bound >> 20:,} MiB"
            raise BadSettingError(told, hint="give the published files")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > bound:
                    raise BadSettingError(f"{name} grew while it was read", hint="import it once it is complete")
                digest.update(chunk)
                copy.write(chunk)
    return digest.hexdigest()


def _given_name(request: ImportRequest, name: str) -> str:
    """Returns what a person calls a file that was given."""
    return request.path.name if name == "checkpoint.pt" else name


def _record(home: Home, folder: Path, request: ImportRequest, files: dict[str, str], *, actor: str, run_id: str) -> str:
    """Puts on record which files were given and what is said of them; what is recorded already stays as it is."""
    digest = artifact_digest("checkpoint", folder)
    columns = artifacts.c
    with home.database.read() as connection:
        known = connection.execute(select(columns.digest).where(columns.digest == digest, columns.kind == "checkpoint")).first()
    if known is not None:
        return digest
    facts = {
        "files": files,
        "layout": request.layout,
        "origin": request.origin,
        "licence": request.licence,
        "training_data": "not known to groundswell; as stated by the origin",
    }
    with home.database.unit_of_work() as uow:
        uow.connection.execute(
            artifacts.insert().values(
                digest=digest,
                kind="checkpoint",
                location=str(request.path.absolute()),
                facts=canonical_text(facts),
                created=uow.time,
            )
        )
        details = {**facts, "created": uow.time, "facts_digest": canonical_digest(facts)}
        uow.append("checkpoint.imported", f"checkpoint:{digest}", details, actor=actor, run_id=run_id)
    return digest


def _registered(home: Home, run_id: str) -> tuple[str, str]:
    from infra.runs import get_steps

    with home.database.read() as connection:
        (step,) = get_steps(connection, run_id)
    facts = step.record["facts"]
    return f"{facts['name']}/{facts['version']}", str(facts["root_digest"])
