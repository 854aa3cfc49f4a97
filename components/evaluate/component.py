"""The Kubeflow shell of evaluate: wiring, and one call of the runtime."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.images import image


@dsl.component(base_image=image("evaluate"), install_kfp_package=False)
def evaluate(
    home: str,
    run_id: str,
    params: str,
    model: Input[Model],
    codec: Input[Model],
    latents: Input[Dataset],
    dataset: Input[Dataset],
    evaluation: Output[Artifact],
) -> None:
    """Runs the step evaluate through the runtime; the arguments are those of `components.kubeflow.run_component`."""
    from components.kubeflow import run_component

    run_component(
        "evaluate",
        home=home,
        run_id=run_id,
        params=params,
        inputs={"model": model, "codec": codec, "latents": latents, "dataset": dataset},
        outputs={"evaluation": evaluation},
    )
