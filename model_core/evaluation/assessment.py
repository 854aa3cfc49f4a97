"""An evaluation as a whole: from samples and real pictures, with their features, to figures.

Every figure stands beside what it would be for the best and for the worst of models: real pictures, and noise or chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from model_core.errors import BadDataError
from model_core.evaluation.frechet import MIN_PICTURES, FrechetDistance, frechet_of_features
from model_core.evaluation.intervals import Interval, bootstrap_mean
from model_core.evaluation.kid import kernel_inception_distance, resampled_kid
from model_core.evaluation.manifold import DENSITY_NEIGHBOURS, PRECISION_NEIGHBOURS, ManifoldScores, manifold_scores
from model_core.evaluation.manifold import MIN_PICTURES as MIN_MANIFOLD
from model_core.evaluation.memorisation import MemorisationResult, check_memorisation
from model_core.evaluation.probe import chance_accuracy, confusion_counts, train_probe
from model_core.evaluation.resampling import MAX_RESAMPLES, Resamples, joint_rows, resampled_means, row_weights

Figure = TypeVar("Figure")


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures with their features and labels.

    Attributes:
        images: The pictures.
        features: Their features.
        labels: Their label indices, or -1; for samples, the label asked for.
        captions: Their captions; for samples, the caption asked for.
        names: What to call each: a SHA-256 for real pictures, the seed for samples.
        conditions: The row of the dataset whose picture each is, or, for samples, whose description it was drawn for.
    """

    images: UInt8[np.ndarray, "n height width 3"]
    features: Float[np.ndarray, "n dim"]
    labels: Int[np.ndarray, " n"]
    captions: Sequence[str]
    names: Sequence[str]
    conditions: Int[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, kw_only=True)
class CategoryResult:
    """Whether samples show the category asked for.

    Attributes:
        samples: Accuracy of the samples.
        real: Accuracy of the same probe on the real holdout.
        chance: What a model reaches that draws one category whatever it is asked for.
        by_label: Samples' accuracy by label index, for labels that were asked for.
        confusion: Samples by label asked for (row) and seen (column).
        asked: The samples that were asked for a label.
        correct: For each of these 1 where it shows that label, else 0.
    """

    samples: Interval
    real: Interval
    chance: float
    by_label: Mapping[int, Interval]
    confusion: Int[np.ndarray, "labels labels"]
    asked: Int[np.ndarray, " asked"]
    correct: Float[np.ndarray, " asked"]


@dataclass(frozen=True, kw_only=True)
class Compared(Generic[Figure]):
    """A figure of samples beside that of real pictures and of noise, all against the holdout.

    Attributes:
        samples: Of the samples.
        real: Of real training pictures, as many as there are samples (or all): as good as it gets.
        noise: Of noise, as much as there are samples: as bad as it gets.
    """

    samples: Figure
    real: Figure
    noise: Figure


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What an evaluation found.

    Attributes:
        kid: KID of samples against the holdout.
        kid_real: KID of real training pictures against the holdout: as good as it gets.
        kid_noise: KID of noise against the holdout: as bad as it gets.
        category: Category accuracy, if it was asked for.
        fd_effnet_lite0: Fréchet distance; a headline figure only where every side is large enough.
        manifold: Precision, recall, density and coverage, where there are enough pictures.
        memorisation: The memorisation check.
        resamples: Replicates of the figures by which models are held against each other.
    """

    kid: Interval
    kid_real: Interval
    kid_noise: Interval
    memorisation: MemorisationResult
    resamples: Resamples
    category: CategoryResult | None = None
    fd_effnet_lite0: Compared[FrechetDistance] | None = None
    manifold: Compared[ManifoldScores] | None = None
    labels: tuple[str, ...] = field(default=())

    def metrics(self) -> dict[str, float]:
        """Returns the figures by name, flat, rounded to six significant digits."""
        found = {
            **_flat("kid", self.kid),
            "kid_real": self.kid_real.value,
            "kid_noise": self.kid_noise.value,
            "memorisation_ratio_median": self.memorisation.ratio_median,
            "memorisation_ratio_median_real": self.memorisation.ratio_median_real,
            "memorised_share": self.memorisation.memorised_share,
            "memorised_share_real": self.memorisation.memorised_share_real,
        }
        if self.category:
            found |= _flat("category_accuracy", self.category.samples)
            found |= {"category_accuracy_chance": self.category.chance, "category_accuracy_real": self.category.real.value}
        if self.manifold:
            for part, scores in (("", self.manifold.samples), ("_real", self.manifold.real), ("_noise", self.manifold.noise)):
                found |= {f"{name}{part}": value for name, value in asdict(scores).items()}
        if self.fd_effnet_lite0:
            for name, found_fd in (("", self.fd_effnet_lite0.samples), ("_real", self.fd_effnet_lite0.real)):
                if min(found_fd.num_x, found_fd.num_y) >= MIN_PICTURES:
                    found[f"fd_effnet_lite0{name}"] = found_fd.value
        return {name: rounded(value) for name, value in found.items()}


def assess(
    samples: PictureSet,
    train: PictureSet,
    holdout: PictureSet,
    *,
    noise_features: Float[np.ndarray, "n dim"],
    labels: Sequence[str],
    category_accuracy: bool,
    seed: int,
    num_resamples: int,
) -> Assessment:
    """Computes every figure; the same input gives the same figures.

    Samples drawn for one condition are no independent evidence: intervals resample conditions, and KID leaves out their pairs.

    Raises:
        BadDataError: There are too few pictures, or too few labels for category accuracy.
    """
    alike = train.features[_choose_as_many(train, samples, seed)]
    sides = {"samples": samples.features, "real": alike, "noise": noise_features}
    memorisation = check_memorisation(
        sample_features=samples.features,
        train_features=train.features,
        holdout_features=holdout.features,
        sample_images=samples.images,
        train_images=train.images,
        holdout_images=holdout.images,
    )
    category = _judge_categories(samples, train, holdout, len(labels), seed, num_resamples) if category_accuracy else None
    return Assessment(
        kid=kernel_inception_distance(samples.features, holdout.features, seed=seed, groups_x=samples.conditions),
        kid_real=kernel_inception_distance(train.features, holdout.features, seed=seed),
        kid_noise=kernel_inception_distance(noise_features, holdout.features, seed=seed),
        memorisation=memorisation,
        resamples=_resample(samples, holdout, memorisation, category, seed=seed, num=min(num_resamples, MAX_RESAMPLES)),
        category=category,
        fd_effnet_lite0=Compared(**{side: frechet_of_features(found, holdout.features) for side, found in sides.items()}),
        manifold=Compared(**{side: manifold_scores(found, holdout.features) for side, found in sides.items()})
        if min(len(holdout), *map(len, sides.values())) >= MIN_MANIFOLD
        else None,
        labels=tuple(labels),
    )


def _choose_as_many(train: PictureSet, samples: PictureSet, seed: int) -> Int[np.ndarray, " chosen"]:
    """Chooses as many training pictures as there are samples: radii and the bias of a Fréchet distance depend on the number."""
    count = min(len(train), len(samples))
    return np.sort(np.random.default_rng(seed).choice(len(train), size=count, replace=False))


def _judge_categories(
    samples: PictureSet, train: PictureSet, holdout: PictureSet, num_labels: int, seed: int, num_resamples: int
) -> CategoryResult:
    labelled = train.labels >= 0
    probe = train_probe(train.features[labelled], train.labels[labelled])
    asked = np.flatnonzero(samples.labels >= 0)
    known = np.flatnonzero(holdout.labels >= 0)
    if not len(asked) or not len(known):
        raise BadDataError(
            "no holdout picture has a label, so category accuracy cannot be judged",
            hint="switch it off with evaluate.category_accuracy=false",
        )
    judged = probe.predict(samples.features[asked])
    correct = (judged == samples.labels[asked]).astype(np.float64)
    groups = (samples.conditions if samples.conditions is not None else np.arange(len(samples)))[asked]
    real_correct = (probe.predict(holdout.features[known]) == holdout.labels[known]).astype(np.float64)

    def interval(chosen: Any) -> Interval:
        return bootstrap_mean(correct[chosen], groups=groups[chosen], seed=seed, num_resamples=num_resamples)

    return CategoryResult(
        samples=interval(slice(None)),
        real=bootstrap_mean(real_correct, seed=seed, num_resamples=num_resamples),
        chance=chance_accuracy(samples.labels[asked]),
        by_label={int(label): interval(samples.labels[asked] == label) for label in np.unique(samples.labels[asked])},
        confusion=confusion_counts(samples.labels[asked], judged, num_labels=num_labels),
        asked=asked,
        correct=correct,
    )


def _resample(
    samples: PictureSet,
    holdout: PictureSet,
    memorisation: MemorisationResult,
    category: CategoryResult | None,
    *,
    seed: int,
    num: int,
) -> Resamples:
    conditions = samples.conditions if samples.conditions is not None else np.arange(len(samples))
    rows, rows_holdout, num_rows = joint_rows(conditions, holdout.conditions, len(holdout))
    weights = row_weights(num_rows, seed=seed, num=num)
    metrics = {
        "kid": resampled_kid(samples.features, holdout.features, rows_x=rows, rows_y=rows_holdout, weights=weights),
        "memorised_share": resampled_means(memorisation.flagged.astype(np.float64), rows, weights),
    }
    if category:
        metrics["category_accuracy"] = resampled_means(category.correct, rows[category.asked], weights)
    return Resamples(seed=seed, num=num, metrics=metrics)


def report_document(assessment: Assessment, samples: PictureSet, train: PictureSet, holdout: PictureSet) -> dict[str, Any]:
    """Returns the figures with their context, ready for canonical JSON."""
    memorisation = assessment.memorisation
    document: dict[str, Any] = {
        "metrics": assessment.metrics(),
        "num_samples": len(samples),
        "num_train": len(train),
        "num_holdout": len(holdout),
        "kid": {
            "samples": _interval(assessment.kid),
            "real": _interval(assessment.kid_real),
            "noise": _interval(assessment.kid_noise),
            "reference": "holdout",
        },
        "memorisation": {
            "memorised_share": rounded(memorisation.memorised_share),
            "memorised_share_real": rounded(memorisation.memorised_share_real),
            "ratio_median": rounded(memorisation.ratio_median),
            "ratio_median_real": rounded(memorisation.ratio_median_real),
            "features": {
                "distance_threshold": rounded(memorisation.features.distance_threshold),
                "ratio_threshold": rounded(memorisation.features.ratio_threshold),
            },
            "pixels": {
                "distance_threshold": rounded(memorisation.pixels.distance_threshold),
                "ratio_threshold": rounded(memorisation.pixels.ratio_threshold),
            },
            "worst": [_pair(memorisation, int(index), samples, train, holdout) for index in memorisation.worst(20)],
        },
        "category_accuracy": None,
        "fd_effnet_lite0": _frechet_document(assessment.fd_effnet_lite0),
        "manifold": _manifold_document(assessment.manifold),
        "resamples": {
            "seed": assessment.resamples.seed,
            "num": assessment.resamples.num,
            "metrics": {name: [rounded(value) for value in found] for name, found in assessment.resamples.metrics.items()},
        },
    }
    if assessment.category:
        category = assessment.category
        document["category_accuracy"] = {
            "samples": _interval(category.samples),
            "real": _interval(category.real),
            "chance": rounded(category.chance),
            "by_label": {assessment.labels[index]: _interval(found) for index, found in category.by_label.items()},
            "labels": list(assessment.labels),
            "confusion": category.confusion.tolist(),
        }
    return document


def _frechet_document(found: Compared[FrechetDistance] | None) -> dict[str, Any] | None:
    if not found:
        return None
    return {
        **{side: rounded(getattr(found, side).value) for side in ("samples", "real", "noise")},
        "num": {side: getattr(found, side).num_x for side in ("samples", "real", "noise")},
        "num_reference": found.samples.num_y,
        "reference": "holdout",
        "biased": found.samples.is_biased,
    }


def _manifold_document(found: Compared[ManifoldScores] | None) -> dict[str, Any] | None:
    if not found:
        return None
    scores = {side: asdict(getattr(found, side)) for side in ("samples", "real", "noise")}
    return {
        **{side: {name: rounded(value) for name, value in values.items()} for side, values in scores.items()},
        "neighbours": {"precision_recall": PRECISION_NEIGHBOURS, "density_coverage": DENSITY_NEIGHBOURS},
        "reference": "holdout",
    }


def _pair(
    memorisation: MemorisationResult, index: int, samples: PictureSet, train: PictureSet, holdout: PictureSet
) -> dict[str, Any]:
    space = memorisation.evidence(index)
    found = space.samples
    return {
        "seed": samples.names[index],
        "caption": samples.captions[index],
        "memorised": bool(memorisation.flagged[index]),
        "space": "pixels" if space is memorisation.pixels else "features",
        "ratio": rounded(float(found.ratio[index])),
        "ratio_pixels": rounded(float(memorisation.pixels.samples.ratio[index])),
        "train_sha256": train.names[int(found.train_index[index])],
        "train_distance": rounded(float(found.train_distance[index])),
        "holdout_sha256": holdout.names[int(found.holdout_index[index])],
        "holdout_distance": rounded(float(found.holdout_distance[index])),
    }


def rounded(value: float) -> float:
    """Rounds to six significant digits."""
    return float(f"{value:.6g}")


def _interval(interval: Interval) -> dict[str, float]:
    return {"value": rounded(interval.value), "low": rounded(interval.low), "high": rounded(interval.high)}


def _flat(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
