"""The generation pipeline: a table of requests to pictures and clips, each on record, joined back by request_id."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.collect_results.component import collect_results
from components.images import image
from components.validate_requests.component import validate_requests

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
    requests = dsl.importer(artifact_uri=table, artifact_class=Artifact, reimport=False).set_display_name("requests")
    model = dsl.importer(artifact_uri=package, artifact_class=Model, reimport=False).set_display_name("package")
    shared = {"home": home, "run_id": run_id, "params": params}
    checked = validate_requests(**shared, table=requests.output).set_caching_options(False)
    with dsl.ParallelFor(checked.outputs["Output"], parallelism=PARALLELISM) as shard:
        part = generate_batch(
            **shared, shard=shard, table=requests.output, plan=checked.outputs["plan"], package=model.output
        ).set_caching_options(False)
    collect_results(**shared, plan=checked.outputs["plan"], made=dsl.Collected(part.outputs["made"])).set_caching_options(False)
