"""`groundswell submit`: a pipeline on a Kubeflow cluster, on record in this home."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from groundswell.cli.cluster_file import warn_of_tags
from groundswell.cli.context import Command, Invocation, pass_invocation
from groundswell.cli.live import run_display
from groundswell.cli.output import echo_facts, echo_json, short_id, tell_warnings
from groundswell.cli.problem import EXIT_INTERRUPTED, CommandError, Problem, tell_problem
from groundswell.cli.remote import server_options
from groundswell.cli.stopping import terminate_as_interrupt
from pipelines.graph import PIPELINES

if TYPE_CHECKING:
    from infra.home import Home
    from infra.kubeflow import KubeflowServer
    from pipelines.params import PipelineParams
    from pipelines.submitting import Submitted


@click.command(
    cls=Command,
    name="submit",
    examples=(
        "groundswell submit training --host https://kubeflow.example/pipeline --cluster cluster.yaml --token-file token --wait",
        "groundswell submit training.yaml --host https://kubeflow.example/pipeline -S train_dit.num_steps=5000",
    ),
)
@click.argument("pipeline", metavar="PIPELINE")
@server_options(required=True)
@click.option(
    "--cluster", "cluster_file", metavar="FILE", type=click.Path(path_type=Path), help="What steps get there, as for `compile`."
)
@click.option("-S", "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Set a parameter, as for `run`. Repeatable.")
@click.option(
    "--params", "params_file", metavar="FILE", type=click.Path(path_type=Path), help="Read parameters from a YAML file; -S wins."
)
@click.option("--wait", is_flag=True, help="Follow the run to its end, with live status; the exit code is the run's.")
@pass_invocation
def command(
    invocation: Invocation,
    pipeline: str,
    host: str,
    namespace: str,
    token_file: Path | None,
    cluster_file: Path | None,
    settings: tuple[str, ...],
    params_file: Path | None,
    wait: bool,
) -> int:
    """Run PIPELINE on a Kubeflow cluster: training, codec, finetune or generation, or a file that `compile` has written.

    The steps share this home's database, keys and folder, which the cluster mounts (docs/KUBEFLOW.md). The run is on record here
    from its beginning, `groundswell runs` shows it with the others, and the pipeline's exit handler records its end. Interrupting
    --wait leaves the run alone. A compiled file that was edited is refused with exit code 4, a token that is not accepted with 5,
    and a cluster that does not answer with 6.
    """
    from infra.kubeflow import KubeflowServer
    from pipelines.cluster import read_cluster
    from pipelines.compiling import read_compiled
    from pipelines.params import resolve_params
    from pipelines.submitting import submit_pipeline

    package = None if pipeline in PIPELINES else Path(pipeline)
    if package is not None and not package.is_file():
        raise click.UsageError(f"PIPELINE is {', '.join(PIPELINES)}, or a compiled file; {pipeline!r} is neither")
    if package is not None and cluster_file is not None:
        raise click.UsageError("a compiled file says already what its steps get: leave out --cluster")
    name = read_compiled(package) if package else pipeline
    cluster = read_cluster(cluster_file) if cluster_file else None
    params = resolve_params(name, params_file=params_file, settings=list(settings))
    server = KubeflowServer(host, namespace=namespace, token_file=token_file)
    home = invocation.open_home(create=True)
    if home.settings.database_url.startswith("sqlite:"):
        tell_warnings(["this home's database is a file, which steps on other machines do not share: docs/KUBEFLOW.md"])
    with terminate_as_interrupt():
        actor = invocation.actor(home)
        run = submit_pipeline(home, name, params, server, package=package, cluster=cluster, actor=actor)
    warn_of_tags(cluster, name)
    if not wait:
        _tell(invocation, run)
        return 0
    return _wait(invocation, home, run, server, params)


def _tell(invocation: Invocation, run: "Submitted") -> None:
    if invocation.as_json:
        document = {"run_id": run.run_id, "kubeflow_run_id": run.remote_id, "host": run.host, "pipeline": run.pipeline}
        echo_json({**document, "package_sha256": run.package_sha256})
        return
    click.secho("submitted", fg="green", bold=True)
    page = f"{run.host}/#/runs/details/{run.remote_id}"
    again = f"{invocation.program} runs show {short_id(run.run_id)}"
    echo_facts([("run", run.run_id), ("there", page), ("how it goes", again)])


def _wait(invocation: Invocation, home: "Home", run: "Submitted", server: "KubeflowServer", params: "PipelineParams") -> int:
    from groundswell.cli.run import outcome_document
    from pipelines.batch_run import hand_out
    from pipelines.outcome import describe_outcome
    from pipelines.params import GenerationParams
    from pipelines.submitting import follow

    try:
        with terminate_as_interrupt(), run_display(keep=True) as display:
            follow(home, run, server, on_view=display)
    except KeyboardInterrupt:
        hint = f"the run goes on: `{invocation.program} runs show {short_id(run.run_id)}`"
        raise CommandError("interrupted", hint=hint, exit_code=EXIT_INTERRUPTED) from None
    outcome = describe_outcome(home, run.run_id)
    if isinstance(params, GenerationParams) and outcome.status == "completed":
        outcome = hand_out(home, params, outcome)
        tell_warnings(outcome.warnings)
    if invocation.as_json:
        echo_json({**outcome_document(outcome), "kubeflow_run_id": run.remote_id, "host": run.host})
    else:
        click.echo(f"run {run.run_id} {outcome.status}")
    if outcome.error:
        tell_problem(Problem(diagnosis=outcome.error, hint=outcome.hint, exit_code=outcome.exit_code), as_json=False)
    return outcome.exit_code
