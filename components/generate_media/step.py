"""Makes pictures with a model package."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.generate_media.config import Config
from components.ports import Ports, StepReport
from governance.digest import sha256_file
from model_core.codec.io import load_codec
from model_core.conditioning.text import MiniLMEncoder, TextEncoder
from model_core.errors import BadDataError, BadModelError
from model_core.sampling.generate import generate_images, load_transformer
from model_core.sampling.seeds import image_seed
from model_core.transformer.model_config import TextEncoderId

REQUEST_NAME = "request.json"
MEDIA_NAME = "media.json"
GRID_NAME = "grid.png"
_MAX_PROMPT = 2000
_GRID_GAP = 2


class Request(BaseModel):
    """What is asked for: a prompt, a label, or both.

    Attributes:
        prompt: A caption in plain words.
        label: The name of a label that the model knows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str | None = Field(default=None, max_length=_MAX_PROMPT)
    label: str | None = None


def run(
    config: Config,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    ports: Ports,
    *,
    text_encoder: TextEncoder | None = None,
) -> StepReport:
    """Makes pictures for one request.

    Args:
        config: How many, from which seed.
        inputs: ``package``, verified by who opened it, and ``request`` with request.json.
        outputs: ``media``: image-000000.png and so on, media.json, and grid.png with all of them.
        ports: Progress.
        text_encoder: Embeds the prompt; the one that ships with the platform if not given.

    Raises:
        BadDataError: The request is malformed, empty, or names a label that the model does not know.
        BadModelError: The package is damaged or needs another text encoder, a picture does not come out finite, or a batch does
            not fit into memory.
    """
    request = read_request(inputs["request"] / REQUEST_NAME)
    transformer, model_config = load_transformer(inputs["package"])
    label = _label_index(request, model_config.conditioning.labels)
    text = states = None
    if request.prompt is not None:
        encoder = text_encoder or MiniLMEncoder()
        _require_encoder(encoder, model_config.conditioning.text_encoder)
        text = encoder.encode([request.prompt])
        states = encoder.encode_tokens([request.prompt])[0] if transformer.config.reads_text_states else None
    seeds = [image_seed(config.seed, index) for index in range(config.num_images)]
    images = generate_images(
        transformer,
        model_config,
        load_codec(inputs["package"] / "codec"),
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
        progress=lambda done, total: ports.progress.update(done, total, "making pictures"),
    )
    media = _write_media(images, seeds, request.label, outputs["media"])
    return StepReport(
        metrics={"num_images": float(len(media))},
        summary=f"{len(media)} pictures of {model_config.image_size}x{model_config.image_size} pixels",
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
    if request.prompt is None and request.label is None:
        raise BadDataError("the request names neither a prompt nor a label", hint="give one of them")
    return request


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


def _write_media(images: np.ndarray, seeds: list[int], label: str | None, folder: Path) -> list[dict[str, Any]]:
    """Writes pictures, grid and list; the same pixels give the same bytes, and no file says more than its pixels."""
    media = []
    for index, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        path = folder / f"image-{index:06d}.png"
        Image.fromarray(image).save(path, format="PNG")
        media.append({"file": path.name, "sha256": sha256_file(path), "seed": seed, "label": label})
    Image.fromarray(grid(images)).save(folder / GRID_NAME, format="PNG")
    (folder / MEDIA_NAME).write_text(json.dumps(media, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return media


def grid(images: np.ndarray) -> np.ndarray:
    """Returns pictures [n h w 3] side by side on white, about as many columns as rows."""
    count, height, width, _ = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + _GRID_GAP) + _GRID_GAP, columns * (width + _GRID_GAP) + _GRID_GAP, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top = _GRID_GAP + index // columns * (height + _GRID_GAP)
        left = _GRID_GAP + index % columns * (width + _GRID_GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet
