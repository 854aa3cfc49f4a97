"""`groundswell models import`: a published checkpoint as a registered model."""

from pathlib import Path
from typing import Literal

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import run_display
from groundswell.cli.output import echo_facts, echo_json
from groundswell.cli.problem import CommandError

_MAX_LABEL_FILE_BYTES = 1 << 20
_SAID = "--name dit-xl --origin https://github.com/facebookresearch/DiT --licence CC-BY-NC-4.0"


@click.command(
    cls=Command,
    name="import",
    examples=(
        f"groundswell models import DiT-XL-2-256x256.pt --layout facebook-dit --codec sd-vae-ft-ema {_SAID}",
        f"groundswell models import DiT-XL-2-256 --layout diffusers {_SAID}",
    ),
)
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(["facebook-dit", "diffusers"]), required=True, help="What PATH is.")
@click.option("--name", required=True, help="The name to register the model under.")
@click.option("--origin", metavar="TEXT", required=True, help="Where it was got from, such as an address.")
@click.option("--licence", metavar="TEXT", required=True, help="Its licence, such as CC-BY-NC-4.0.")
@click.option(
    "--codec",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="What decodes its latents: a codec, or an AutoencoderKL of diffusers.  [default: PATH/vae for diffusers]",
)
@click.option(
    "--codec-scaling-factor", metavar="FLOAT", type=float, help="For an AutoencoderKL that names none, such as 0.18215."
)
@click.option("--labels", "labels_file", metavar="FILE", type=click.Path(path_type=Path), help="Names of its labels, one a line.")
@click.option("--num-heads", metavar="INTEGER", type=int, help="Attention heads of a .pt file that is none of the paper's sizes.")
@pass_invocation
def import_(
    invocation: Invocation,
    path: Path,
    layout: Literal["facebook-dit", "diffusers"],
    name: str,
    origin: str,
    licence: str,
    codec: Path | None,
    codec_scaling_factor: float | None,
    labels_file: Path | None,
    num_heads: int | None,
) -> None:
    """Import a published DiT checkpoint as a registered model, with its origin and licence on record.

    PATH is a .pt file of facebookresearch/DiT, or a folder of a diffusers DiTPipeline. A .pt file is a pickle: it is read in a
    process of its own, and nothing but tensors is taken from it. What the model was trained on is not known to groundswell,
    and model card, ML-BOM and lineage say so.
    """
    from pipelines.importing import ImportRequest, import_checkpoint

    request = ImportRequest(
        path=path,
        layout=layout,
        name=name,
        origin=origin,
        licence=licence,
        codec=codec,
        codec_scaling_factor=codec_scaling_factor,
        num_heads=num_heads,
        labels=_read_labels(labels_file) if labels_file is not None else None,
    )
    home = invocation.open_home(create=True)
    with run_display(keep=invocation.as_json) as display:
        outcome = import_checkpoint(home, request, actor=invocation.actor(home), on_view=display)
    document = {
        "run_id": outcome.run_id,
        "model_version": outcome.model_version,
        "root_digest": outcome.root_digest,
        "origin": origin,
        "licence": licence,
        "files": outcome.files,
    }
    if invocation.as_json:
        echo_json(document)
        return
    echo_facts(
        [
            ("model", outcome.model_version),
            ("digest", outcome.root_digest),
            ("origin", origin),
            ("licence", licence),
            *((f"SHA-256 of {file}", digest) for file, digest in outcome.files.items()),
            ("training data", "not known to groundswell; as stated by the origin"),
            ("the model", f"{invocation.program} models show {outcome.model_version}"),
            ("your own pictures", f"{invocation.program} run finetune --base {outcome.model_version} -S data.source=FOLDER"),
        ]
    )


def _read_labels(path: Path) -> tuple[str, ...]:
    """Returns the names in a file, one a line."""
    try:
        if path.stat().st_size > _MAX_LABEL_FILE_BYTES:
            raise CommandError(f"{path} is larger than 1 MiB", hint="it has one name a line", exit_code=3)
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read as text", hint="it has one name a line", exit_code=3) from error
