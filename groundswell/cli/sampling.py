"""Options of commands that draw samples: what else may be chosen of sampling; the names are those of `SamplingOptions`."""

from collections.abc import Callable
from typing import Any, get_args

import click

from model_core.sampling.options import DdpmVariance

_SHARE = click.FloatRange(0, 1)
_OPTIONS = (
    click.option(
        "--guidance-interval",
        metavar="LOW HIGH",
        nargs=2,
        type=_SHARE,
        help="Guide only between these times, from 0 (data) to 1 (noise).  [default: the model's own]",
    ),
    click.option(
        "--guidance-rescale",
        metavar="X",
        type=_SHARE,
        help="Share of the correction of what guidance does to contrast.  [default: the model's own]",
    ),
    click.option(
        "--time-shift",
        metavar="X",
        type=click.FloatRange(0, min_open=True),
        help="Take more steps where there is more noise; for rectified flow, 1 is none.  [default: the model's own]",
    ),
    click.option(
        "--cache-interval",
        metavar="N",
        type=click.IntRange(min=1),
        help="Compute attention and MLPs in every Nth call of the network only; 1 is always.  [default: the model's own]",
    ),
    click.option(
        "--eta", metavar="X", type=_SHARE, help="Share of DDPM's noise that the sampler ddim adds.  [default: the model's own]"
    ),
    click.option(
        "--ddpm-variance",
        type=click.Choice(get_args(DdpmVariance)),
        help="Which of its fixed variances the sampler ddpm draws with.  [default: the model's own]",
    ),
)


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which gets None for those that are not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
