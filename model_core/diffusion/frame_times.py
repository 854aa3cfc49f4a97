"""Times for each frame of a clip, so that a network learns to go on from frames that are there.

Shape legend: times are [batch], or [batch frames]; the frames that a patch of the network joins share one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from model_core.diffusion.objective import Objective

MAX_CONTEXT_TIME = 0.1
"""Most noise that frames to go on from are given in training, as a share of all time; a sampler may choose any up to that."""


@dataclass(frozen=True, kw_only=True)
class FrameTimes:
    """When each frame of a batch is trained.

    Attributes:
        times: As `Objective.draw_times` draws them.
        counted: False for frames that are given as context, and whose error does not count; None where every frame's does.
    """

    times: Shaped[Tensor, "batch frames"]
    counted: Bool[Tensor, "batch frames"] | None = None


def independent_times(times: Shaped[Tensor, "patches"], batch_size: int, patch_frames: int) -> FrameTimes:
    """Returns a time of its own for each frame (Diffusion Forcing: Chen 2024, arXiv 2407.01392, algorithm 1).

    Args:
        times: So many that each patch of frames has its own.
        batch_size: Number of clips.
        patch_frames: Frames that a patch joins.
    """
    return FrameTimes(times=times.view(batch_size, -1).repeat_interleave(patch_frames, dim=1))


def context_times(
    times: Shaped[Tensor, "batch"],
    num_frames: int,
    patch_frames: int,
    objective: Objective,
    *,
    probability: float,
    generator: torch.Generator,
) -> FrameTimes:
    """Returns times with which the first frames of some clips are context, nearly clean, and the others are learnt.

    How many frames of a clip are context is uniform over what leaves some to learn, in whole patches. Their time is uniform up
    to `MAX_CONTEXT_TIME`: what a network goes on from when it samples is its own work, and not quite clean either.

    Args:
        times: Of each clip's other frames.
        num_frames: Frames of a clip, of two patches or more.
        patch_frames: Frames that a patch joins.
        objective: Whose times they are.
        probability: Share of clips that have context.
        generator: Source of randomness.
    """
    count, patches = len(times), num_frames // patch_frames
    has_context = torch.rand(count, generator=generator) < probability
    lengths = torch.randint(1, patches, (count,), generator=generator) * patch_frames * has_context
    levels = objective.time_at(MAX_CONTEXT_TIME * torch.rand(count, generator=generator))
    counted = torch.arange(num_frames) >= lengths[:, None]
    return FrameTimes(times=torch.where(counted, times[:, None], levels[:, None]), counted=counted)
