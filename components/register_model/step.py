"""Puts the model package together, and has it signed and registered."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from components.ports import Ports, StepReport
from components.register_model.config import Config
from governance.digest import tree_digest
from governance.errors import BadRecordError
from governance.model_records import metrics_of
from governance.package_contents import PackageSources, build_package, read_base, read_json


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Writes the package, has it signed and registered, and returns the version.

    Raises:
        IntegrityError: The inputs were not made from each other.
        RefusedError: The data did not pass validation.
        BadRecordError: A record of an input is missing or malformed.
    """
    if ports.registry is None:
        raise ValueError("register_model needs a registry")
    digests = {}
    for position, name in enumerate(sorted(inputs)):
        ports.progress.update(position, len(inputs) + 2, f"reading {name}")
        digests[name] = tree_digest(inputs[name])
    num_items, licences = _count_items(inputs["dataset"])
    sources = PackageSources(
        model=inputs["model"],
        codec=inputs["codec"],
        dataset=inputs["dataset"],
        validation=inputs["validation"],
        evaluation=inputs["evaluation"],
        digests=digests,
        num_items=num_items,
        licences=licences,
        code_digests=config.code_digests,
    )
    ports.progress.update(len(inputs), len(inputs) + 2, "writing the package")
    root_digest = build_package(outputs["package"], sources, name=config.name)
    metrics = metrics_of(read_json(inputs["evaluation"] / "report.json"))
    ports.progress.update(len(inputs) + 1, len(inputs) + 2, "signing and registering")
    base = read_base(inputs["model"])
    made_from = digests if base is None else {**digests, "base": str(base["root_digest"])}
    registered = ports.registry.register(outputs["package"], name=config.name, metrics=metrics, inputs=made_from)
    ports.progress.update(len(inputs) + 2, len(inputs) + 2, "registered")
    return StepReport(
        metrics=metrics,
        summary=f"registered {registered.name}/{registered.version}, root digest {root_digest[:12]}",
        facts={
            "name": registered.name,
            "version": registered.version,
            "root_digest": registered.root_digest,
            "licences": licences,
        },
        artifacts={"package": ("MODEL_CARD.md", "mlbom.cdx.json")},
    )


def _count_items(dataset: Path) -> tuple[dict[str, int], dict[str, int]]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(dataset / "manifest.parquet", columns=["split", "licence"])
    except (OSError, ValueError, KeyError) as error:
        raise BadRecordError(f"dataset/manifest.parquet cannot be read: {type(error).__name__}") from error
    splits, licences = (Counter(table.column(name).to_pylist()) for name in ("split", "licence"))
    return dict(sorted(splits.items())), dict(sorted(licences.items()))
