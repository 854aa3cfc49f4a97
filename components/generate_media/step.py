"""Makes pictures or clips with a model package."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from components.generate_media.config import Config
from components.generate_media.files import GRID_NAME, chosen_format, enlarged, write_media
from components.generate_media.formats import DEFAULT_FPS
from components.generate_media.long_clips import LongClips
from components.generate_media.near_copies import NearCopies, open_checker
from components.ports import Ports, StepReport, Watermarker
from model_core.codec.autoencoder import Codec
from model_core.codec.batches import clips_to_unit_range
from model_core.codec.io import load_codec
from model_core.conditioning.text import MiniLMEncoder, TextEncoder
from model_core.data.media import Pixels
from model_core.errors import BadDataError, BadModelError
from model_core.sampling.generate import generate_clips, load_transformer
from model_core.sampling.long_clips import plan_windows
from model_core.sampling.seeds import image_seed
from model_core.transformer.model_config import TextEncoderId

REQUEST_NAME = "request.json"
SOURCE_NAME = "source.npy"
MEDIA_NAME = "media.json"
_MAX_PROMPT = 2000


class Request(BaseModel):
    """What is asked for: a prompt, a label, or both.

    Attributes:
        prompt: A caption in plain words.
        label: The name of a label that the model knows.
        source: Whether there is a picture or clip to start from, `SOURCE_NAME` beside the request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str | None = Field(default=None, max_length=_MAX_PROMPT)
    label: str | None = None
    source: bool = False


def run(
    config: Config,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    ports: Ports,
    *,
    text_encoder: TextEncoder | None = None,
) -> StepReport:
    """Makes pictures or clips for one request.

    Args:
        config: How many, from which seed.
        inputs: ``package``, verified by who opened it; ``request`` with request.json and perhaps source.npy, the frames of
            what to start from, at the size and length of what is made; and, where there is one, ``evaluation``, the package's,
            verified, too: by its index near-copies of training items are found.
        outputs: ``media``: image-000000.png or clip-000000.mp4 and so on, media.json, grid.png with all of them, and
            memorisation.json, which says of which samples nothing was written.
        ports: Progress, and what marks the pixels; where there is none, they are not marked.
        text_encoder: Embeds the prompt; the one that ships with the platform if not given.

    Raises:
        BadDataError: The request is malformed, empty, or names a label, a length or a format that the model does not know; or the
            source does not fit the rest.
        BadModelError: The package is damaged or needs another text encoder, a sample does not come out finite, or a batch does
            not fit into memory.
    """
    request = read_request(inputs["request"] / REQUEST_NAME)
    transformer, model_config = load_transformer(inputs["package"])
    num_frames = config.num_frames or model_config.frames
    media_format = chosen_format(config.media_format, num_frames)
    source = read_source(inputs["request"], request, config)
    label = _label_index(request, model_config.conditioning.labels)
    text = states = None
    if request.prompt is not None:
        if model_config.conditioning.text_encoder is None:
            raise BadModelError("the model has learnt from no captions", hint="ask by label")
        encoder = text_encoder or MiniLMEncoder()
        _require_encoder(encoder, model_config.conditioning.text_encoder)
        text = encoder.encode([request.prompt])
        states = encoder.encode_tokens([request.prompt])[0] if transformer.config.reads_text_states else None
    size, seeds = model_config.image_size * config.upscale, [image_seed(config.seed, index) for index in range(config.num_images)]
    codec = load_codec(inputs["package"] / "codec")
    checker = open_checker(inputs.get("evaluation"), config.memorisation, device=config.device, ports=ports)
    watermarker = ports.watermarker if config.watermark else None
    if num_frames > model_config.frames:
        if source is not None:
            hint = f"make {model_config.frames} frames at most, and continue what comes of it"
            raise BadDataError("clips longer than the model's own are not made from a source", hint=hint)
        long = LongClips(
            transformer=transformer,
            model_config=model_config,
            codec=codec,
            plan=plan_windows(model_config, num_frames),
            asked={"label": label, "text": text, "text_states": None if states is None else states[None]},
            fps=model_config.fps or DEFAULT_FPS,
            media_format=media_format,
            checker=checker,
            watermarker=watermarker,
        )
        media, checked = long.write(config, seeds, request.label, outputs["media"], ports)
        return _finished(media, checked, seeds, (num_frames, size), outputs["media"])
    samples = generate_clips(
        transformer,
        model_config,
        codec,
        **({} if source is None else _starting_from(source, codec, config, len(seeds))),
        labels=[label] * len(seeds),
        text=None if text is None else text.expand(len(seeds), -1),
        text_states=None if states is None else states.expand(len(seeds), -1, -1),
        seeds=seeds,
        num_steps=config.num_steps,
        guidance_scale=config.guidance_scale,
        sampler=config.sampler,
        **config.chosen(),
        batch_size=config.batch_size,
        device=config.device,
        progress=lambda done, total: ports.progress.update(done, total, "making pictures" if num_frames == 1 else "making clips"),
        num_frames=config.num_frames,
    )
    checked = checker.result(checker.near_copies(samples))
    kept = checked.kept(len(seeds))
    samples = enlarged(samples[kept], config.upscale)
    watermark_ids = _mark(samples, watermarker)
    media = write_media(
        samples,
        [seeds[index] for index in kept],
        request.label,
        watermark_ids=watermark_ids,
        fps=model_config.fps or DEFAULT_FPS,
        media_format=media_format,
        folder=outputs["media"],
    )
    return _finished(media, checked, seeds, (num_frames, size), outputs["media"])


def _finished(
    media: list[dict[str, Any]], checked: NearCopies, seeds: list[int], shape: tuple[int, int], folder: Path
) -> StepReport:
    """Writes what goes with the files, and returns what the step says of itself."""
    num_frames, size = shape
    checked.write(folder, seeds)
    (folder / MEDIA_NAME).write_text(json.dumps(media, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return StepReport(
        metrics={"num_images": float(len(media))},
        summary=f"{len(media)} {'pictures' if num_frames == 1 else f'clips of {num_frames} frames'} of {size}x{size} pixels"
        + checked.summary(),
        facts={"media": media},
        artifacts={"media": (GRID_NAME, MEDIA_NAME)},
    )


def read_request(path: Path) -> Request:
    """Reads a request.

    Raises:
        BadDataError: It is missing, malformed, or asks for nothing; the message does not repeat the prompt.
    """
    try:
        request = Request.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BadDataError(f"{path.name} does not exist", hint="give a prompt or a label") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise BadDataError(f"{path.name}: {where}: {first['msg']}") from None
    if request.prompt is not None and (not request.prompt.strip() or "\0" in request.prompt):
        raise BadDataError("the prompt is empty or holds a NUL character", hint="describe a picture in a few words")
    if request.prompt is None and request.label is None and not request.source:
        raise BadDataError("the request names neither a prompt nor a label", hint="give one of them")
    return request


def _mark(samples: np.ndarray, watermarker: Watermarker | None) -> list[str | None]:
    """Marks samples, uint8 [n frames height width 3], where they are; returns the id in each, None where it bears none."""
    if watermarker is None:
        return [None] * len(samples)
    ids = []
    for index, frames in enumerate(samples):
        samples[index], watermark_id = watermarker.mark(frames)
        ids.append(watermark_id)
    return ids


def read_source(folder: Path, request: Request, config: Config) -> Pixels | None:
    """Reads what to start from, uint8 [frames size size 3]; None where there is nothing.

    Raises:
        BadDataError: It is missing or damaged, or the configuration does not fit it.
    """
    if not request.source:
        if config.strength is not None or config.keep_frames:
            raise BadDataError("there is no source, of which strength and kept frames could speak", hint="leave them out")
        return None
    if config.strength is None and not config.keep_frames:
        raise BadDataError("how much of the source stays is not said", hint="give a strength from 0 to 1, or frames to keep")
    try:
        frames: Pixels = np.load(folder / SOURCE_NAME, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadDataError(f"{SOURCE_NAME} cannot be read: {error!s:.200}") from error
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise BadDataError(f"the source has shape {list(frames.shape)} and type {frames.dtype}, which are no frames")
    if (last := max(config.keep_frames, default=0)) >= len(frames):
        hint = f"they are counted from 0 to {len(frames) - 1}"
        raise BadDataError(f"frame {last} cannot be kept where there are {len(frames)}", hint=hint)
    return frames


def _starting_from(source: Pixels, codec: Codec, config: Config, count: int) -> dict[str, Any]:
    """Returns what `generate_clips` takes to start so many samples from a source."""
    clip = clips_to_unit_range(torch.from_numpy(source)[None])  # [1 3 frames size size]
    with torch.no_grad():
        latents = codec.encode(clip)
    return {
        "start": latents.expand(count, -1, -1, -1, -1),
        "strength": 1.0 if config.strength is None else config.strength,
        "keep": _kept_groups(config.keep_frames, len(source), codec),
        "num_passes": config.num_passes,
    }


def _kept_groups(kept: Sequence[int], num_frames: int, codec: Codec) -> Tensor:
    """Returns which latent frames stay, bool [latent frames]: those of which every frame does.

    Raises:
        BadDataError: A latent frame codes frames of which some are to stay and others are not.
    """
    factor = codec.config.temporal_factor
    keep = torch.zeros(num_frames, dtype=torch.bool)
    keep[list(kept)] = True
    groups = [keep[max(0, end - factor) : end] for end in range(num_frames, 0, -factor)][::-1]
    for number, group in enumerate(groups):
        if bool(group.any()) and not bool(group.all()):
            last = num_frames - (len(groups) - 1 - number) * factor - 1
            raise BadDataError(
                f"frames {last - len(group) + 1} to {last} are one to the model's codec: all of them stay, or none",
                hint=f"keep, or go on from, whole groups of {factor} frames, counted from the end of {num_frames}",
            )
    return torch.stack([group.all() for group in groups])


def _label_index(request: Request, labels: list[str]) -> int | None:
    if request.label is None:
        return None
    if request.label not in labels:
        raise BadDataError(f"the model knows no label {request.label!r}", hint=f"it knows: {', '.join(labels)}")
    return labels.index(request.label)


def _require_encoder(encoder: TextEncoder, expected: TextEncoderId) -> None:
    """Refuses an encoder that the model was not trained with."""
    if encoder.digest != expected.digest:
        raise BadModelError(
            f"the model was trained with text encoder {expected.name} {expected.digest[:12]}, "
            f"here is {encoder.name} {encoder.digest[:12]}",
            hint="install the text encoder that the model names, or ask by label",
        )
