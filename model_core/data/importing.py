"""Building a dataset from a source: plan, draw, write, publish under its name in one step."""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from model_core.data.dataset import DatasetInfo
from model_core.data.importers.plan import ImportPlan, Item
from model_core.data.rendering import Progress, plan_digest, render_items
from model_core.data.writer import write_dataset
from model_core.errors import BadDataError

OPENMOJI = "openmoji"
MOVING_OPENMOJI = "moving-openmoji"
FASHION_MNIST = "fashion-mnist"
WITHHELD_OPTION = "withdrawn_left_out"
"""What the number of withheld items is called among a dataset's options."""
SOURCES_HINT = "sources: openmoji, moving-openmoji, fashion-mnist:FOLDER, or a folder with IDX files or with a metadata.jsonl"

_MIN_SIZE, _MAX_SIZE = 8, 1024


def _silent(completed: int, total: int, description: str) -> None:
    """Reports nothing."""


def import_dataset(
    source: str,
    out: Path,
    *,
    size: int = 32,
    categories: Sequence[str] | None = None,
    limit: int | None = None,
    frames: int | None = None,
    fps: float | None = None,
    graphics: Sequence[str] | None = None,
    takes: int | None = None,
    withheld: Collection[str] = (),
    workers: int | None = None,
    progress: Progress = _silent,
) -> DatasetInfo:
    """Builds a dataset.

    An interrupted import continues where it stopped when it is started again with the same arguments: finished pictures
    wait in ``OUT.partial``. The dataset appears under its name only when it is complete.

    Args:
        source: "openmoji", "moving-openmoji", "fashion-mnist:FOLDER", or a folder with IDX files or with a ``metadata.jsonl``.
        out: The folder to make; it must not exist or must be empty.
        size: The width and height of each picture, in pixels.
        categories: Which labels to take; all when None.
        limit: How many items to take at most, spread evenly.
        frames: Frames of each clip, for sources of clips.
        fps: Frames a second, for sources of clips.
        graphics: Which graphics to set in motion, for moving-openmoji; all when None.
        takes: How many clips of each graphic in each motion, for moving-openmoji.
        withheld: SHA-256s of pictures, as they are written, that may not be used: they are left out.
        workers: How many processes draw; one for each core when None.
        progress: Called with items done, items in all, and what is being done.

    Raises:
        BadDataError: The source, or something in it, cannot be used; or `out` holds something.
    """
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise BadDataError(f"a size of {size} pixels is not possible", hint=f"sizes go from {_MIN_SIZE} to {_MAX_SIZE}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadDataError(f"{out} exists and is not empty", hint="choose another folder, or remove this one")
    plan = plan_import(
        source, size=size, categories=categories, limit=limit, frames=frames, fps=fps, graphics=graphics, takes=takes
    )
    return build(plan, out, withheld=withheld, workers=workers, progress=progress)


def plan_import(
    source: str,
    *,
    size: int,
    categories: Sequence[str] | None,
    limit: int | None,
    frames: int | None = None,
    fps: float | None = None,
    graphics: Sequence[str] | None = None,
    takes: int | None = None,
) -> ImportPlan:
    """Finds the importer for a source and lets it plan.

    Raises:
        BadDataError: No importer knows the source, or it cannot be used.
    """
    of_clips = {name: value for name, value in (("frames", frames), ("fps", fps)) if value is not None}
    if source == MOVING_OPENMOJI:
        from model_core.data.importers.moving_openmoji import plan_moving_openmoji

        return plan_moving_openmoji(
            size=size,
            categories=categories,
            limit=limit,
            graphics=graphics,
            takes=takes or 1,
            **of_clips,  # type: ignore[arg-type]
        )
    if graphics or takes is not None:
        raise BadDataError(f"{source} has no graphics to choose, and no takes", hint=f"only {MOVING_OPENMOJI} does")
    if source != OPENMOJI and _is_video_folder(Path(source), frames):
        from model_core.data.importers.video_folder import plan_video_folder

        return plan_video_folder(Path(source), size=size, categories=categories, limit=limit, **of_clips)  # type: ignore[arg-type]
    if of_clips:
        raise BadDataError(f"{source} is a source of pictures, which have no {' and '.join(of_clips)}")
    if source == OPENMOJI:
        from model_core.data.importers.openmoji import plan_openmoji

        return plan_openmoji(size=size, categories=categories, limit=limit)
    planner, folder = _folder_importer(source)
    return planner(folder, size=size, categories=categories, limit=limit)


def _is_video_folder(folder: Path, frames: int | None) -> bool:
    from model_core.data.importers.image_folder import METADATA_NAME

    if not (folder / METADATA_NAME).is_file():
        return False
    from model_core.data.importers.video_folder import is_video_folder

    return is_video_folder(folder, frames=frames)


def _folder_importer(source: str) -> tuple[Callable[..., ImportPlan], Path]:
    from model_core.data.importers.fashion_mnist import is_idx_folder, plan_fashion_mnist
    from model_core.data.importers.image_folder import METADATA_NAME, plan_image_folder

    prefix, _, rest = source.partition(":")
    folder = Path(rest if prefix == FASHION_MNIST and rest else source)
    if not folder.is_dir():
        raise BadDataError(f"there is no source {source!r}", hint=SOURCES_HINT)
    if prefix == FASHION_MNIST or is_idx_folder(folder):
        return plan_fashion_mnist, folder
    if (folder / METADATA_NAME).exists():
        return plan_image_folder, folder
    raise BadDataError(f"{folder} holds neither IDX files nor a {METADATA_NAME}", hint=SOURCES_HINT)


def build(
    plan: ImportPlan,
    out: Path,
    *,
    withheld: Collection[str] = (),
    workers: int | None = None,
    progress: Progress = _silent,
) -> DatasetInfo:
    """Draws a plan's items and publishes the dataset.

    Args:
        plan: What to import.
        out: The folder to make; it does not exist or is empty.
        withheld: SHA-256s of pictures that are left out.
        workers: How many processes draw; one for each core when None.
        progress: Called with items done, items in all, and what is being done.

    Raises:
        BadDataError: Every item is withheld.
    """
    partial = out.with_name(f"{out.name}.partial")
    _prepare(partial, plan)
    pictures = render_items(plan, partial / "chunks", workers=workers, progress=progress)
    items = list(zip(plan.items, pictures, strict=True))
    if plan.drop_duplicates:
        items = _without_duplicates(items)
    usable = [(item, png) for item, png in items if not withheld or hashlib.sha256(png).hexdigest() not in withheld]
    progress(len(plan.items), len(plan.items), "writing shards")
    info = DatasetInfo(
        name=plan.name,
        importer=plan.importer,
        options={**plan.options, "duplicates_left_out": len(plan.items) - len(items), **_withheld_fact(items, usable)},
        labels=tuple(sorted({item.label for item, _ in usable if item.label})),
        licences=tuple(sorted({item.licence for item, _ in usable})),
        attribution=plan.attribution,
        image_size=plan.image_size,
        num_frames=plan.num_frames,
        fps=plan.fps,
    )
    finished = partial / "dataset"
    if finished.exists():
        shutil.rmtree(finished)
    write_dataset(finished, info, usable)
    if out.exists():
        out.rmdir()
    os.replace(finished, out)  # noqa: PTH105 -- Path.replace is the same; the name says that it is atomic
    shutil.rmtree(partial)
    return info


def _withheld_fact(items: Sequence[tuple[Item, bytes]], usable: Sequence[tuple[Item, bytes]]) -> dict[str, int]:
    """Returns what a dataset says of the items that it leaves out; nothing where it leaves out none."""
    if not usable:
        raise BadDataError("every item of the source is withdrawn: the dataset would be empty", hint="choose another source")
    return {WITHHELD_OPTION: len(items) - len(usable)} if len(usable) < len(items) else {}


def _prepare(partial: Path, plan: ImportPlan) -> None:
    """Makes the folder of an unfinished import, emptied unless an earlier attempt at the same work left it."""
    marker, digest = partial / "plan.sha256", plan_digest(plan)
    if marker.is_file() and marker.read_text(encoding="ascii") == digest:
        return
    if partial.exists():
        shutil.rmtree(partial)
    (partial / "chunks").mkdir(parents=True)
    marker.write_text(digest, encoding="ascii")


def _without_duplicates(items: Sequence[tuple[Item, bytes]]) -> list[tuple[Item, bytes]]:
    """Keeps, of items with equal pixels, the one with the shortest caption: "flag of Norway", not "flag of Bouvet Island"."""
    kept: dict[bytes, Item] = {}
    for item, png in items:
        rival = kept.get(png)
        if rival is None or (len(item.caption), item.caption, item.key) < (len(rival.caption), rival.caption, rival.key):
            kept[png] = item
    return [(item, png) for item, png in items if kept[png] is item]
