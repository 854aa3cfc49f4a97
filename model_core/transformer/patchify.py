"""Latents to tokens of spacetime patches and back.

Shape legend: b batch, c channels, (t h w) the grid of tokens, (pt ph pw) a patch; one token is a row of ``pt ph pw c`` numbers.
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

Patch = tuple[int, int, int]


def patchify(latents: Float[Tensor, "b c frames height width"], patch: Patch) -> Float[Tensor, "b tokens dim"]:
    """Returns one token a patch, in the order frames, rows, columns."""
    pt, ph, pw = patch
    return rearrange(latents, "b c (t pt) (h ph) (w pw) -> b (t h w) (pt ph pw c)", pt=pt, ph=ph, pw=pw)


def unpatchify(
    tokens: Float[Tensor, "b tokens dim"], patch: Patch, grid: tuple[int, int, int]
) -> Float[Tensor, "b c frames height width"]:
    """Reverses `patchify`.

    Args:
        tokens: One row a patch.
        patch: Latent positions per token along frames, height and width.
        grid: Tokens along frames, height and width.
    """
    (pt, ph, pw), (t, h, w) = patch, grid
    return rearrange(tokens, "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)", t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)
