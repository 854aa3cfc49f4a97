"""How samples are drawn besides sampler, steps and guidance scale; importing this imports no tensors."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from model_core.sampling.names import SamplerName


def _in_order(interval: tuple[float, float]) -> tuple[float, float]:
    if not interval[0] < interval[1]:
        raise ValueError("the first time must be below the second")
    return interval


Share = Annotated[float, Field(ge=0, le=1)]
GuidanceInterval = Annotated[tuple[Share, Share], AfterValidator(_in_order)]
TimeShift = Annotated[float, Field(gt=0)]
CacheInterval = Annotated[int, Field(ge=1)]
DdpmVariance = Literal["small", "large"]

DEFAULT_NUM_PASSES: Final = 5
"""How often each step is taken where a part of the latents is kept, see `inpainting`."""

_READ_BY: Final[Mapping[str, SamplerName]] = {"eta": "ddim", "ddpm_variance": "ddpm"}  # the others are read by every sampler


class SamplingOptions(BaseModel):
    """What may be chosen of sampling besides sampler, steps and guidance scale; None where nothing was chosen.

    Attributes:
        guidance_interval: First and last time at which guidance holds, as shares of all time from 0 (data) to 1 (noise);
            0 to 1 is always.
        guidance_rescale: Share of the correction of what a large guidance scale does to contrast; 0 is none, 0.7 usual.
        time_shift: Rectified flow's shift of times towards noise; 1 is none, 3 usual for large latents.
        cache_interval: Attention and MLPs are computed in every n-th call of the network and reused between; 1 is always.
        eta: Share of DDPM's noise that DDIM adds; 0 is none.
        ddpm_variance: Which of its two fixed variances DDPM draws with, for a network that learns none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    guidance_interval: GuidanceInterval | None = None
    guidance_rescale: Share | None = None
    time_shift: TimeShift | None = None
    cache_interval: CacheInterval | None = None
    eta: Share | None = None
    ddpm_variance: DdpmVariance | None = None

    def chosen(self) -> dict[str, Any]:
        """Returns the options that were chosen, by name."""
        return {name: getattr(self, name) for name in SamplingOptions.model_fields if getattr(self, name) is not None}


def options_in_effect(defaults: Mapping[str, Any], given: Mapping[str, Any], sampler: SamplerName) -> dict[str, Any]:
    """Returns what was given, over those of a model's defaults that the sampler reads; None stands for nothing given.

    Args:
        defaults: The model's own options by name.
        given: What was asked for, by name; a sampler that does not read it will refuse it.
        sampler: The sampler that draws.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    return {name: value for name, value in defaults.items() if _READ_BY.get(name, sampler) == sampler} | asked


def option_in_vain(
    sampler: SamplerName,
    objective: str,
    *,
    learn_variance: bool,
    time_shift: float | None = None,
    eta: float | None = None,
    ddpm_variance: DdpmVariance | None = None,
) -> tuple[str, str] | None:
    """Returns diagnosis and hint for an option that this sampler and model would not read, None where there is none."""
    if time_shift is not None and objective != "rectified_flow":
        return f"a time shift is for rectified flow, this model's objective is {objective}", "leave time_shift out"
    if eta and sampler != "ddim":
        return f"eta is {eta}, which the sampler {sampler} does not read", "leave eta out, or choose the sampler ddim"
    if ddpm_variance is not None and sampler != "ddpm":
        return (
            f"ddpm_variance is {ddpm_variance}, which the sampler {sampler} does not read",
            "leave ddpm_variance out, or choose the sampler ddpm",
        )
    if ddpm_variance is not None and learn_variance:
        return f"ddpm_variance is {ddpm_variance}, but this network learns its variance", "leave ddpm_variance out"
    return None
