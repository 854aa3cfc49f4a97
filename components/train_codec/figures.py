"""Pictures of a codec's training; the same figures give the same bytes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_SMOOTHING = 50


def write_loss_curve(losses: Sequence[float], path: Path) -> None:
    """Draws the loss of each step and its running mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = np.arange(1, len(losses) + 1)
    window = min(_SMOOTHING, len(losses))
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#b8cbe0", linewidth=0.8, label="each step")
    axes.plot(steps[window - 1 :], smooth, color="#1f4e8c", linewidth=1.6, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="loss", yscale="log", title="Training loss of the codec")
    axes.grid(visible=True, which="both", color="#e6e6e6", linewidth=0.6)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})
