"""How a pipeline is shaped when it is traced: for a cluster, of which a local run needs nothing; in parts, where asked for."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from infra.cluster_values import seconds
from infra.settings import TRAIN_JOB
from infra.train_jobs.leftovers import ENDS_TRAIN_JOBS
from pipelines.cluster import Cluster
from pipelines.graph import whole_of

ENDING = "record_end"


@dataclass(frozen=True)
class _Target:
    cluster: Cluster | None


_TARGET: ContextVar[_Target | None] = ContextVar("target", default=None)
_IN_PARTS: ContextVar[bool] = ContextVar("in_parts", default=False)


@contextmanager
def compiled_for(cluster: Cluster | None) -> Iterator[None]:
    """Shapes the pipelines that are traced in the block for a cluster; for any, where nothing is known of it."""
    token = _TARGET.set(_Target(cluster))
    try:
        yield
    finally:
        _TARGET.reset(token)


def traced(pipeline: Any, *, in_parts: bool) -> Any:
    """Returns a pipeline of kfp's as it is shaped where this is called.

    Args:
        pipeline: The pipeline, as it was traced when it was imported.
        in_parts: Whether its dataset is encoded part by part.
    """
    from kfp import dsl

    token = _IN_PARTS.set(in_parts)
    try:
        return dsl.pipeline(pipeline.pipeline_func, name=pipeline.name, description=pipeline.description)
    finally:
        _IN_PARTS.reset(token)


def encodes_in_parts() -> bool:
    """Returns whether a dataset is encoded part by part, by as many tasks as `encode_latents.parts` says."""
    return _IN_PARTS.get()


def parallelism(default: int) -> int:
    """Returns how many parts are made at a time."""
    target = _TARGET.get()
    return target.cluster.parallelism if target and target.cluster else default


def ending(home: Any, run_id: Any) -> AbstractContextManager[Any]:
    """Has the end of a run recorded after the block, whatever becomes of it; a local run's own process does that.

    Args:
        home: The home's folder, as the pipeline is given it.
        run_id: The run, as the pipeline is given it.
    """
    if _TARGET.get() is None:
        return nullcontext()
    from kfp import dsl

    from pipelines.record_end import record_end

    handler: AbstractContextManager[Any] = dsl.ExitHandler(shaped(record_end(home=home, run_id=run_id), ENDING), name="steps")
    return handler


def imported(uri: Any, artifact_class: Any, name: str) -> Any:
    """Returns the task that takes a folder into a pipeline as an artifact; each time anew, since a place may hold something else.

    Args:
        uri: Where the folder is.
        artifact_class: What kfp calls it.
        name: What a person sees.
    """
    from kfp import dsl

    task = dsl.importer(artifact_uri=uri, artifact_class=artifact_class, reimport=False)
    return task.set_display_name(name).set_caching_options(False)


def shaped(task: Any, step: str) -> Any:
    """Returns a task as it runs: kfp's cache off, because the step's own fingerprint decides; with what the cluster gives it.

    Args:
        task: kfp's task.
        step: The step's name.
    """
    task.set_caching_options(False)
    target = _TARGET.get()
    if target is not None and target.cluster is not None:
        _set_resources(task, target.cluster, step)
        _set_surroundings(task, target.cluster, step)
    return task


def _set_resources(task: Any, cluster: Cluster, step: str) -> None:
    from kfp import kubernetes

    given = cluster.resources(step)
    if given.cpu:
        task.set_cpu_request(given.cpu).set_cpu_limit(given.cpu)
    if given.memory:
        task.set_memory_request(given.memory).set_memory_limit(given.memory)
    if given.accelerator:
        task.set_accelerator_type(given.accelerator.type).set_accelerator_limit(given.accelerator.count)
    for key, value in sorted((given.node_selector or {}).items()):
        kubernetes.add_node_selector(task, label_key=key, label_value=value)
    for one in given.tolerations or ():
        kubernetes.add_toleration(task, key=one.key, operator=one.operator, value=one.value, effect=one.effect)
    if given.timeout:
        kubernetes.set_timeout(task, seconds=seconds(given.timeout))
    if given.retries and given.retries.num:
        again = given.retries
        task.set_retry(
            num_retries=again.num,
            backoff_duration=f"{seconds(again.backoff)}s",
            backoff_factor=again.factor,
            backoff_max_duration=f"{seconds(again.at_most)}s",
        )


def _set_surroundings(task: Any, cluster: Cluster, step: str) -> None:
    from kfp import kubernetes

    kubernetes.mount_pvc(task, pvc_name=cluster.home.claim, mount_path=cluster.home.mount, sub_path=cluster.home.sub_path)
    for one in cluster.secrets:
        for variable, key in sorted(one.environment.items()):
            kubernetes.use_secret_as_env(task, secret_name=one.secret, secret_key_to_env={key: variable})
    for name, value in sorted(cluster.environment.items()):
        task.set_env_variable(name, value)
    if plan := cluster.train_plan(step):
        task.set_env_variable(TRAIN_JOB, plan.model_dump_json(exclude_defaults=True))
    elif step == ENDING and cluster.train_job is not None:
        task.set_env_variable(TRAIN_JOB, ENDS_TRAIN_JOBS)
    if cluster.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.pull_secrets))
    if (image := cluster.images.get(whole_of(step))) is not None:
        task.set_container_image(image)
