"""`groundswell compile`: a pipeline as a file that a Kubeflow cluster takes."""

from pathlib import Path

import click

from groundswell.cli.cluster_file import warn_of_tags
from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import echo_json, shown_path
from pipelines.graph import PIPELINES


@click.command(
    cls=Command,
    name="compile",
    examples=(
        "groundswell compile training -o training.yaml",
        "groundswell compile training --cluster cluster.yaml -o training.yaml",
    ),
)
@click.argument("pipeline", metavar="PIPELINE", type=click.Choice(tuple(PIPELINES)))
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The YAML file to write.")
@click.option(
    "--cluster",
    "cluster_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What steps get there: resources, nodes, the home's volume, secrets, images by digest. docs/KUBEFLOW.md has an example.",
)
@click.option(
    "--encode-in-parts",
    is_flag=True,
    help="Encode the dataset in as many parts as a run's encode_latents.parts says, side by side.",
)
@pass_invocation
def command(invocation: Invocation, pipeline: str, output: Path, cluster_file: Path | None, encode_in_parts: bool) -> None:
    """Compile PIPELINE, training, codec, finetune or generation, to the YAML that Kubeflow Pipelines runs.

    Its exit handler records how a run ended, whatever became of it. The file's first line has the SHA-256 of the rest, so that a
    file which was edited is known: what steps get is set with --cluster.
    """
    from pipelines.cluster import read_cluster
    from pipelines.compiling import compile_pipeline

    cluster = read_cluster(cluster_file) if cluster_file else None
    compile_pipeline(pipeline, output, cluster=cluster, in_parts=encode_in_parts)
    warn_of_tags(cluster, pipeline)
    if invocation.as_json:
        echo_json({"pipeline": pipeline, "file": output.absolute()})
    else:
        click.echo(f"{pipeline} written to {shown_path(output)}")
