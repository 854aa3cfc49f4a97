"""How far do generated data reflect the real? A probe learns from the one and is tested on the other.

Train on synthetic, test on real (TSTR), and the reverse (TRTS), after Esteban, Hyland & Rätsch 2017 (arXiv 1706.02633); on
pictures TSTR is the classification accuracy score of Ravuri & Vinyals 2019 (arXiv 1905.10887). Beside them stands the same probe
trained and tested on real data (TRTR), as good as it gets. The headline is the ratio TSTR / TRTR.

Both probes learn from the same number of items. Samples are drawn for the descriptions of the holdout, so that a probe could do
well on a real picture because it has seen samples of that very description; therefore the holdout's rows are dealt into folds,
and a fold is judged by probes that have learnt from samples of the other folds alone.

The intervals cover what was drawn at random on either side: in a replicate the rows that are tested are weighed anew
(`resampling`), and every few replicates the items that the probes learn from are drawn anew, with replacement, all samples of a
description together. Items that are drawn twice teach less, so replicates lie a little lower than the estimate; they are moved
back onto it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from model_core.evaluation.assessment import PictureSet, rounded
from model_core.evaluation.intervals import Interval, percentile_interval
from model_core.evaluation.probe import chance_accuracy, train_probe
from model_core.evaluation.resampling import joint_rows, resampled_means, row_weights

NUM_FOLDS = 4
_REPLICATES_A_REFIT = 80
_MIN_REFITS = 2
_FIGURES = ("ratio", "tstr", "trts", "trtr")


@dataclass(frozen=True, kw_only=True)
class Utility:
    """How much of what can be learnt from real items can be learnt from samples.

    Attributes:
        ratio: TSTR / TRTR.
        tstr: Accuracy on real held-out items of a probe that has learnt from samples.
        trts: Accuracy on samples of a probe that has learnt from real training items.
        trtr: Accuracy on real held-out items of that probe.
        chance: What always naming the commonest category gets of held-out items.
        chance_samples: And of samples.
        num_learnt_from: How many items each probe has learnt from.
        num_real: Real items that were tested on.
        num_samples: Samples that were tested on.
    """

    ratio: Interval
    tstr: Interval
    trts: Interval
    trtr: Interval
    chance: float
    chance_samples: float
    num_learnt_from: int
    num_real: int
    num_samples: int

    def metrics(self) -> dict[str, float]:
        """Returns the figures by name, flat, rounded to six significant digits."""
        found = {"utility_tstr_chance": self.chance, "utility_trts_chance": self.chance_samples}
        for name in _FIGURES:
            figure: Interval = getattr(self, name)
            found |= {f"utility_{name}": figure.value, f"utility_{name}_low": figure.low, f"utility_{name}_high": figure.high}
        return {name: rounded(value) for name, value in found.items()}

    def document(self) -> dict[str, Any]:
        """Returns the figures for the report."""
        return {
            **{name: {end: rounded(getattr(getattr(self, name), end)) for end in ("value", "low", "high")} for name in _FIGURES},
            "chance": rounded(self.chance),
            "chance_samples": rounded(self.chance_samples),
            "num_learnt_from": self.num_learnt_from,
            "num_real": self.num_real,
            "num_samples": self.num_samples,
            "num_folds": NUM_FOLDS,
        }


@dataclass(frozen=True, kw_only=True)
class _Labelled:
    """Items with labels, and the row of the holdout that each is of."""

    features: Float[np.ndarray, "n dim"]
    labels: Int[np.ndarray, " n"]
    rows: Int[np.ndarray, " n"]

    def chosen(self, index: np.ndarray) -> "_Labelled":
        return _Labelled(features=self.features[index], labels=self.labels[index], rows=self.rows[index])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Whether each item was named rightly: held-out ones by either probe, samples by the one that knows real items."""

    tstr: Float[np.ndarray, " real"]
    trtr: Float[np.ndarray, " real"]
    trts: Float[np.ndarray, " samples"]


def measure_utility(
    samples: PictureSet, train: PictureSet, holdout: PictureSet, *, seed: int, num_resamples: int
) -> Utility | None:
    """Measures it, on the labels; None where there are not two of them on each side, or too few rows to be dealt into folds.

    Args:
        samples: The samples, with the labels that were asked for.
        train: Real training items.
        holdout: Real held-out items, with the rows that samples were drawn for.
        seed: Seed of folds, choices and resampling.
        num_resamples: Replicates behind each interval.
    """
    conditions = samples.conditions if samples.conditions is not None else np.arange(len(samples))
    rows, rows_holdout, num_rows = joint_rows(conditions, holdout.conditions, len(holdout))
    drawn, held = _labelled(samples, rows), _labelled(holdout, rows_holdout)
    real = _labelled(train, np.arange(len(train)))
    if min(len(np.unique(side.labels)) for side in (drawn, held, real)) < 2 or len(np.unique(drawn.rows)) < NUM_FOLDS:
        return None
    generator = np.random.default_rng(seed)
    folds = _folds(drawn.rows, num_rows, generator)
    estimate = _judge(drawn, real, held, folds, generator, resample=False)
    weights = row_weights(num_rows, seed=seed, num=num_resamples)
    num_refits = max(_MIN_REFITS, num_resamples // _REPLICATES_A_REFIT)
    refits = [_judge(drawn, real, held, folds, generator, resample=True) for _ in range(num_refits)]
    replicates: dict[str, list[np.ndarray]] = {name: [] for name in _FIGURES}
    for judged, weight in zip(refits, np.array_split(weights, len(refits)), strict=True):
        found = {
            "tstr": resampled_means(judged.tstr, held.rows, weight),
            "trtr": resampled_means(judged.trtr, held.rows, weight),
            "trts": resampled_means(judged.trts, drawn.rows, weight),
        }
        found["ratio"] = _ratio(found["tstr"], found["trtr"], len(held))
        for name, values in found.items():
            replicates[name].append(values)
    shares = {name: float(getattr(estimate, name).mean()) for name in ("tstr", "trtr", "trts")}
    shares["ratio"] = float(_ratio(np.asarray(shares["tstr"]), np.asarray(shares["trtr"]), len(held)))
    return Utility(
        **{name: _interval(value, np.concatenate(replicates[name]), name) for name, value in shares.items()},
        chance=chance_accuracy(held.labels),
        chance_samples=chance_accuracy(drawn.labels),
        num_learnt_from=min(_num_learnt_from(drawn, real, folds)),
        num_real=len(held),
        num_samples=len(drawn),
    )


def _labelled(side: PictureSet, rows: Int[np.ndarray, " n"]) -> _Labelled:
    known = side.labels >= 0
    return _Labelled(features=side.features[known], labels=side.labels[known], rows=rows[known])


def _folds(drawn_rows: Int[np.ndarray, " n"], num_rows: int, generator: np.random.Generator) -> Int[np.ndarray, " rows"]:
    """Deals rows into folds at random, those with samples first, so that none of the folds is without samples."""
    order = generator.permutation(num_rows)
    order = order[np.argsort(~np.isin(order, drawn_rows), kind="stable")]
    folds = np.zeros(num_rows, dtype=np.int64)
    folds[order] = np.arange(num_rows) % NUM_FOLDS
    return folds


def _num_learnt_from(drawn: _Labelled, real: _Labelled, folds: Int[np.ndarray, " rows"]) -> list[int]:
    return [min(int((folds[drawn.rows] != fold).sum()), len(real)) for fold in range(NUM_FOLDS)]


def _judge(
    drawn: _Labelled,
    real: _Labelled,
    held: _Labelled,
    folds: Int[np.ndarray, " rows"],
    generator: np.random.Generator,
    *,
    resample: bool,
) -> _Judged:
    """Judges fold by fold, by probes that have learnt from as many items, of the other folds where these are samples."""
    judged = _Judged(tstr=np.zeros(len(held)), trtr=np.zeros(len(held)), trts=np.zeros(len(drawn)))
    for fold, count in enumerate(_num_learnt_from(drawn, real, folds)):
        others = np.flatnonzero(folds[drawn.rows] != fold)
        if resample:
            others = others[_resampled_groups(drawn.rows[others], generator)]
        of_samples = _probe(drawn.chosen(generator.choice(others, size=min(count, len(others)), replace=False)))
        of_real = _probe(real.chosen(generator.choice(len(real), size=count, replace=resample)))
        tested, tested_samples = np.flatnonzero(folds[held.rows] == fold), np.flatnonzero(folds[drawn.rows] == fold)
        judged.tstr[tested] = of_samples(held.features[tested]) == held.labels[tested]
        judged.trtr[tested] = of_real(held.features[tested]) == held.labels[tested]
        judged.trts[tested_samples] = of_real(drawn.features[tested_samples]) == drawn.labels[tested_samples]
    return judged


def _resampled_groups(groups: Int[np.ndarray, " n"], generator: np.random.Generator) -> Int[np.ndarray, " m"]:
    """Returns places of items whose groups are drawn with replacement, as many as there are groups."""
    members = list(_members(groups))
    return np.concatenate([members[place] for place in generator.integers(0, len(members), size=len(members))])


def _members(groups: Int[np.ndarray, " n"]) -> Iterator[np.ndarray]:
    order = np.argsort(groups, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _probe(learnt: _Labelled) -> Callable[[np.ndarray], np.ndarray]:
    """Trains a probe; where there is one label alone, it names that one."""
    if len(np.unique(learnt.labels)) == 1:
        return lambda features: np.full(len(features), learnt.labels[0])
    probe = train_probe(learnt.features, learnt.labels)
    return lambda features: probe.predict(features) if len(features) else np.zeros(0, dtype=np.int64)


def _ratio(tstr: np.ndarray, trtr: np.ndarray, num_tested: int) -> np.ndarray:
    """Returns TSTR / TRTR; a probe that names nothing rightly counts as naming one item, so that there is a ratio."""
    return np.asarray(tstr / np.maximum(trtr, 1 / num_tested))


def _interval(value: float, replicates: Float[np.ndarray, " resamples"], name: str) -> Interval:
    moved = replicates + (value - replicates.mean())
    highest = np.inf if name == "ratio" else 1.0
    return percentile_interval(value, np.clip(moved, 0, highest))
