"""The step `evaluate`: draws samples for the holdout's conditions and measures them against real pictures."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluate.clip_figures import ClipFigures, clip_figures
from components.evaluate.config import Config
from components.evaluate.holdout import holdout_digest
from components.evaluate.looks import Clips, Look, Pictures, Seen
from components.evaluate.samples import Conditions, SamplingPlan, draw_samples, holdout_conditions, plan_sampling
from components.evaluate.summary import summarise
from components.ports import Ports, StepReport
from model_core.data.dataset import Dataset
from model_core.data.media import overview
from model_core.device import select_device
from model_core.errors import BadDataError
from model_core.evaluation.assessment import Assessment, PictureSet, assess, report_document
from model_core.evaluation.features import FEATURES_NAME, WEIGHTS_LICENCE, WEIGHTS_SHA256, FeatureExtractor, open_extractor
from model_core.evaluation.grids import Card, Section, draw_sections, save_png
from model_core.evaluation.index_file import INDEX_NAME
from model_core.evaluation.probe import distinct_labels
from model_core.evaluation.reference_cache import ReferenceCache, ReferenceKey, cached_features, rows_digest
from model_core.evaluation.report_html import render_report
from model_core.evaluation.training_index import Items, TrainingIndex
from model_core.evaluation.utility import measure_utility

REPORT_FORMAT = "groundswell-evaluation/1"
_MIN_HOLDOUT = 4
_CARDS_A_LABEL = 12
_WORST_PAIRS = 12
_FEATURE_BATCH = 8
_NUMBERS = re.compile(r"\[\s*\n[\s\d.eE+,-]*\]")  # within a JSON string there is no line break


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Evaluates a trained model.

    Args:
        config: What to draw and measure.
        inputs: The folders `model`, `codec`, `latents` and `dataset`.
        outputs: The folder `evaluation`: `report.json`, `report.html`, `samples.png`, `memorisation.png`, and
            `training_index.safetensors`, by which whoever uses the model later finds near-copies of its training items.
        ports: Progress, scratch for samples already drawn, cache for the features of real pictures, tracking.

    Raises:
        BadDataError: The dataset has no holdout, or too few pictures or labels.
        BadModelError: The model cannot be read, draws no pictures, or the feature extractor's weights are not to be had.
        IntegrityError: Model, latents and dataset do not belong together.
    """
    dataset = Dataset.open(inputs["dataset"])
    plan = plan_sampling(config, inputs)
    conditions = holdout_conditions(config, dataset, inputs["latents"])
    rows = {split: _choose_rows(dataset, split, config) for split in ("train", "holdout")}
    if config.category_accuracy:
        distinct_labels(_label_indices(dataset, rows["train"]))

    # Fails early, before minutes of sampling, if the weights are not what they should be.
    ports.progress.update(0, 1, "preparing the feature extractor")
    kept = ports.cache or ports.scratch
    extractor = open_extractor(kept / "weights", input_size=config.feature_size).to(select_device(config.device))

    drawn = draw_samples(
        config,
        plan,
        conditions,
        inputs,
        ports.scratch,
        lambda done: ports.progress.update(done, config.num_samples, "drawing samples"),
    )
    measure = _Measuring(extractor, plan.inputs["dataset"], ReferenceCache(kept / "references"), ports)
    train = _real_set(dataset, rows["train"], "train", measure)
    holdout = _real_set(dataset, rows["holdout"], "holdout", measure)
    samples = _sample_set(dataset, conditions, drawn, measure)
    noise = np.random.default_rng(config.seed).integers(0, 256, size=drawn.shape, dtype=np.uint8)
    noise_features = measure.features(Look.of(noise).frames, "looking at noise").mean(axis=1)
    clips = _clip_figures(config, inputs["latents"], rows, conditions, samples, train, holdout)

    ports.progress.update(0, 1, "computing figures")
    assessment = assess(
        samples.pictures,
        train.pictures,
        holdout.pictures,
        noise_features=noise_features,
        labels=dataset.labels,
        category_accuracy=config.category_accuracy,
        seed=config.seed,
        num_resamples=config.num_resamples,
    )
    sides = (samples.pictures, train.pictures, holdout.pictures)
    document = report_document(assessment, *sides) | _context(config, plan, dataset, extractor)
    if clips is not None:
        document |= {"clips": clips.document()}
        document["metrics"] |= clips.metrics()
    utility = measure_utility(*sides, seed=config.seed, num_resamples=config.num_resamples) if config.utility else None
    document |= {"utility": utility.document() if utility else None}
    if utility:
        document["metrics"] |= utility.metrics()
    document["resamples"]["holdout"] = holdout_digest(
        dataset, pictures=rows["holdout"], conditions=conditions.rows.tolist(), extractor=extractor.digest
    )
    _write_outputs(outputs["evaluation"], document, assessment, dataset, *sides)
    index = TrainingIndex.build(
        train.items(),
        holdout.items(),
        sha256=train.pictures.names,
        extractor=extractor.digest,
        input_size=config.feature_size,
        num_in_training=len(dataset.rows("train")),
    )
    index.save(outputs["evaluation"] / INDEX_NAME)
    ports.progress.update(1, 1, "evaluation written")
    metrics: dict[str, float] = document["metrics"]
    ports.tracking.log_metrics(metrics)
    for name, value in metrics.items():
        ports.metrics.gauge(f"evaluation_{name}", value)
    return StepReport(
        metrics=metrics,
        summary=summarise(metrics, config.num_samples),
        facts={"num_samples": config.num_samples, "num_train": len(rows["train"]), "num_holdout": len(rows["holdout"])}
        | {"sampling": document["sampling"]},
        artifacts={"evaluation": ("report.json", "report.html", "samples.png", "memorisation.png")},
    )


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One set of items: what was looked at, the features of each frame, and what the figures of pictures are computed on."""

    look: Look
    features: np.ndarray  # [n looks dim]
    pictures: PictureSet

    def items(self) -> Items:
        """Returns what is kept of them in the index of training items."""
        num_items, num_looks = self.features.shape[:2]
        return Items.of(self.look.frames.reshape(num_items, num_looks, *self.look.frames.shape[1:]), self.pictures.features)


class _Measuring:
    """Features of frames, [n looks dim], with progress; those of real pictures are kept for the evaluations to come."""

    def __init__(self, extractor: FeatureExtractor, dataset_digest: str, references: ReferenceCache, ports: Ports) -> None:
        self._extractor = extractor
        self._dataset_digest = dataset_digest
        self._references = references
        self._ports = ports

    def features(self, images: Pictures, description: str, *, num_items: int | None = None) -> np.ndarray:
        found = self._extractor.extract(
            images, batch_size=_FEATURE_BATCH, on_batch=lambda done: self._ports.progress.update(done, len(images), description)
        )
        return found.reshape(num_items or len(images), -1, found.shape[-1])

    def real_features(self, images: Pictures, rows: Sequence[int], split: str) -> np.ndarray:
        found = cached_features(
            self._references,
            ReferenceKey(
                dataset=self._dataset_digest,
                extractor=self._extractor.digest,
                input_size=self._extractor.input_size,
                split=split,
                rows=rows_digest(rows),
                count=len(images),
            ),
            measure=lambda chosen: self._extractor.extract(images[chosen], batch_size=_FEATURE_BATCH),
            batch_size=_FEATURE_BATCH,
            on_batch=lambda done: self._ports.progress.update(done, len(images), f"looking at real pictures ({split})"),
        )
        return found.reshape(len(rows), -1, found.shape[-1])


def _choose_rows(dataset: Dataset, split: str, config: Config) -> list[int]:
    rows = dataset.rows(split)
    if len(rows) < _MIN_HOLDOUT:
        raise BadDataError(f"the evaluation needs at least {_MIN_HOLDOUT} {split} pictures, and the dataset has {len(rows)}")
    if len(rows) <= config.max_real:
        return rows
    return sorted(int(row) for row in np.random.default_rng(config.seed).choice(rows, size=config.max_real, replace=False))


def _label_indices(dataset: Dataset, rows: Sequence[int]) -> np.ndarray:
    known = {label: index for index, label in enumerate(dataset.labels)}
    return np.asarray([known.get(dataset.columns["label"][row], -1) for row in rows], dtype=np.int64)


def _real_set(dataset: Dataset, rows: Sequence[int], split: str, measure: _Measuring) -> _Side:
    look = Look.of_rows(dataset, rows)
    features = measure.real_features(look.frames, rows, split)
    pictures = PictureSet(
        images=look.images,
        features=features.mean(axis=1),
        labels=_label_indices(dataset, rows),
        captions=[dataset.columns["caption"][row] for row in rows],
        names=[dataset.columns["sha256"][row] for row in rows],
        conditions=np.asarray(rows, dtype=np.int64),
    )
    return _Side(look=look, features=features, pictures=pictures)


def _sample_set(dataset: Dataset, conditions: Conditions, drawn: Clips, measure: _Measuring) -> _Side:
    size, num_frames = dataset.info.image_size, dataset.info.num_frames
    if drawn.shape[1:] != (num_frames, size, size, 3):
        made, held = ("x".join(map(str, shape)) for shape in (drawn.shape[1:4], (num_frames, size, size)))
        raise BadDataError(f"the model draws {made} (frames, height, width), but the dataset holds {held}")
    look = Look.of(drawn)
    features = measure.features(look.frames, "looking at samples", num_items=len(drawn))
    pictures = PictureSet(
        images=look.images,
        features=features.mean(axis=1),
        labels=conditions.labels,
        captions=[dataset.columns["caption"][row] for row in conditions.rows],
        names=[str(seed) for seed in conditions.seeds],
        conditions=conditions.rows,
    )
    return _Side(look=look, features=features, pictures=pictures)


def _clip_figures(
    config: Config,
    latents_folder: Path,
    rows: Mapping[str, Sequence[int]],
    conditions: Conditions,
    samples: _Side,
    train: _Side,
    holdout: _Side,
) -> ClipFigures | None:
    """Returns the figures of clips; None of pictures, and of clips without captions."""
    if samples.look.moved is None or conditions.text is None or not bool(conditions.has_text.all()):
        return None
    from model_core.data.latents import LatentDataset

    latents = LatentDataset.open(latents_folder)
    text = {split: latents.caption_embeddings(list(chosen)).numpy() for split, chosen in rows.items()}

    def seen(side: _Side, embeddings: np.ndarray) -> Seen:
        moved = side.look.moved
        if moved is None:
            raise ValueError("pictures do not move")
        return Seen(
            features=side.features, moved=moved, flicker=side.look.flicker, captions=side.pictures.captions, text=embeddings
        )

    return clip_figures(
        seen(samples, conditions.text.numpy()),
        seen(train, text["train"]),
        seen(holdout, text["holdout"]),
        seed=config.seed,
        num_resamples=config.num_resamples,
    )


def _context(config: Config, plan: SamplingPlan, dataset: Dataset, extractor: FeatureExtractor) -> dict[str, Any]:
    return {
        "format": REPORT_FORMAT,
        "dataset": {"name": dataset.info.name, "digest": plan.inputs["dataset"], "attribution": dataset.info.attribution},
        "model": {"digest": plan.inputs["model"], "objective": plan.model.get("objective", "")},
        "codec": {"digest": plan.inputs["codec"]},
        "sampling": {
            "num_steps": plan.num_steps,
            "guidance_scale": plan.guidance_scale,
            "sampler": plan.sampler,
            "seed": config.seed,
            **plan.options,
        },
        "features": {
            "name": FEATURES_NAME,
            "weights_sha256": WEIGHTS_SHA256,
            "weights_licence": WEIGHTS_LICENCE,
            "input_size": config.feature_size,
            "digest": extractor.digest,
        },
    }


def _write_outputs(
    folder: Path,
    document: Mapping[str, Any],
    assessment: Assessment,
    dataset: Dataset,
    samples: PictureSet,
    train: PictureSet,
    holdout: PictureSet,
) -> None:
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    text = _NUMBERS.sub(lambda numbers: " ".join(numbers[0].split()), text)  # a list of numbers on one line
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    save_png(draw_sections(_sample_sections(dataset, samples), columns=5), folder / "samples.png")
    save_png(draw_sections([_memorisation_section(assessment, samples, train, holdout)], columns=3), folder / "memorisation.png")
    html = render_report(document, samples_png=folder / "samples.png", memorisation_png=folder / "memorisation.png")
    (folder / "report.html").write_text(html, encoding="utf-8")


def _sample_sections(dataset: Dataset, samples: PictureSet) -> list[Section]:
    """Returns a section a label: each condition once, a sample beside the real picture of its description."""
    cards: dict[int, list[Card]] = defaultdict(list)
    seen: set[int] = set()
    conditions = samples.conditions if samples.conditions is not None else np.arange(len(samples))
    for position, row in enumerate(int(row) for row in conditions):
        label = int(samples.labels[position])
        if row not in seen and len(cards[label]) < _CARDS_A_LABEL:
            seen.add(row)
            pair = (samples.images[position], overview(dataset.read_clip(row)))
            cards[label].append(Card(images=pair, headings=("sample", "real"), caption=samples.captions[position]))
    return [
        Section(title=dataset.labels[label] if label >= 0 else "no category", cards=tuple(cards[label]))
        for label in sorted(cards)
    ]


def _memorisation_section(assessment: Assessment, samples: PictureSet, train: PictureSet, holdout: PictureSet) -> Section:
    found = assessment.memorisation
    cards = []
    for index in (int(worst) for worst in found.worst(_WORST_PAIRS)):
        neighbours = found.evidence(index).samples
        verdict = "memorised" if found.flagged[index] else "not memorised"
        cards.append(
            Card(
                images=(
                    samples.images[index],
                    train.images[neighbours.train_index[index]],
                    holdout.images[neighbours.holdout_index[index]],
                ),
                headings=("sample", "training", "holdout"),
                caption=f"ratio {neighbours.ratio[index]:.2f}, {verdict}: {samples.captions[index]}",
            )
        )
    return Section(title="Samples beside their nearest training picture and nearest holdout picture", cards=tuple(cards))
