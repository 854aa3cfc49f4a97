"""The Kubeflow shell of collect_results: wiring, and one call of the runtime."""

from typing import List  # noqa: UP035 - kfp reads annotations of its own kind

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.images import image


@dsl.component(base_image=image("collect_results"), install_kfp_package=False)
def collect_results(
    home: str,
    run_id: str,
    params: str,
    plan: Input[Artifact],
    made: Input[List[Artifact]],  # noqa: UP006
    results: Output[Artifact],
) -> None:
    """Runs the step collect_results through the runtime; the arguments are those of `components.kubeflow.run_component`."""
    from components.kubeflow import run_component

    run_component(
        "collect_results",
        home=home,
        run_id=run_id,
        params=params,
        inputs={"plan": plan, **{f"made-{number:04d}": part for number, part in enumerate(made)}},
        outputs={"results": results},
    )
