"""`groundswell compile`: a pipeline as a file that a Kubeflow cluster takes."""

from pathlib import Path

import click

from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.output import echo_json, shown_path
from pipelines.graph import PIPELINES


@click.command(cls=Command, name="compile", examples=("groundswell compile training -o training.yaml",))
@click.argument("pipeline", metavar="PIPELINE", type=click.Choice(tuple(PIPELINES)))
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The YAML file to write.")
@pass_invocation
def command(invocation: Invocation, pipeline: str, output: Path) -> None:
    """Compile PIPELINE, training, codec or generation, to the YAML that Kubeflow Pipelines runs."""
    from pipelines.compiling import compile_pipeline

    compile_pipeline(pipeline, output)
    if invocation.as_json:
        echo_json({"pipeline": pipeline, "file": output.absolute()})
    else:
        click.echo(f"{pipeline} written to {shown_path(output)}")
