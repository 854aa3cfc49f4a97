"""What drives clicks: a logistic regression on what variants look like, with intervals, and how well it ranks what it never saw.

Of a variant that was shown ``n`` times and clicked ``k`` times, ``k ~ Binomial(n, sigma(b0 + sum_a b[a, level]))``. The
coefficients have a normal prior of mean 0 (standard deviation `PRIOR_STD`), which keeps levels that were never clicked finite;
the posterior is taken as normal around its mode (Laplace; Bishop 2006, ch. 4.5). Variants differ by more than their attributes
say, so variances are scaled by Pearson's chi-square over its degrees of freedom where that is above 1 (McCullagh & Nelder 1989,
ch. 4.5). A level's effect is its coefficient less the mean of its attribute's: log odds against the average level.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from model_core.evaluation.intervals import CONFIDENCE, Interval, percentile_interval

PRIOR_STD = 1.5
_NUM_RESAMPLES = 1000
_MAX_ITERATIONS = 50
_TOLERANCE = 1e-9
_HELD_OUT_SHARE = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What was shown, how often, and how often it was clicked.

    Attributes:
        levels: Its level by attribute.
        shown: How often it was shown.
        clicked: How often it was clicked.
    """

    levels: Mapping[str, str]
    shown: int
    clicked: int


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a level does to clicks, in log odds against the average level of its attribute.

    Attributes:
        attribute: The attribute.
        level: The level.
        interval: Its 95 % interval.
        is_credible: Whether it is above or below 0 also when all levels are asked at once (Bonferroni).
    """

    attribute: str
    level: str
    interval: Interval
    is_credible: bool


@dataclass(frozen=True, kw_only=True)
class ClickModel:
    """The fitted regression.

    Attributes:
        columns: Attribute and level of each coefficient after the first.
        coefficients: Intercept first.
        covariance: Of the coefficients, scaled for what attributes do not say.
        dispersion: Pearson's chi-square over its degrees of freedom, at least 1.
    """

    columns: tuple[tuple[str, str], ...]
    coefficients: Float[np.ndarray, " p"]
    covariance: Float[np.ndarray, "p p"]
    dispersion: float

    def design(self, levels: Sequence[Mapping[str, str]]) -> Float[np.ndarray, "n p"]:
        """Returns the rows of the regression; a level that was never seen counts as no level."""
        return np.array([[1.0, *(float(one.get(name) == level) for name, level in self.columns)] for one in levels])

    def rates(self, levels: Sequence[Mapping[str, str]]) -> list[Interval]:
        """Returns the click rate of variants, with 95 % intervals."""
        design = self.design(levels)
        eta, error = design @ self.coefficients, np.sqrt(np.einsum("np,pq,nq->n", design, self.covariance, design))
        half = _quantile(1) * error
        ends = [_sigmoid(eta), _sigmoid(eta - half), _sigmoid(eta + half)]
        return [Interval(value=float(v), low=float(low), high=float(high)) for v, low, high in zip(*ends, strict=True)]

    def effects(self) -> list[Effect]:
        """Returns what each level does, attribute by attribute, the best level first."""
        found = []
        attributes = list(dict.fromkeys(name for name, _ in self.columns))
        for attribute in attributes:
            places = [place for place, (name, _) in enumerate(self.columns, start=1) if name == attribute]
            of_attribute = []
            for place in places:
                contrast = np.zeros(len(self.coefficients))
                contrast[places] = -1 / len(places)
                contrast[place] += 1
                value, error = float(contrast @ self.coefficients), float(np.sqrt(contrast @ self.covariance @ contrast))
                half = _quantile(1) * error
                of_attribute.append(
                    Effect(
                        attribute=attribute,
                        level=self.columns[place - 1][1],
                        interval=Interval(value=value, low=value - half, high=value + half),
                        is_credible=abs(value) > _quantile(len(self.columns)) * error,
                    )
                )
            found += sorted(of_attribute, key=lambda effect: -effect.interval.value)
        return found


def fit_clicks(variants: Sequence[Variant]) -> ClickModel:
    """Fits the regression by Newton's method.

    Raises:
        ValueError: There are no variants.
    """
    if not variants:
        raise ValueError("there is nothing to learn from")
    names = list(variants[0].levels)
    columns = tuple((name, level) for name in names for level in sorted({one.levels[name] for one in variants}))
    num = len(columns) + 1
    model = ClickModel(columns=columns, coefficients=np.zeros(num), covariance=np.eye(num), dispersion=1.0)
    design = model.design([one.levels for one in variants])
    shown, clicked = (np.array([getattr(one, name) for one in variants], dtype=float) for name in ("shown", "clicked"))
    precision = np.diag([1e-6, *[PRIOR_STD**-2] * len(columns)])
    beta = np.zeros(num)
    rate = (clicked.sum() + 0.5) / (shown.sum() + 1)
    beta[0] = np.log(rate / (1 - rate))
    for _ in range(_MAX_ITERATIONS):
        expected = _sigmoid(design @ beta)
        hessian = design.T @ (design * (shown * expected * (1 - expected))[:, None]) + precision
        step = np.linalg.solve(hessian, design.T @ (clicked - shown * expected) - precision @ beta)
        beta += step
        if np.abs(step).max() < _TOLERANCE:
            break
    expected = _sigmoid(design @ beta)
    variance = np.maximum(shown * expected * (1 - expected), 1e-12)
    hessian = design.T @ (design * variance[:, None]) + precision
    free = len(variants) - (1 + len(columns) - len(names))
    dispersion = max(1.0, float(((clicked - shown * expected) ** 2 / variance).sum()) / free) if free > 0 else 1.0
    return ClickModel(columns=columns, coefficients=beta, covariance=dispersion * np.linalg.inv(hessian), dispersion=dispersion)


def is_held_out(levels: Mapping[str, str]) -> bool:
    """Whether a variant is kept from the regression to judge it by: a third, decided by what it looks like and nothing else."""
    text = "\x1f".join(f"{name}={level}" for name, level in sorted(levels.items()))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) < _HELD_OUT_SHARE * 2**64


def ranking_auc(predicted: Float[np.ndarray, " n"], shown: Float[np.ndarray, " n"], clicked: Float[np.ndarray, " n"]) -> float:
    """Returns how often a click is on what was ranked above a showing without a click: the area under the ROC curve.

    Ties count half (Mann & Whitney 1947). 0.5 where there are no clicks, or nothing else.
    """
    _, place = np.unique(predicted, return_inverse=True)
    clicks = np.bincount(place, weights=clicked)
    others = np.bincount(place, weights=shown - clicked)
    pairs = clicks.sum() * others.sum()
    below = np.cumsum(others) - others
    return float((clicks * (below + others / 2)).sum() / pairs) if pairs else 0.5


def held_out_auc(variants: Sequence[Variant], *, seed: int) -> Interval:
    """Fits on two thirds of the variants, and returns how well that ranks the last third.

    The interval is a percentile bootstrap over the held-out variants: showings of one variant are no independent evidence.

    Raises:
        ValueError: Fewer than two variants are on a side.
    """
    fit = [one for one in variants if not is_held_out(one.levels)]
    judge = [one for one in variants if is_held_out(one.levels)]
    if min(len(fit), len(judge)) < 2:
        raise ValueError("too few variants to hold some out")
    predicted = np.array([rate.value for rate in fit_clicks(fit).rates([one.levels for one in judge])])
    shown, clicked = (np.array([getattr(one, name) for one in judge], dtype=float) for name in ("shown", "clicked"))
    drawn = np.random.default_rng(seed).integers(0, len(judge), size=(_NUM_RESAMPLES, len(judge)))
    resampled = np.array([ranking_auc(predicted[rows], shown[rows], clicked[rows]) for rows in drawn])
    return percentile_interval(ranking_auc(predicted, shown, clicked), resampled)


def _quantile(num_asked: int) -> float:
    """Returns the normal quantile of a 95 % interval, of so many asked at once."""
    return NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * num_asked))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-np.clip(values, -500, 500)))
    return found
