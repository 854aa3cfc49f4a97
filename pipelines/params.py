"""The parameters of a pipeline: typed, complete, and refused where a key is not known."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from components.specs import STEPS
from infra.errors import BadSettingError
from pipelines.graph import PIPELINES

_MAX_FILE_BYTES = 1 << 20


class DataParams(BaseModel):
    """Which dataset a pipeline runs on.

    Attributes:
        source: ``openmoji``, ``moving-openmoji``, ``fashion-mnist:FOLDER``, a folder to import, or that of a finished dataset.
        size: Height and width of the imported pictures, in pixels.
        categories: Which categories to import; all where none is named.
        limit: At most so many items; all where it is not given.
        frames: Frames of each clip, for a source of clips; its usual number where it is not given.
        fps: Frames a second, for a source of clips; its usual number where it is not given.
        graphics: Which graphics ``moving-openmoji`` sets in motion, by name; all of the categories where none is named.
        takes: How many clips it makes of each graphic in each motion; one where it is not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = "openmoji"
    size: int = Field(default=32, ge=8, le=1024)
    categories: tuple[str, ...] = ("flags", "faces", "food", "animals")
    limit: int | None = Field(default=None, ge=1)
    frames: int | None = Field(default=None, ge=2)
    fps: float | None = Field(default=None, gt=0, le=240)
    graphics: tuple[str, ...] | None = None
    takes: int | None = Field(default=None, ge=1)

    def import_options(self) -> dict[str, Any]:
        """Returns what the importer is asked for, by the names of `model_core.data.importing.import_dataset`."""
        return {
            "size": self.size,
            "categories": self.categories or None,
            "limit": self.limit,
            "frames": self.frames,
            "fps": self.fps,
            "graphics": self.graphics,
            "takes": self.takes,
        }


class BatchParams(BaseModel):
    """What a pipeline makes, with which model.

    Attributes:
        model: ``name@alias`` or ``name/version``.
        requests: The table of requests, a CSV file.
        out: The folder for the files; one in the run's own folder if not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    requests: Path | None = None
    out: Path | None = None


class PipelineParams(BaseModel):
    """What every pipeline takes: its steps' configurations, and what its kind takes beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def step_configs(self) -> dict[str, Any]:
        """Returns each step's complete configuration by the step's name."""
        return {name: config for name, config in self.model_dump(mode="json").items() if name in STEPS}


class DataPipelineParams(PipelineParams):
    """What a pipeline takes that runs on a dataset."""

    data: DataParams = DataParams()


class GenerationParams(PipelineParams):
    """What the generation pipeline takes beside its steps' configurations."""

    generation: BatchParams = BatchParams()


class TrainingParams(DataPipelineParams):
    """What the training pipeline takes beside its steps' configurations.

    Attributes:
        codec: ``shipped``, or the folder of a codec.
    """

    codec: str = "shipped"


class FinetuneDataParams(DataParams):
    """Which pictures a model is fine-tuned on; all of a folder's labels where none is named.

    Attributes:
        source: A folder of pictures with a `metadata.jsonl`, or a finished dataset; it has to be named.
        categories: Which labels to take; all where none is named.
    """

    categories: tuple[str, ...] = ()


class FinetuneParams(DataPipelineParams):
    """What the fine-tuning pipeline takes beside its steps' configurations.

    Attributes:
        base: The registered version to start from, ``name/version`` or ``name@alias``; it has to be named.
    """

    base: str = ""
    data: FinetuneDataParams = FinetuneDataParams()


_BASES: Mapping[str, type[PipelineParams]] = {
    "training": TrainingParams,
    "codec": DataPipelineParams,
    "finetune": FinetuneParams,
    "generation": GenerationParams,
}


def params_class(pipeline: str) -> type[PipelineParams]:
    """Returns the class of a pipeline's parameters.

    Raises:
        BadSettingError: There is no such pipeline.
    """
    if pipeline not in PIPELINES:
        raise BadSettingError(f"there is no pipeline {pipeline!r}", hint=f"pipelines: {', '.join(PIPELINES)}")
    configs = {step: STEPS[step].config_class() for step in PIPELINES[pipeline]}
    fields: dict[str, Any] = {step: (config, config()) for step, config in configs.items()}
    made: type[PipelineParams] = create_model(f"{pipeline.title()}PipelineParams", __base__=_BASES[pipeline], **fields)
    return made


def resolve_params(pipeline: str, *, params_file: Path | None = None, settings: Sequence[str] = ()) -> PipelineParams:
    """Returns a pipeline's parameters: ``-S`` settings over the file over the defaults.

    Args:
        pipeline: ``training``, ``codec``, ``finetune`` or ``generation``.
        params_file: A YAML file with the same keys.
        settings: Texts such as ``train_dit.num_steps=100``; values are YAML.

    Raises:
        BadSettingError: A key is not known or a value does not fit.
    """
    made = params_class(pipeline)
    values = _read_file(params_file) if params_file else {}
    for setting in settings:
        _set(values, setting)
    try:
        return made.model_validate(values)
    except ValidationError as error:
        raise _explain(made, error) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise BadSettingError(f"{path} is larger than 1 MiB", hint="a parameter file is a short YAML file")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadSettingError(
            f"{path} cannot be read: {' '.join(str(error).split())}", hint="it is a YAML file such as params.yaml"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadSettingError(f"{path} holds no mapping", hint="write keys such as train_dit: {num_steps: 100}")
    return values


def _set(values: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise BadSettingError(f"-S {setting!r} is no key=value", hint="write -S train_dit.num_steps=100")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadSettingError(f"-S {key}: the value is no YAML", hint="quote it") from error
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise BadSettingError(f"-S {key}: {parent} is a value, not a group")
    values[last] = value


def _explain(made: type[BaseModel], error: ValidationError) -> BadSettingError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    where = ".".join(path)
    if first["type"] != "extra_forbidden":
        return BadSettingError(f"{where}: {first['msg']}", hint="see docs/DATA_SCIENTIST.md for the parameters")
    near = difflib.get_close_matches(where, list(_keys(made)), n=1, cutoff=0.4)
    return BadSettingError(f"unknown parameter {where!r}", hint=f"did you mean {near[0]!r}?" if near else "see params.yaml")


def _keys(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
