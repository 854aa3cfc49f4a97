"""The generation pipeline: a table of requests to pictures and clips, each on record, joined back by request_id."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.collect_results.component import collect_results
from components.images import image
from components.validate_requests.component import validate_requests
from pipelines.shaping import ending, imported, parallelism, shaped

PARALLELISM = 4
"""Parts that are made at a time on a cluster; kfp.local makes two at a time."""


@dsl.component(base_image=image("generate_batch"), install_kfp_package=False)
def generate_batch(
    home: str,
    run_id: str,
    params: str,
    shard: str,
    table: Input[Artifact],
    plan: Input[Artifact],
    package: Input[Model],
    made: Output[Artifact],
) -> None:
    """Makes one part; the arguments are those of `pipelines.shards.run_shard`."""
    from pipelines.shards import run_shard

    run_shard(
        home=home,
        run_id=run_id,
        params=params,
        shard=shard,
        inputs={"table": table, "plan": plan, "package": package},
        outputs={"made": made},
    )


@dsl.pipeline(name="groundswell-generation", description="validate_requests -> generate_batch, part by part -> collect_results")
def generation(home: str, run_id: str, params: str, table: str, package: str) -> None:
    """Checks a table of requests, makes its parts side by side, and joins what they became.

    Args:
        home: The home's folder.
        run_id: The run's id, a UUID.
        params: JSON: each step's configuration by the step's name.
        table: Where the folder with the table is.
        package: Where the model's package is.
    """
    shared = {"home": home, "run_id": run_id, "params": params}
    with ending(home, run_id):
        requests = imported(table, Artifact, "requests")
        model = imported(package, Model, "package")
        checked = shaped(validate_requests(**shared, table=requests.output), "validate_requests")
        plan = checked.outputs["plan"]
        with dsl.ParallelFor(checked.outputs["Output"], parallelism=parallelism(PARALLELISM)) as shard:
            part = generate_batch(**shared, shard=shard, table=requests.output, plan=plan, package=model.output)
            shaped(part, "generate_batch")
        shaped(collect_results(**shared, plan=plan, made=dsl.Collected(part.outputs["made"])), "collect_results")
