"""A picture of how the loss fell."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_SMOOTHING = 0.98


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """Returns an exponential moving average, corrected for its start (Kingma & Ba 2014, arXiv 1412.6980, §3)."""
    values = np.empty(len(losses))
    average = 0.0
    for index, loss in enumerate(losses):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        values[index] = average / (1 - _SMOOTHING ** (index + 1))
    return values


def write_loss_curve(losses: Sequence[float], path: Path, *, title: str) -> None:
    """Draws every loss and the smoothed curve; the same losses give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="#9db4c0", linewidth=0.6, label="each step")
    axes.plot(steps, smoothed(losses), color="#1b4965", linewidth=1.8, label="smoothed")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})
