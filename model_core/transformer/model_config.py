"""A model's `config.json`: what a transformer is, what it learnt from, how it is sampled; importing this imports no tensors."""

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from model_core.diffusion.names import ObjectiveName, ScheduleName
from model_core.errors import BadModelError
from model_core.sampling.names import SamplerName, fitting_samplers
from model_core.sampling.options import SamplingOptions, option_in_vain
from model_core.transformer.config import TransformerConfig

CONFIG_NAME = "config.json"
FORMAT: Final = "groundswell-dit/1"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TextEncoderId(_Frozen):
    """The text encoder whose embeddings the model was trained on."""

    name: str
    digest: str
    dim: int


class Conditioning(_Frozen):
    """What the model can be asked for: labels by place, captions by encoder; one that never saw captions has none."""

    labels: list[str]
    text_encoder: TextEncoderId | None = None


class SamplingDefaults(SamplingOptions):
    """How samples are made where nobody says otherwise.

    Attributes:
        num_steps: Steps of the sampler.
        guidance_scale: s of P8.
        sampler: The objective's own default if None.
    """

    num_steps: int = Field(ge=1)
    guidance_scale: float
    sampler: SamplerName | None = None

    @model_serializer(mode="wrap")
    def _without_what_was_not_chosen(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out options that were not chosen: a model without any has the bytes that it had before there were options."""
        values: dict[str, Any] = handler(self)
        left_out = SamplingOptions.model_fields.keys() - self.chosen().keys()
        return {name: value for name, value in values.items() if name not in left_out}


class NoiseScheduleId(_Frozen):
    """Which noise schedule a model was trained with that predicts noise, x_0 or v."""

    name: ScheduleName
    num_timesteps: int = Field(ge=1)
    zero_terminal_snr: bool = False


class ModelConfig(BaseModel):
    """A model's `config.json`; a package adds keys of its own at the top, which are left alone here.

    Attributes:
        format: `groundswell-dit/1`.
        architecture: The fields of a `TransformerConfig`.
        objective: What the network predicts.
        noise_schedule: Present for every objective but rectified flow, which has none and ignores one.
        conditioning: Labels and text encoder.
        latent_shape: Channels, latent frames, height, width of a sample's latents.
        image_size: Side of a decoded picture in pixels.
        fps: Frames a second of a clip; 0.0 for pictures.
        num_frames: Frames of a clip, where the codec compresses in time; None where they are as many as the latents'.
        codec_digest: Digest of the codec that decodes it.
        dataset_digest: Digest of the dataset that it learnt from.
        sampling: Defaults for sampling.
        training: Hyperparameters of the training run, for the record.
        libraries: Versions of the libraries that computed the weights, by name, for the record.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["groundswell-dit/1"] = FORMAT
    architecture: dict[str, Any]
    objective: ObjectiveName
    noise_schedule: NoiseScheduleId | None = None
    conditioning: Conditioning
    latent_shape: tuple[int, int, int, int]
    image_size: int = Field(ge=1)
    fps: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    num_frames: int | None = Field(default=None, ge=1)
    codec_digest: str
    dataset_digest: str
    sampling: SamplingDefaults
    training: dict[str, Any]
    libraries: dict[str, str] = Field(default_factory=dict)

    def transformer(self) -> TransformerConfig:
        """Returns the architecture, checked against the rest.

        Raises:
            BadModelError: It describes no transformer, or one that labels, captions or latents do not fit.
        """
        config = TransformerConfig.from_dict(self.architecture)
        config.grid(self.latent_shape)
        if self.frames < self.latent_shape[1]:
            raise BadModelError(f"model config.json: clips of {self.frames} frames have no {self.latent_shape[1]} latent frames")
        if config.num_labels != len(self.conditioning.labels):
            raise BadModelError(
                f"model config.json names {len(self.conditioning.labels)} labels, its architecture has {config.num_labels}"
            )
        encoder = self.conditioning.text_encoder
        if config.text_dim not in {0, encoder.dim if encoder else 0}:
            raise BadModelError(
                f"model config.json: captions of width {encoder.dim if encoder else 0}, architecture for {config.text_dim}"
            )
        self._require_objective_that_fits(config)
        self._require_sampling_that_fits(config)
        return config

    @property
    def sampler(self) -> SamplerName:
        """The sampler where nobody names another."""
        return self.sampling.sampler or fitting_samplers(self.objective)[0]

    @property
    def frames(self) -> int:
        """Frames of a sample: 1 for pictures."""
        return self.latent_shape[1] if self.num_frames is None else self.num_frames

    @property
    def extends_clips(self) -> bool:
        """Whether it makes clips of any length: it has learnt to go on from frames, and its codec codes frame by frame."""
        learnt = self.latent_shape[1] > 1 and self.training.get("frame_times", "shared") != "shared"
        return learnt and self.frames == self.latent_shape[1]

    def _require_objective_that_fits(self, config: TransformerConfig) -> None:
        schedule = self.noise_schedule
        if self.objective != "rectified_flow" and schedule is None:
            raise BadModelError(f"model config.json: the {self.objective} objective needs a noise_schedule")
        if self.objective == "epsilon" and schedule is not None and schedule.zero_terminal_snr:
            raise BadModelError(
                "model config.json: the epsilon objective cannot have zero terminal SNR",
                hint="pure noise says nothing about the data there; such models predict v or x0",
            )
        if self.objective == "rectified_flow" and config.learn_variance:
            raise BadModelError("model config.json: rectified flow has no variance to learn, its architecture learns one")

    def _require_sampling_that_fits(self, config: TransformerConfig) -> None:
        sampling, schedule = self.sampling, self.noise_schedule
        if self.sampler not in fitting_samplers(self.objective):
            raise BadModelError(
                f"model config.json: the sampler {self.sampler} cannot sample {self.objective}",
                hint=f"choose {', '.join(fitting_samplers(self.objective))}",
            )
        if self.objective != "rectified_flow" and schedule is not None and sampling.num_steps > schedule.num_timesteps:
            raise BadModelError(
                f"model config.json: sampling takes {sampling.num_steps} steps, the noise schedule has {schedule.num_timesteps}",
                hint=f"sample in 1 to {schedule.num_timesteps} steps, or train on a schedule of more",
            )
        problem = option_in_vain(
            self.sampler,
            self.objective,
            learn_variance=config.learn_variance,
            time_shift=sampling.time_shift,
            eta=sampling.eta,
            ddpm_variance=sampling.ddpm_variance,
        )
        if problem is not None:
            raise BadModelError(f"model config.json: {problem[0]}", hint=problem[1])


def write_model_config(config: ModelConfig, folder: Path) -> None:
    """Writes `config.json`; the same values give the same bytes. Pictures have no frames a second."""
    left_out = {name for name in ("fps", "num_frames") if not getattr(config, name)}
    values = config.model_dump(mode="json", exclude=left_out)
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")


def read_model_config(folder: Path) -> ModelConfig:
    """Reads the `config.json` of a model or package.

    Raises:
        BadModelError: It is missing, not JSON, or lacks something.
    """
    path = folder / CONFIG_NAME
    try:
        return ModelConfig.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BadModelError(f"{path} does not exist", hint="a model is a folder made by the training pipeline") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise BadModelError(f"{path}: {where}: {first['msg']}") from error
