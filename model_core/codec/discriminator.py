"""A patch discriminator and what a codec's training takes from it.

Isola 2017, arXiv 1611.07004, §3.2.2 (the network: every output judges one patch); Lim & Ye 2017, arXiv 1705.02894 (hinge loss);
Esser 2020, arXiv 2012.09841, eq. 7 (the weight).
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_KERNEL, _SLOPE = 4, 0.2
_MAX_WIDENING = 8
_INITIAL_STD = 0.02
_DELTA = 1e-6  # of eq. 7
_MAX_WEIGHT = 1e4


class PatchDiscriminator(nn.Module):
    """Judges each patch of a picture: high for real ones, low for reconstructions.

    Batch norms always use the batch's own statistics, as in the paper, so the weights are the whole state.

    Args:
        width: Channels of the first layer; they double at each layer, to at most eight times as many.
        num_layers: Layers that halve the resolution; with 3 an output sees 70 x 70 pixels.
    """

    def __init__(self, *, width: int, num_layers: int) -> None:
        super().__init__()
        widths = [width * min(2**i, _MAX_WIDENING) for i in range(num_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], _KERNEL, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 2 if i < num_layers else 1
            layers += [
                nn.Conv2d(before, after, _KERNEL, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(after, track_running_stats=False),
                nn.LeakyReLU(_SLOPE),
            ]
        self.net = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, _KERNEL, padding=1))
        for layer in self.net:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, _INITIAL_STD)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, _INITIAL_STD)

    def forward(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 1 h w"]:
        """Returns a score for each patch of pictures in [-1, 1]."""
        scores: Tensor = self.net(frames)
        return scores


def smallest_side(num_layers: int) -> int:
    """Returns the smallest side of a picture that a discriminator of so many layers can judge, in pixels."""
    return 3 << num_layers


def discriminator_hinge(real: Float[Tensor, "n 1 h w"], fake: Float[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    """Returns the discriminator's loss ``(E[max(0, 1 - D(x))] + E[max(0, 1 + D(x_hat))]) / 2``."""
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + fake).mean())


def generator_hinge(fake: Float[Tensor, "n 1 h w"]) -> Float[Tensor, ""]:
    """Returns the codec's part of the hinge loss, ``-E[D(x_hat)]``."""
    return -fake.mean()


def adaptive_weight(reconstruction_loss: Tensor, adversarial_loss: Tensor, last_weight: nn.Parameter) -> Float[Tensor, ""]:
    """Returns how much the adversarial loss counts, so that its gradient is as long as the reconstruction loss's.

    ``|grad L_rec| / (|grad L_GAN| + delta)``, both with respect to the decoder's last layer (Esser 2020, eq. 7), at most 10,000.
    """
    of_reconstruction, of_adversary = (
        torch.autograd.grad(loss, last_weight, retain_graph=True)[0].norm() for loss in (reconstruction_loss, adversarial_loss)
    )
    weight: Tensor = (of_reconstruction / (of_adversary + _DELTA)).clamp(0.0, _MAX_WEIGHT)
    return weight.detach()
