"""How far clips drift as they go on: each second against the clip's own first second, and against real clips.

From features of frames (`features.FeatureExtractor`), of a few frames a second, come

- the distance to the first second: ``1 - cos`` of the mean features of a second and of the clip's first, averaged over clips. It
  is not nothing for a clip that moves; what it must not do is grow
- the distance to real clips: KID (Binkowski 2018, arXiv 1801.01401) of all clips' frames of a second to those of real clips,
  unbiased at any number of them, pairs within one clip left out
- the share of frames in which a probe trained on real pictures sees the category that was asked for

Shapes: n clips, s seconds, k frames a second.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from model_core.errors import BadDataError
from model_core.evaluation.intervals import Interval, bootstrap_mean
from model_core.evaluation.kid import kernel_inception_distance
from model_core.evaluation.probe import Probe

_SMALLEST_LENGTH = 1e-12


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What becomes of clips, second by second.

    Attributes:
        to_first: Distance to the first second, which itself has none.
        to_real: KID to real clips.
        accuracy: Share of frames that show the category asked for.
        accuracy_real: The same share of real frames: the most that can be seen.
    """

    to_first: tuple[Interval, ...]
    to_real: tuple[Interval, ...]
    accuracy: tuple[float, ...]
    accuracy_real: float

    @property
    def accuracy_kept(self) -> float:
        """The last second's accuracy over the first's; 0 where the first shows nothing that was asked for."""
        return self.accuracy[-1] / self.accuracy[0] if self.accuracy[0] else 0.0


def measure_drift(
    features: Float[np.ndarray, "n s k dim"],
    asked: Int[np.ndarray, " n"],
    *,
    real: Float[np.ndarray, "m dim"],
    real_labels: Int[np.ndarray, " m"],
    real_clips: Int[np.ndarray, " m"],
    probe: Probe,
    seed: int = 0,
) -> Drift:
    """Returns how clips drift.

    Args:
        features: Of frames of each second of each clip.
        asked: The category that each clip was asked for.
        real: Features of frames of real clips.
        real_labels: Their categories.
        real_clips: Which clip each is of.
        probe: Tells categories; trained on other real pictures.
        seed: Of the intervals.

    Raises:
        BadDataError: There are no clips, or arrays do not fit together or hold a number that is not finite.
    """
    if features.ndim != 4 or 0 in features.shape or len(features) != len(asked):
        raise BadDataError(f"features {list(features.shape)} are not of some seconds of {len(asked)} clips")
    if not len(real) == len(real_labels) == len(real_clips) or real.shape[-1] != features.shape[-1]:
        raise BadDataError(f"real features {list(real.shape)} have {len(real_labels)} labels and {len(real_clips)} clips")
    if not (np.isfinite(features).all() and np.isfinite(real).all()):
        raise BadDataError("the features of some frames are not finite numbers")
    clips, seconds, frames, dim = features.shape
    from_first = distance_to_first(features)
    groups = np.repeat(np.arange(clips), frames)
    to_real = [
        kernel_inception_distance(
            features[:, second].reshape(-1, dim), real, seed=seed, groups_x=groups, groups_y=np.asarray(real_clips)
        )
        for second in range(seconds)
    ]
    seen = probe.predict(features.reshape(-1, dim)).reshape(clips, seconds, frames)
    return Drift(
        to_first=tuple(bootstrap_mean(from_first[:, second], seed=seed) for second in range(seconds)),
        to_real=tuple(to_real),
        accuracy=tuple(float(share) for share in (seen == asked[:, None, None]).mean(axis=(0, 2))),
        accuracy_real=float((probe.predict(real) == real_labels).mean()),
    )


def distance_to_first(features: Float[np.ndarray, "n s k dim"]) -> Float[np.ndarray, "n s"]:
    """Returns ``1 - cos(mean features of a second, mean features of the clip's first)``."""
    means = features.astype(np.float64).mean(axis=2)
    units = means / np.maximum(np.linalg.norm(means, axis=-1, keepdims=True), _SMALLEST_LENGTH)
    return np.asarray(1 - (units * units[:, :1]).sum(axis=-1))


def write_drift_plot(curves: dict[str, Drift], path: Path, *, title: str) -> None:
    """Draws distances and accuracy over seconds, a curve each; the same figures give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 9), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    first, real, accuracy = figure.subplots(3, 1, sharex=True)
    for place, (name, drift) in enumerate(curves.items()):
        colour = f"C{place}"
        for axes, intervals in ((first, drift.to_first), (real, drift.to_real)):
            seconds = np.arange(len(intervals))
            axes.plot(seconds, [each.value for each in intervals], color=colour, label=name)
            low, high = [each.low for each in intervals], [each.high for each in intervals]
            axes.fill_between(seconds, low, high, color=colour, alpha=0.15, linewidth=0)
        accuracy.plot(np.arange(len(drift.accuracy)), drift.accuracy, color=colour, label=name)
        accuracy.axhline(drift.accuracy_real, color="black", linestyle="--", linewidth=1)
    first.set_ylabel("distance to the first second")
    real.set_ylabel("KID to real clips")
    accuracy.set_ylabel("share of the category asked for")
    accuracy.set_ylim(0, 1.02)
    accuracy.set_xlabel("second")
    for axes in (first, real, accuracy):
        axes.grid(visible=True, alpha=0.3)
    first.set_title(title)
    first.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
