"""The Kubeflow shell of validate_requests: wiring, one call of the runtime, and the numbers of the parts to loop over."""

from typing import List  # noqa: UP035 - kfp reads annotations of its own kind

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.images import image


@dsl.component(base_image=image("validate_requests"), install_kfp_package=False)
def validate_requests(
    home: str,
    run_id: str,
    params: str,
    table: Input[Artifact],
    plan: Output[Artifact],
) -> List[str]:  # noqa: UP006
    """Runs the step validate_requests through the runtime, and returns the parts that it has divided the table into."""
    from components.kubeflow import run_component
    from components.validate_requests.plan import read_shards

    made = run_component(
        "validate_requests", home=home, run_id=run_id, params=params, inputs={"table": table}, outputs={"plan": plan}
    )
    return read_shards(str(made["plan"].path))
