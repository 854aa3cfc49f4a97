"""The Kubeflow shell of finetune_dit: wiring, and one call of the runtime."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.images import image


@dsl.component(base_image=image("finetune_dit"), install_kfp_package=False)
def finetune_dit(
    home: str,
    run_id: str,
    params: str,
    latents: Input[Dataset],
    base: Input[Model],
    model: Output[Model],
) -> None:
    """Runs the step finetune_dit through the runtime; the arguments are those of `components.kubeflow.run_component`."""
    from components.kubeflow import run_component

    run_component(
        "finetune_dit",
        home=home,
        run_id=run_id,
        params=params,
        inputs={"latents": latents, "base": base},
        outputs={"model": model},
    )
