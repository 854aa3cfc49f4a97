"""Figures of clips beside those of their frames: do they move as asked, do captions find them, are they steady?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluate.looks import Seen
from model_core.evaluation.assessment import rounded
from model_core.evaluation.intervals import Interval, bootstrap_mean
from model_core.evaluation.motion import DIRECTIONS, asked_directions, directions
from model_core.evaluation.retrieval import found_own, train_retrieval


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A share of clips, beside that of real held-out clips and of chance.

    Attributes:
        samples: Of the samples.
        real: Of real held-out clips: as good as the probe gets.
        chance: Of a model that knows nothing of the caption.
        num_samples: Of how many samples.
    """

    samples: Interval
    real: float
    chance: float
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class ClipFigures:
    """What was found of clips.

    Attributes:
        shares: Figures by name: `motion_direction` and `caption_retrieval`, where captions allow them.
        steadiness: `temporal_consistency` and `pixel_flicker` of samples and of real held-out clips.
    """

    shares: Mapping[str, Figure]
    steadiness: Mapping[str, float]

    def metrics(self) -> dict[str, float]:
        """Returns the figures by name, flat, rounded to six significant digits."""
        found = dict(self.steadiness)
        for name, figure in self.shares.items():
            found |= {name: figure.samples.value, f"{name}_low": figure.samples.low, f"{name}_high": figure.samples.high}
            found |= {f"{name}_real": figure.real, f"{name}_chance": figure.chance}
        return {name: rounded(value) for name, value in found.items()}

    def document(self) -> dict[str, Any]:
        """Returns the figures for the report."""
        return {
            **{
                name: {
                    "samples": {end: rounded(getattr(figure.samples, end)) for end in ("value", "low", "high")},
                    "real": rounded(figure.real),
                    "chance": rounded(figure.chance),
                    "num_samples": figure.num_samples,
                }
                for name, figure in self.shares.items()
            },
            **{name: rounded(value) for name, value in self.steadiness.items()},
        }


def clip_figures(samples: Seen, train: Seen, holdout: Seen, *, seed: int, num_resamples: int) -> ClipFigures:
    """Measures clips.

    Args:
        samples: The samples, with the captions that they were drawn for.
        train: Real training clips: what the probe of captions learns from.
        holdout: Real held-out clips.
        seed: Seed of pools and resampling.
        num_resamples: Resamples behind each interval.
    """
    shares = {}
    if (moving := _direction(samples, holdout, seed, num_resamples)) is not None:
        shares["motion_direction"] = moving
    if (found := _retrieval(samples, train, holdout, seed, num_resamples)) is not None:
        shares["caption_retrieval"] = found
    sides = (("", samples), ("_real", holdout))
    steadiness = {f"temporal_consistency{side}": seen.consistency for side, seen in sides}
    steadiness |= {f"pixel_flicker{side}": seen.flicker for side, seen in sides}
    return ClipFigures(shares=shares, steadiness=steadiness)


def _direction(samples: Seen, holdout: Seen, seed: int, num_resamples: int) -> Figure | None:
    right = {side: _goes_right(seen) for side, seen in (("samples", samples), ("real", holdout))}
    if any(not len(values) for values, _ in right.values()):
        return None
    values, groups = right["samples"]
    return Figure(
        samples=bootstrap_mean(values, groups=groups, seed=seed, num_resamples=num_resamples),
        real=float(right["real"][0].mean()),
        chance=1 / len(DIRECTIONS),
        num_samples=len(values),
    )


def _goes_right(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Returns, of clips whose caption names one direction, whether they go there, and which caption each is of."""
    asked = asked_directions(seen.captions)
    chosen = [index for index, direction in enumerate(asked) if direction]
    going = directions(seen.moved)
    _, groups = np.unique(np.asarray(seen.captions), return_inverse=True)
    return np.asarray([going[index] == asked[index] for index in chosen], dtype=np.float64), groups[chosen]


def _retrieval(samples: Seen, train: Seen, holdout: Seen, seed: int, num_resamples: int) -> Figure | None:
    if len(set(samples.captions)) < 2 or len(set(holdout.captions)) < 2:
        return None
    probe = train_retrieval(train.described(), train.text)
    found, pool = found_own(probe, samples.described(), samples.text, samples.captions, seed=seed)
    real, _ = found_own(probe, holdout.described(), holdout.text, holdout.captions, seed=seed, pool=pool)
    return Figure(
        samples=bootstrap_mean(found, seed=seed, num_resamples=num_resamples),
        real=float(real.mean()),
        chance=1 / pool,
        num_samples=len(found),
    )
