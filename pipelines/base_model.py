"""The registered model that a fine-tuning starts from: opened and verified, and what follows from it for the parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from governance.errors import IntegrityError
from governance.model_records import frames_of
from infra.artifact_folders import find_artifact
from infra.errors import BadSettingError
from infra.home import Home
from infra.model_versions import ModelVersion, find_version, open_version
from infra.withdrawal_reach import require_none_behind
from pipelines.params import FinetuneParams

if TYPE_CHECKING:
    from infra.model_package import ModelPackage

_FILLED = ("encode_latents", "finetune_dit", "evaluate", "register_model")
_SOURCE_HINT = "name a folder with pictures and a metadata.jsonl: -S data.source=FOLDER"


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A verified base.

    Attributes:
        version: The registered version.
        package: Its package, verified.
        codec: The folder of its codec.
    """

    version: ModelVersion
    package: "ModelPackage"
    codec: Path

    @property
    def arguments(self) -> dict[str, str]:
        """What the pipeline takes of it."""
        return {"base": str(self.package.folder), "codec": str(self.codec)}


def open_base(home: Home, params: FinetuneParams) -> BaseModel:
    """Opens the base that parameters name, after verifying all of it.

    Raises:
        BadSettingError: No base is named.
        UnknownSubjectError: There is no such version.
        IntegrityError: It was never registered here, or its package is not what was registered.
        RefusedError: Items of its data were withdrawn since, or the key that signed it was revoked.
    """
    if not params.base:
        raise BadSettingError("no base is named", hint="name the registered model to start from: --base NAME/VERSION")
    version = find_version(home.database, params.base)
    package = open_version(version, home.package_keys, home.package_cache)
    require_none_behind(home.database, f"package:{version.root_digest}", f"the base {version.name}/{version.version}")
    return BaseModel(version=version, package=package, codec=_codec_of(home, package))


def filled_from_base(params: FinetuneParams, base: BaseModel) -> FinetuneParams:
    """Returns parameters with the base's identity, and what was not set chosen as the base asks for.

    Raises:
        BadSettingError: No pictures are named, or the fine-tuned model would be a version of its base's name.
    """
    version, config = base.version, base.package.config
    data = params.data
    if "source" not in data.model_fields_set:
        raise BadSettingError("no pictures are named to learn from", hint=_SOURCE_HINT)
    num_frames = frames_of(config)
    of_base: dict[str, Any] = {"size": config["image_size"]}
    of_base |= {"frames": num_frames, "fps": config.get("fps")} if num_frames > 1 else {}
    steps: dict[str, Any] = {name: getattr(params, name) for name in _FILLED}
    changes = {
        "finetune_dit": {
            "base": {"name": version.name, "version": version.version, "root_digest": version.root_digest},
        },
        "evaluate": _unset(steps["evaluate"], category_accuracy=False),  # a company's own pictures are often of one kind
        "register_model": _unset(steps["register_model"], name=f"{version.name[:80]}-finetuned"),
        "encode_latents": _unset(
            steps["encode_latents"], caption_tokens=config["architecture"].get("text_conditioning") == "cross_attention"
        ),
    }
    filled = {name: type(step).model_validate({**step.model_dump(), **changes[name]}) for name, step in steps.items()}
    if filled["register_model"].name == version.name:
        raise BadSettingError(
            f"the fine-tuned model would be registered as a version of its base, {version.name}",
            hint="choose a name of its own: -S register_model.name=NAME",
        )
    return params.model_copy(
        update={
            "base": f"{version.name}/{version.version}",
            "data": data.model_copy(update=_unset(data, **of_base)),
            **filled,
        }
    )


def _unset(chosen: Any, **values: Any) -> dict[str, Any]:
    """Returns those values whose names nobody has set."""
    return {name: value for name, value in values.items() if name not in chosen.model_fields_set}


def _codec_of(home: Home, package: "ModelPackage") -> Path:
    """Returns the codec that the base was trained with where it is still at hand, so that lineage leads on from it.

    Otherwise it is the package's own copy, with the same weights.
    """
    try:
        found = find_artifact(home, "codec", str(package.config["codec_digest"]))
    except IntegrityError:  # the package's copy is what was signed
        found = None
    return found or package.codec
