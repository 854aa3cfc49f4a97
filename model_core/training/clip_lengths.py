"""What each step of a training takes: clips of which length, how many, and which rows.

A step is of one length, so that its items are one tensor; lengths take turns. Shorter ones come with as many more items, so that
each step sees the same number of tokens: the buckets of Open-Sora (Zheng 2024, arXiv 2412.20404), in turn and not drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model_core.errors import BadModelError
from model_core.training.config import TrainingConfig
from model_core.training.data_order import rows_between
from model_core.transformer.config import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """What a step is trained on.

    Attributes:
        length: Latent frames of each item.
        num_items: Items of the step, over all processes.
        items_before: Items of all steps before it.
    """

    length: int
    num_items: int
    items_before: int

    def rows(self, rows: Sequence[int], seed: int) -> list[int]:
        """Returns the step's rows, of those to train on."""
        return rows_between(self.items_before, self.items_before + self.num_items, rows, seed=seed)


def bucket_at(step: int, config: TrainingConfig, num_frames: int) -> Bucket:
    """Returns what a step is trained on.

    Args:
        step: Counted from 0.
        config: Hyperparameters.
        num_frames: Latent frames of whole clips.
    """
    lengths = config.clip_lengths or (num_frames,)
    counts = [config.batch_size * num_frames // length for length in lengths]
    turns, place = divmod(step, len(lengths))
    return Bucket(length=lengths[place], num_items=counts[place], items_before=turns * sum(counts) + sum(counts[:place]))


def mean_items(config: TrainingConfig, num_frames: int) -> float:
    """Returns how many items a step has, over a turn of all lengths."""
    turn = range(max(len(config.clip_lengths), 1))
    return sum(bucket_at(step, config, num_frames).num_items for step in turn) / len(turn)


def require_fitting_lengths(config: TrainingConfig, architecture: TransformerConfig, num_frames: int) -> None:
    """Refuses lengths that clips cannot be cut to, or that do not divide them: all steps are to see as many tokens.

    Raises:
        BadModelError: There is one.
    """
    patch = architecture.patch_size[0]
    for length in config.clip_lengths:
        if num_frames % length or length % patch:
            fitting = [each for each in range(patch, num_frames + 1, patch) if num_frames % each == 0]
            raise BadModelError(
                f"training: clip_lengths has {length}; clips of {num_frames} latent frames, {patch} a patch, have no such part",
                hint=f"choose among {', '.join(map(str, fitting))}",
            )
