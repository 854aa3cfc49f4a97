"""The Kubeflow shell of encode_latents: wiring, and one call of the runtime."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.images import image


@dsl.component(base_image=image("encode_latents"), install_kfp_package=False)
def encode_latents(
    home: str,
    run_id: str,
    params: str,
    dataset: Input[Dataset],
    validation: Input[Artifact],
    codec: Input[Model],
    latents: Output[Dataset],
) -> None:
    """Runs the step encode_latents through the runtime; the arguments are those of `components.kubeflow.run_component`."""
    from components.kubeflow import run_component

    run_component(
        "encode_latents",
        home=home,
        run_id=run_id,
        params=params,
        inputs={"dataset": dataset, "validation": validation, "codec": codec},
        outputs={"latents": latents},
    )
