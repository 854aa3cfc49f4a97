"""What commands say of what steps get on a cluster."""

from typing import TYPE_CHECKING

from groundswell.cli.output import tell_warnings

if TYPE_CHECKING:
    from pipelines.cluster import Cluster


def warn_of_tags(cluster: "Cluster | None", pipeline: str) -> None:
    """Warns of images that no digest names: what runs under a tag can change between two runs."""
    if cluster is not None and (steps := cluster.by_tag(pipeline)):
        tell_warnings(
            [f"the images of these steps are named by tag, which can move: {', '.join(steps)}; name digests under `images`"]
        )
