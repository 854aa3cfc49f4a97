"""Drawing the samples of an evaluation: which conditions, and a checkpoint after each batch."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from components.evaluate.config import Config
from components.evaluate.looks import Clips
from governance.digest import tree_digest
from governance.errors import IntegrityError
from model_core.data.dataset import Dataset
from model_core.errors import BadDataError, BadModelError
from model_core.sampling.names import SamplerName, fitting_samplers
from model_core.sampling.options import SamplingOptions, options_in_effect


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the samples are drawn for: the holdout's labels and captions, in turn.

    Attributes:
        rows: The holdout row of the dataset that each sample is drawn for.
        labels: Its label index, or -1.
        text: Its caption's embedding; None where the holdout has no captions at all.
        has_text: Whether it has a caption.
        seeds: The seed of each sample.
        text_states: The states of its caption's tokens, and where there is one; None where they were not kept.
        label_names: What the label indices stand for; the model's own labels where none are given.
    """

    rows: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    text: Float[Tensor, "n dim"] | None
    has_text: Bool[Tensor, " n"]
    seeds: tuple[int, ...]
    text_states: tuple[Float[Tensor, "n m dim"], Bool[Tensor, "n m"]] | None = None
    label_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """How the samples are drawn.

    Attributes:
        num_steps: Sampling steps.
        guidance_scale: Guidance scale.
        sampler: The sampler's name; None for the objective's usual one.
        options: What else is chosen of sampling, by the names of `SamplingOptions`.
        model: The content of the model's `config.json`.
        inputs: Digest of each input folder.
    """

    num_steps: int
    guidance_scale: float
    sampler: SamplerName | None
    options: Mapping[str, Any]
    model: Mapping[str, Any]
    inputs: Mapping[str, str]


def plan_sampling(config: Config, inputs: Mapping[str, Path]) -> SamplingPlan:
    """Reads how to sample from configuration and model, and checks that the inputs belong together.

    Raises:
        BadModelError: The model's `config.json` is missing or unusable.
        IntegrityError: The model was trained on another dataset, or with another codec, than the ones given.
    """
    path = inputs["model"] / "config.json"
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
        defaults = model["sampling"]
        num_steps = int(config.num_steps if config.num_steps is not None else defaults["num_steps"])
        guidance = float(config.guidance_scale if config.guidance_scale is not None else defaults["guidance_scale"])
        sampler = config.sampler or defaults.get("sampler")
        options = _options_in_effect(config, defaults, sampler or fitting_samplers(model["objective"])[0])
        latents = json.loads((inputs["latents"] / "config.json").read_text(encoding="utf-8"))
        recorded = {name: (model[f"{name}_digest"], latents[f"{name}_digest"]) for name in ("dataset", "codec")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModelError(
            f"{path} or the latents' config.json cannot be used: {error!r}", hint="train the model again"
        ) from error
    digests = {name: tree_digest(folder) for name, folder in sorted(inputs.items())}
    for name, (of_model, of_latents) in recorded.items():
        if of_model != of_latents:
            raise IntegrityError(
                f"the model was trained with another {name} ({of_model[:16]}) than the latents ({of_latents[:16]})"
            )
    if recorded["dataset"][0] != digests["dataset"]:
        raise IntegrityError(
            f"the model was trained on dataset {recorded['dataset'][0][:16]}, but this dataset is {digests['dataset'][:16]}",
            hint="evaluate on the dataset of the training run; if it was changed since, import it again",
        )
    return SamplingPlan(
        num_steps=num_steps, guidance_scale=guidance, sampler=sampler, options=options, model=model, inputs=digests
    )


def _options_in_effect(config: Config, defaults: Mapping[str, Any], sampler: SamplerName) -> dict[str, Any]:
    of_model = SamplingOptions.model_validate({name: defaults.get(name) for name in SamplingOptions.model_fields})
    return options_in_effect(of_model.chosen(), config.chosen(), sampler)


def holdout_conditions(config: Config, dataset: Dataset, latents_folder: Path) -> Conditions:
    """Returns the conditions of the holdout, repeated in turn until there are enough.

    Raises:
        BadDataError: The dataset has no holdout.
        IntegrityError: The latents are of other pictures than the dataset's holdout.
    """
    from model_core.data.latents import LatentDataset

    rows = dataset.rows("holdout")
    if not rows:
        raise BadDataError(
            f"dataset {dataset.info.name!r} has no holdout rows to evaluate on", hint="import it with a share of holdout items"
        )
    latents = LatentDataset.open(latents_folder)
    latent_rows = list(latents.rows("holdout"))
    index = pq.read_table(latents_folder / "index.parquet", columns=["sha256"])["sha256"].to_pylist()
    digests = dataset.columns["sha256"]
    if [index[row] for row in latent_rows] != [digests[row] for row in rows]:
        raise IntegrityError("the latents' holdout is not that of the dataset", hint="encode the latents again")
    turn = np.arange(config.num_samples) % len(rows)
    chosen = [latent_rows[position] for position in turn]
    has_text = torch.tensor([bool(dataset.columns["caption"][rows[position]]) for position in turn])
    return Conditions(
        rows=np.asarray(rows)[turn],
        labels=np.asarray(latents.label_indices(chosen)).astype(np.int64),
        text=torch.as_tensor(latents.caption_embeddings(chosen)) if has_text.any() else None,
        has_text=has_text,
        text_states=latents.caption_tokens(chosen) if latents.has_caption_tokens and has_text.any() else None,
        seeds=tuple(range(config.seed, config.seed + config.num_samples)),
        label_names=tuple(dataset.labels),
    )


def draw_samples(
    config: Config,
    plan: SamplingPlan,
    conditions: Conditions,
    inputs: Mapping[str, Path],
    scratch: Path,
    on_batch: Callable[[int], None],
) -> Clips:
    """Draws the samples batch by batch; batches found in scratch from an earlier attempt are not drawn again.

    Raises:
        BadModelError: Model or codec cannot be used, or a sample does not come out finite.
    """
    settings = {
        "plan": [plan.num_steps, plan.guidance_scale, dict(plan.inputs)],
        "config": config.model_dump(exclude={"device"}),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = scratch / f"samples-{key[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    generator: Callable[[slice], Clips] | None = None
    batches = []
    for start in range(0, config.num_samples, config.batch_size):
        chosen = slice(start, min(start + config.batch_size, config.num_samples))
        path = folder / f"{start:06d}.npy"
        pictures = _read_batch(path, chosen.stop - start)
        if pictures is None:
            generator = generator or _open_generator(config, plan, conditions, inputs)
            pictures = generator(chosen)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, pictures, allow_pickle=False)
            partial.replace(path)
        batches.append(pictures)
        on_batch(chosen.stop)
    return np.concatenate(batches)


def _open_generator(
    config: Config, plan: SamplingPlan, conditions: Conditions, inputs: Mapping[str, Path]
) -> Callable[[slice], Clips]:
    from model_core.codec.io import load_codec
    from model_core.device import select_device
    from model_core.sampling.generate import generate_clips, load_transformer

    where = select_device(config.device)
    transformer, model_config = load_transformer(inputs["model"])
    transformer, codec = transformer.to(where), load_codec(inputs["codec"]).to(where)  # once, and not for each batch
    places = _label_places(conditions.label_names, model_config.conditioning.labels)
    text = conditions.text if transformer.config.text_dim else None
    states, states_mask = (conditions.text_states if transformer.config.reads_text_states else None) or (None, None)

    def generate(chosen: slice) -> Clips:
        labels = [places[label] if label >= 0 else None for label in conditions.labels[chosen]]
        return generate_clips(
            transformer,
            model_config,
            codec,
            labels=labels,
            text=text[chosen] if text is not None else None,
            text_mask=conditions.has_text[chosen] if text is not None else None,
            text_states=None if states is None else states[chosen],
            text_states_mask=None if states_mask is None else states_mask[chosen],
            seeds=conditions.seeds[chosen],
            num_steps=plan.num_steps,
            guidance_scale=plan.guidance_scale,
            sampler=plan.sampler,
            batch_size=config.batch_size,
            device=config.device,
            **plan.options,
        )

    return generate


def _label_places(own: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Returns the model's index of each label of the latents: a fine-tuned model knows those of its base, too.

    Raises:
        IntegrityError: The model does not know one of them.
    """
    if unknown := sorted(set(own) - set(labels)):
        raise IntegrityError(f"the latents have the label {unknown[0]!r}, which the model was not trained on")
    return [labels.index(label) for label in own or labels]


def _read_batch(path: Path, size: int) -> Clips | None:
    try:
        pictures: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return pictures if pictures.dtype == np.uint8 and pictures.ndim == 5 and len(pictures) == size else None
