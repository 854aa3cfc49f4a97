"""The Kubeflow shell of the exit handler: wiring, and one call that records how a run on a cluster ended."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("record_end"), install_kfp_package=False)
def record_end(home: str, run_id: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Records the end of a run; the arguments are those of `pipelines.ending.record_run_end`."""
    from pipelines.ending import record_run_end

    record_run_end(home, run_id, state=status.state, message=status.error_message or "")
