"""Encodes a validated dataset once: pictures to latents by the frozen codec, captions to vectors by the frozen text encoder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from components.encode_latents.config import Config
from components.encode_part.encoding import Fidelity, encode_shards
from components.encode_part.part import PartIdentity, join_parts
from components.ports import Ports, StepReport
from components.validated import require_validated
from governance.digest import tree_digest
from model_core.codec.autoencoder import Codec
from model_core.codec.batches import clips_to_unit_range, to_bytes, to_unit_range
from model_core.codec.io import load_codec
from model_core.codec.report import filmstrip_rows, picture_grid, reconstruction_rows
from model_core.conditioning.text import MiniLMEncoder, TextEncoder
from model_core.data.dataset import Dataset
from model_core.data.latent_moments import channel_moments
from model_core.data.latents import INDEX_SCHEMA, NONE_INDEX, LatentsConfig, TextEncoderInfo, shard_name, write_index
from model_core.data.media import encode_png
from model_core.data.split import HOLDOUT, SPLITS, TRAIN
from model_core.device import select_device
from model_core.errors import BadDataError

FORMAT = "groundswell-latents-report/1"
_SHOWN_SIDE = 128
_CAPTIONS_PER_BATCH = 64
_PART_PREFIX = "encoded-"


def run(
    config: Config,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    ports: Ports,
    *,
    text_encoder: TextEncoder | None = None,
) -> StepReport:
    """Encodes `inputs["dataset"]` with `inputs["codec"]` into `outputs["latents"]`, or joins the parts in which that was done.

    Args:
        config: How to go about it.
        inputs: `dataset`, `validation`, `codec`; `encoded-0000` and so on where `encode_part` has encoded the dataset in parts.
        outputs: `latents`: the same bytes either way.
        ports: The world around the step.
        text_encoder: What embeds captions; all-MiniLM-L6-v2 by default.

    Raises:
        IntegrityError: The dataset is not the one that `inputs["validation"]` is about; or a part is missing, there twice, of
            another dataset, codec or division, or not as it was written.
        BadDataError: The dataset cannot be opened or a picture cannot be read.
        BadModelError: The codec is damaged, does not divide the pictures' size, or makes latents that are not finite; a batch
            does not fit into memory, or there is no such device.
    """
    dataset_digest = require_validated(inputs["dataset"], inputs["validation"])
    dataset, codec = Dataset.open(inputs["dataset"]), load_codec(inputs["codec"]).to(select_device(config.device))
    size, num_frames, total = dataset.info.image_size, dataset.info.num_frames, len(dataset)
    whole = PartIdentity(
        dataset_digest=dataset_digest,
        codec_digest=tree_digest(inputs["codec"]),
        latent_shape=codec.config.latent_shape(num_frames, size, size),
        shard_size=config.shard_size,
    )
    encoder, folder = text_encoder or MiniLMEncoder(), outputs["latents"]
    parts = {name: path for name, path in inputs.items() if name.startswith(_PART_PREFIX)}
    if parts:
        fidelity = join_parts(parts, whole, folder, ports.progress, num_items=total)
    else:
        shards = range(-(-total // config.shard_size))
        fidelity = encode_shards(
            codec, dataset, shards, folder, ports, shard_size=config.shard_size, batch_size=config.batch_size
        )
    captions, embeddings, tokens = _embed_captions(dataset, encoder, ports, keep_tokens=config.caption_tokens)
    latents_config = LatentsConfig(
        codec_digest=whole.codec_digest,
        dataset_digest=dataset_digest,
        latent_shape=whole.latent_shape,
        image_size=size,
        fps=dataset.info.fps,
        num_frames=num_frames if num_frames != whole.latent_shape[1] else None,
        labels=tuple(dataset.labels),
        text_encoder=TextEncoderInfo(name=encoder.name, digest=encoder.digest, dim=encoder.dim),
    )
    index = _index(dataset, config.shard_size, captions)
    write_index(folder, latents_config, index, captions=captions, embeddings=embeddings, tokens=tokens)
    report = _report(dataset, fidelity, folder, latents_config, num_captions=len(captions))
    (folder / "report.json").write_text(json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    _draw(codec, dataset, config.num_shown, folder / "reconstructions.png")
    return _step_report(report, dataset)


def _embed_captions(
    dataset: Dataset, encoder: TextEncoder, ports: Ports, *, keep_tokens: bool
) -> tuple[list[str], Tensor, list[Tensor] | None]:
    """Returns the distinct captions, sorted, their embeddings, and where asked for their tokens' states."""
    captions = sorted(caption for caption in dataset.table["caption"].unique().to_pylist() if caption)
    vectors, tokens = [torch.zeros((0, encoder.dim))], list[Tensor]()
    for start in range(0, len(captions), _CAPTIONS_PER_BATCH):
        batch = captions[start : start + _CAPTIONS_PER_BATCH]
        vectors.append(encoder.encode(batch))
        if keep_tokens:
            tokens += encoder.encode_tokens(batch)
        ports.progress.update(min(start + _CAPTIONS_PER_BATCH, len(captions)), len(captions), "embedding captions")
    return captions, torch.cat(vectors), tokens if keep_tokens else None


def _index(dataset: Dataset, shard_size: int, captions: list[str]) -> pa.Table:
    """Returns the index of the latents, as columns: no object an item."""
    table, rows = dataset.table, np.arange(len(dataset))
    places = pc.index_in(table["label"], pa.array(dataset.labels, type=pa.string()))
    unknown = pc.and_(places.is_null(), pc.not_equal(table["label"], ""))
    if (row := pc.index(unknown, True).as_py()) >= 0:
        raise BadDataError(
            f"dataset {dataset.info.name!r}: label {table['label'][row].as_py()!r} is not in dataset.json",
            hint="import the dataset again",
        )
    names = pa.array([shard_name(number) for number in range(-(-len(dataset) // shard_size))])
    columns = {
        "shard": names.take(pa.array(rows // shard_size)),
        "row": rows % shard_size,
        "sha256": table["sha256"],
        "split": table["split"],
        "label_index": places.fill_null(NONE_INDEX),
        "caption_index": pc.index_in(table["caption"], pa.array(captions, type=pa.string())).fill_null(NONE_INDEX),
    }
    return pa.table(columns, schema=INDEX_SCHEMA)


def _report(dataset: Dataset, measured: Fidelity, folder: Path, config: LatentsConfig, *, num_captions: int) -> dict[str, Any]:
    rows = {split: dataset.rows(split) for split in SPLITS if dataset.rows(split)}
    fidelity: dict[str, Any] = {
        split: {
            "psnr": round(float(measured.psnr[chosen].mean()), 4),
            "ssim": round(float(measured.ssim[chosen].mean()), 4),
            "num_items": len(chosen),
        }
        for split, chosen in rows.items()
    }
    chosen = torch.zeros(len(dataset), dtype=torch.bool)
    chosen[rows.get(TRAIN, range(len(dataset)))] = True
    moments = channel_moments(folder, chosen)
    return {
        "format": FORMAT,
        **fidelity,
        "latents": {
            "shape": list(config.latent_shape),
            **({} if config.num_frames is None else {"num_frames": config.num_frames}),
            "mean": [round(value, 5) for value in moments.mean.tolist()],
            "std": [round(value, 5) for value in moments.std.tolist()],
            "kurtosis": [round(value, 3) for value in moments.kurtosis.tolist()],
        },
        "num_captions": num_captions,
        "codec_digest": config.codec_digest,
        "dataset_digest": config.dataset_digest,
        "text_encoder": {"name": config.text_encoder.name, "digest": config.text_encoder.digest, "dim": config.text_encoder.dim},
    }


def _draw(codec: Codec, dataset: Dataset, num_shown: int, path: Path) -> None:
    """Draws held-out pictures above their reconstructions; frames of one clip where the codec compresses in time."""
    rows = dataset.rows(HOLDOUT) or dataset.rows(TRAIN)
    if codec.config.temporal_factor > 1 and dataset.info.num_frames > 1:
        clip = clips_to_unit_range(torch.from_numpy(dataset.clips(rows[:1])))
        drawn = filmstrip_rows(codec, None, clip, num_shown=num_shown)
    else:
        chosen = [rows[place] for place in torch.linspace(0, len(rows) - 1, num_shown).long().tolist()]
        drawn = reconstruction_rows(codec, None, to_unit_range(torch.from_numpy(dataset.images(chosen))))
    grid = picture_grid(drawn, magnify=max(1, _SHOWN_SIDE // dataset.info.image_size))
    path.write_bytes(encode_png(to_bytes(grid)[0].numpy()))


def _step_report(report: Mapping[str, Any], dataset: Dataset) -> StepReport:
    metrics = {f"{name}_{split}": float(report[split][name]) for split in SPLITS if split in report for name in ("psnr", "ssim")}
    shape = "x".join(map(str, report["latents"]["shape"]))
    best = report.get(HOLDOUT) or report[TRAIN]
    return StepReport(
        metrics={**metrics, "num_items": float(len(dataset)), "num_captions": float(report["num_captions"])},
        summary=f"{len(dataset):,} items to latents of {shape}; reconstruction {best['psnr']:.1f} dB, SSIM {best['ssim']:.3f}",
        facts={**report, "licences": list(dataset.info.licences), "attribution": dataset.info.attribution},
        artifacts={"latents": ("report.json", "reconstructions.png", "config.json")},
    )
