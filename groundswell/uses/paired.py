"""Which of two alternatives is better? Their paired difference, with an interval and a rule.

Pairs are made from the same seed and text, so that what makes one hard falls out of the difference (common random numbers). Pairs
of one text are no independent evidence, and are resampled together.

Where few pairs differ, as shares of right and wrong often do, a bootstrap is too sure of itself: four of sixteen pairs that
differ, all one way, would decide, and come about by chance once in eight times. So a decision also needs Fisher's randomisation
test to hold (signs of the texts' differences flipped, 1935), and "no difference that matters" needs `3 / margin` texts, which is
what it takes to exclude a rare event by having seen none (the rule of three; Hanley & Lippman-Hand 1983).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from jaxtyping import Float

from model_core.evaluation.intervals import CONFIDENCE, NORMAL_QUANTILE, Interval, bootstrap_mean

POWER = 0.8
_RULE_OF_THREE = 3
_NUM_FLIPS = 10_000
_MAX_EXACT = 13

Choice = Literal["a", "b", "same", "open"]
"""``same``: no difference that matters. ``open``: no difference shown, and none excluded."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a comparison comes to.

    Attributes:
        difference: Of b less a, with its 95 % interval; more is better.
        choice: What follows.
        more_pairs: How many pairs more would show a difference of the margin in 80 of 100 comparisons; 0 where it is decided.
    """

    difference: Interval
    choice: Choice
    more_pairs: int


def decide(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], texts: Sequence[str], *, margin: float, seed: int) -> Decision:
    """Compares two alternatives pair by pair.

    ``n = ((z_{1-alpha/2} + z_power) s / margin)^2`` texts show a difference of the margin, with s the standard deviation of the
    texts' mean differences.

    Args:
        a: A figure of each clip of the one, more being better.
        b: That of the other, in the same order.
        texts: The text of each pair.
        margin: The smallest difference that matters.
        seed: Seed of the resampling.

    Raises:
        ValueError: The sides are not pairs, or there are none.
    """
    if len(a) != len(b) or len(a) != len(texts):
        raise ValueError(f"{len(a)} and {len(b)} clips of {len(texts)} texts are no pairs")
    _, groups = np.unique(np.asarray(texts), return_inverse=True)
    found = bootstrap_mean(b - a, groups=groups, seed=seed)
    means = np.bincount(groups, weights=b - a) / np.bincount(groups)
    is_sure = sign_flip_p(means, seed=seed) < 1 - CONFIDENCE
    choice: Choice = "open"
    if found.low > 0 and is_sure:
        choice = "b"
    elif found.high < 0 and is_sure:
        choice = "a"
    elif -margin < found.low and found.high < margin and len(means) >= _RULE_OF_THREE / margin:
        choice = "same"
    return Decision(difference=found, choice=choice, more_pairs=_more(means, len(a), margin) if choice == "open" else 0)


def sign_flip_p(differences: Float[np.ndarray, " n"], *, seed: int) -> float:
    """Returns how often signs that mean nothing give a mean so far from 0: exactly for few differences, else by sampling."""
    told = differences[differences != 0]
    if not len(told):
        return 1.0
    if len(told) <= _MAX_EXACT:
        flips = np.array(list(itertools.product((-1.0, 1.0), repeat=len(told))))
    else:
        flips = np.random.default_rng(seed).choice((-1.0, 1.0), size=(_NUM_FLIPS, len(told)))
    as_far = np.abs(flips @ told) >= abs(told.sum()) - 1e-12
    return float(as_far.mean() if len(told) <= _MAX_EXACT else (as_far.sum() + 1) / (_NUM_FLIPS + 1))


def _more(means: np.ndarray, num_pairs: int, margin: float) -> int:
    spread = float(means.std(ddof=1)) if len(means) > 1 else 1.0
    needed = max(_RULE_OF_THREE / margin, ((NORMAL_QUANTILE + NormalDist().inv_cdf(POWER)) * spread / margin) ** 2)
    return max(1, math.ceil((needed - len(means)) * num_pairs / len(means)))
