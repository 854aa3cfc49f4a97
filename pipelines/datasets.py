"""The dataset that a pipeline runs on: found, or imported into the home and recorded there."""

import json
from pathlib import Path

from sqlalchemy import select

from components.store import artifact_digest
from governance.canonical import canonical_digest, canonical_text
from governance.errors import IntegrityError
from infra.home import Home
from infra.progress import ProgressFile
from infra.recorded_datasets import item_splits
from infra.tables import artifacts
from infra.withdrawals import extend_withdrawals, require_nothing_withdrawn, withdrawn_items
from pipelines.params import DataParams

LEFT_OUT = "num_withdrawn_left_out"
_MAX_SOURCES = 20


def ensure_dataset(home: Home, data: DataParams, *, actor: str, run_id: str, progress: ProgressFile) -> Path:
    """Returns the folder of the dataset, importing it first where that has not been done.

    Args:
        home: The home.
        data: Which dataset.
        actor: The identity that imports.
        run_id: The run that it is imported for.
        progress: Where to say how far the import has come.

    Raises:
        BadDataError: The source cannot be imported.
        RefusedError: It is a finished dataset that holds withdrawn items.
        IntegrityError: The dataset at hand is not what was imported.
    """
    given = Path(data.source).expanduser()
    if (given / "manifest.parquet").is_file():
        require_nothing_withdrawn(home.database, given)
        record_dataset(home, given.absolute(), actor=actor, run_id=run_id)
        progress.end("reused", f"dataset {given}")
        return given.absolute()
    unset = {name for name in ("frames", "fps", "graphics", "takes") if getattr(data, name) is None}  # what pictures never had
    options = canonical_digest({**data.model_dump(mode="json", exclude=unset), "state": _source_state(data)}, floats=True)[:8]
    with home.database.read() as connection:
        withheld = withdrawn_items(connection)
    folder = _usable_folder(home.datasets / f"{_slug(data.source)}-{data.size}px-{options}", withheld)
    if (folder / "manifest.parquet").is_file():
        _require_unchanged(home, folder)
        record_dataset(home, folder, actor=actor, run_id=run_id)
        progress.end("reused", f"dataset {folder.name} is at hand")
        return folder
    from model_core.data.importing import import_dataset

    import_dataset(data.source, folder, **data.import_options(), withheld=withheld, progress=progress.update)
    facts = record_dataset(home, folder, actor=actor, run_id=run_id)
    left_out = f", {facts[LEFT_OUT]:,} withdrawn left out" if facts.get(LEFT_OUT) else ""
    progress.end("completed", f"{facts['num_items']:,} items imported{left_out}")
    return folder


def record_dataset(home: Home, folder: Path, *, actor: str, run_id: str | None = None) -> dict[str, object]:
    """Records a dataset by its digest, with the facts that lineage shows; a dataset already recorded stays as it is.

    What it holds of items that were withdrawn from other datasets is withdrawn from it, too.

    Returns:
        The facts.
    """
    from model_core.data.dataset import Dataset
    from model_core.data.importing import WITHHELD_OPTION

    digest = artifact_digest("dataset", folder)
    with home.database.read() as connection:
        stored = connection.execute(
            select(artifacts.c.facts).where(artifacts.c.digest == digest, artifacts.c.kind == "dataset")
        ).scalar()
    if stored is not None:
        found: dict[str, object] = json.loads(stored)
        return found
    dataset = Dataset.open(folder)
    info = dataset.info
    left_out = info.options.get(WITHHELD_OPTION, 0)
    facts: dict[str, object] = {
        "name": info.name,
        "importer": info.importer,
        "num_items": len(dataset),
        "num_train": len(dataset.rows("train")),
        "num_holdout": len(dataset.rows("holdout")),
        LEFT_OUT: left_out if isinstance(left_out, int) else 0,
        "labels": list(info.labels),
        "licences": list(info.licences),
        "attribution": info.attribution,
        "image_size": info.image_size,
        **({"num_frames": info.num_frames, "fps": info.fps} if info.num_frames > 1 else {}),
        "sources": sorted({source.partition(":")[0] for source in dataset.table.column("source").to_pylist()})[:_MAX_SOURCES],
    }
    with home.database.unit_of_work() as uow:
        uow.connection.execute(
            artifacts.insert().values(
                digest=digest,
                kind="dataset",
                location=str(folder),
                facts=canonical_text(facts, floats=True),
                created=uow.time,
            )
        )
        details = {key: facts[key] for key in ("importer", "num_items", "num_train", "num_holdout", LEFT_OUT, "licences")}
        details |= {"created": uow.time, "facts_digest": canonical_digest(facts, floats=True)}
        uow.append("dataset.imported", f"dataset:{digest}", details, actor=actor, run_id=run_id)
        extend_withdrawals(uow, digest, set(dataset.columns["sha256"]))
    return facts


def _usable_folder(folder: Path, withheld: frozenset[str]) -> Path:
    """Returns the place of an import: the first that is free, or holds a dataset from which nothing was withdrawn since.

    A dataset with withdrawn items stays where it is, as the record of what was learned from; it is imported again beside it.
    """
    place, number = folder, 1
    while withheld and (place / "manifest.parquet").is_file() and not withheld.isdisjoint(item_splits(place)):
        number += 1
        place = folder.with_name(f"{folder.name}-{number}")
    return place


def _source_state(data: DataParams) -> str:
    """Returns a digest of what a folder of pictures holds, so that a changed folder is imported anew; "" for other sources."""
    if not Path(data.source.removeprefix("fashion-mnist:")).is_dir():
        return ""
    from model_core.data.importing import plan_import
    from model_core.data.rendering import plan_digest

    return plan_digest(plan_import(data.source, **data.import_options()))


def _require_unchanged(home: Home, folder: Path) -> None:
    """Refuses a dataset that was changed after it was imported."""
    with home.database.read() as connection:
        query = select(artifacts.c.digest).where(artifacts.c.kind == "dataset", artifacts.c.location == str(folder))
        recorded = set(connection.execute(query).scalars())
    if recorded and artifact_digest("dataset", folder) not in recorded:
        raise IntegrityError(
            f"the dataset {folder} is not what was imported: it was changed since", hint="delete the folder; it is imported again"
        )


def _slug(source: str) -> str:
    name = Path(source).name if "/" in source else source
    return "".join(character if character.isalnum() else "-" for character in name.lower()).strip("-")[:40] or "dataset"
