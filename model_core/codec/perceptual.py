"""A distance between pictures in the features of a frozen network, as eyes judge better than pixels do.

Zhang 2018, arXiv 1801.03924, eq. 1 with all channel weights one: at each stage the features of a position are divided by their
length, squared differences are summed over channels and averaged over positions; stages are averaged. The network is
EfficientNet-Lite0, the one that evaluation measures with; it is not trained, but gradients flow through it to the pixels.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model_core.errors import BadDataError, BadModelError

# The last block at a half, a quarter, an eighth and a sixteenth of the resolution.
LITE0_STAGES = (0, 2, 4, 10)
SIDE_MULTIPLE = 16
_CENTRE, _SCALE = 127.0, 128.0  # of the pixels, 0 to 255, that the network was trained on
_EPS = 1e-8


class PerceptualLoss(nn.Module):
    """The distance of pictures in the features of EfficientNet-Lite0's stages.

    Args:
        network: An EfficientNet-Lite0, or another network with the same stem and a list of blocks.
        digest: Identifies the network's weights and preprocessing; a training's checkpoint belongs to it.
        stages: Numbers of the blocks after which features are compared.
    """

    def __init__(self, network: nn.Module, *, digest: str, stages: Sequence[int] = LITE0_STAGES) -> None:
        super().__init__()
        blocks = list(network.get_submodule("_blocks").children())
        self.stem = nn.Sequential(*(network.get_submodule(name) for name in ("_conv_stem", "_bn0", "_swish")))
        starts = (0, *(stage + 1 for stage in stages))
        self.stages = nn.ModuleList(nn.Sequential(*blocks[a:b]) for a, b in pairwise(starts))
        self.digest = f"{digest} stages {list(stages)}"
        self.eval().requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> "PerceptualLoss":  # noqa: ARG002  # torch's signature
        """Stays in evaluation mode: the network is frozen."""
        return super().train(mode=False)

    def features(self, frames: Float[Tensor, "n 3 H W"]) -> list[Tensor]:
        """Returns the features of each stage, [n c h w], of length one at each position.

        Raises:
            BadDataError: A side is not a multiple of the last stage's step.
        """
        if any(side == 0 or side % SIDE_MULTIPLE for side in frames.shape[-2:]):
            raise BadDataError(
                f"pictures of {frames.shape[-1]}x{frames.shape[-2]} px have no perceptual distance",
                hint=f"use sides that are multiples of {SIDE_MULTIPLE}",
            )
        x = self.stem(((frames + 1) * 127.5 - _CENTRE) / _SCALE)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(functional.normalize(x, dim=1, eps=_EPS))
        return found

    def forward(self, frames: Float[Tensor, "n 3 H W"], reconstruction: Float[Tensor, "n 3 H W"]) -> Float[Tensor, ""]:
        """Returns the distance of pictures in [-1, 1], mean over them; gradients reach the reconstruction's pixels."""
        pairs = zip(self.features(frames), self.features(reconstruction), strict=True)
        distances = [functional.mse_loss(y, x, reduction="sum") / x[:, 0].numel() for x, y in pairs]
        return sum(distances[1:], start=distances[0]) / len(distances)


def load_perceptual_loss(cache: Path) -> PerceptualLoss:
    """Returns the distance with the packaged ImageNet weights, converting them to safetensors in a cache folder the first time.

    Raises:
        BadModelError: The packages of the network are not installed, or the weights are not the expected ones.
    """
    from model_core.evaluation.features import FEATURES_NAME, TENSORS_SHA256, open_extractor

    try:
        network = open_extractor(cache).network
    except ModuleNotFoundError as error:
        raise BadModelError(
            f"a perceptual loss needs {FEATURES_NAME}, which is not installed: {error}", hint="set perceptual_weight to 0"
        ) from error
    return PerceptualLoss(network, digest=f"{FEATURES_NAME} {TENSORS_SHA256}")
