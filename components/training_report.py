"""What the steps that train a transformer tell while they do, and leave of it."""

import json
from pathlib import Path

from components.ports import Ports, StepReport
from model_core.training.config import TrainingConfig
from model_core.training.loop import StepProgress, TrainingResult
from model_core.training.loss_curve import smoothed, write_loss_curve

TRAINING_NAME = "training.json"
LOSS_CURVE_NAME = "loss_curve.png"
LIBRARIES = ("einops", "numpy", "safetensors", "torch")
"""What computes the weights."""
_LOG_EVERY = 10


class TrainingObserver:
    """Passes on how training goes: every step to the progress bar, every tenth to tracking and metrics.

    Args:
        ports: Where to.
        doing: What is being done, in words.
    """

    def __init__(self, ports: Ports, doing: str) -> None:
        self._ports = ports
        self._doing = doing

    def on_step(self, progress: StepProgress) -> None:
        """Reports one step."""
        self._ports.progress.update(
            progress.step,
            progress.num_steps,
            self._doing,
            loss=progress.loss,
            steps_per_s=progress.steps_per_s,
            seconds_left=progress.seconds_left,
        )
        if progress.step % _LOG_EVERY == 0 or progress.step == progress.num_steps:
            figures = {
                "loss": progress.loss,
                "steps_per_s": progress.steps_per_s,
                "images_per_s": progress.images_per_s,
                "model_flops_per_s": progress.model_flops_per_s,
            }
            if progress.share_of_peak is not None:
                figures["share_of_peak"] = progress.share_of_peak
            self._ports.tracking.log_metrics(figures, step=progress.step)
            for name, value in figures.items():
                self._ports.metrics.gauge(f"training_{name}", value)


def training_report(result: TrainingResult, training: TrainingConfig, folder: Path, *, num_items: int) -> StepReport:
    """Writes losses and curve into the model's folder, and says how it went."""
    final = float(smoothed(result.losses)[-1])
    record = {"losses": result.losses, "final_loss": final, "num_parameters": result.num_parameters, "num_items": num_items}
    (folder / TRAINING_NAME).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_loss_curve(result.losses, folder / LOSS_CURVE_NAME, title=f"training loss ({training.objective})")
    epochs = training.num_steps * training.batch_size / num_items
    return StepReport(
        metrics={"final_loss": final, "num_parameters": float(result.num_parameters), "num_steps": float(training.num_steps)},
        summary=f"{result.num_parameters / 1e6:.1f} M parameters, {training.num_steps} steps, loss {final:.3f}",
        facts={"num_items": num_items, "epochs": round(epochs, 2), "resumed_from": result.resumed_from},
        artifacts={"model": (LOSS_CURVE_NAME, TRAINING_NAME, "config.json")},
    )
