"""Making the pictures of an import: in several processes, in chunks that survive an interruption."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from model_core.data.importers.plan import ImportPlan, Item, Renderer

Progress = Callable[[int, int, str], None]
"""Called with the number of items done, of all items, and what is being done."""

_MIN_CHUNK, _MAX_CHUNK = 32, 1024
_MIN_ITEMS_FOR_POOL = 200
"""Below this many items starting processes costs more than it saves."""


def plan_digest(plan: ImportPlan) -> str:
    """Returns a digest of all that decides an import's outcome, to tell whether an earlier attempt was the same work."""
    facts = {
        "importer": plan.importer,
        "items": [asdict(item) for item in plan.items],
        "options": dict(plan.options),
        "render": repr(plan.render),
        "source_state": plan.source_state,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def render_items(plan: ImportPlan, folder: Path, *, workers: int | None = None, progress: Progress) -> list[bytes]:
    """Makes all pictures of a plan, keeping those that an earlier attempt left in `folder`.

    Args:
        plan: What to import.
        folder: Where finished chunks are kept; it exists.
        workers: How many processes; one for each core when None.
        progress: Told of every finished chunk.

    Returns:
        The PNG files, in the plan's order.
    """
    chunks = list(_chunks(plan.items, folder))
    todo = [(items, path) for items, path in chunks if _read_chunk(path, len(items)) is None]
    total, done = len(plan.items), len(plan.items) - sum(len(items) for items, _ in todo)
    progress(done, total, "drawing")
    for num_items in _render_chunks(plan.render, todo, workers=workers):
        done += num_items
        progress(done, total, "drawing")
    pictures: list[bytes] = []
    for items, path in chunks:
        pictures += _read_chunk(path, len(items)) or _render_now(plan.render, items)
    return pictures


def _chunks(items: Sequence[Item], folder: Path) -> Iterator[tuple[Sequence[Item], Path]]:
    size = min(max(len(items) // 64, _MIN_CHUNK), _MAX_CHUNK)
    for number, start in enumerate(range(0, len(items), size)):
        yield items[start : start + size], folder / f"chunk-{number:05d}"


def _render_chunks(render: Renderer, todo: Sequence[tuple[Sequence[Item], Path]], *, workers: int | None) -> Iterator[int]:
    """Renders chunks and yields the number of items of each as it is finished."""
    num_workers = min(workers or os.cpu_count() or 1, len(todo))
    if num_workers <= 1 or sum(len(items) for items, _ in todo) < _MIN_ITEMS_FOR_POOL:
        for items, path in todo:
            yield _render_chunk(render, items, path)
        return
    pool = ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        futures = [pool.submit(_render_chunk, render, items, path) for items, path in todo]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render_now(render: Renderer, items: Sequence[Item]) -> list[bytes]:
    return [render(item) for item in items]


def _render_chunk(render: Renderer, items: Sequence[Item], path: Path) -> int:
    """Renders items into one file, which gets its name only when it is complete: a line of JSON, then the PNG files."""
    pictures = _render_now(render, items)
    body = b"".join(pictures)
    head = {"sha256": hashlib.sha256(body).hexdigest(), "sizes": [len(picture) for picture in pictures]}
    partial = path.with_suffix(".partial")
    partial.write_bytes(json.dumps(head).encode() + b"\n" + body)
    partial.replace(path)
    return len(items)


def _read_chunk(path: Path, num_items: int) -> list[bytes] | None:
    """Returns the pictures of a chunk, or None where it is missing or damaged."""
    if not path.is_file():
        return None
    line, _, body = path.read_bytes().partition(b"\n")
    try:
        head = json.loads(line)
        sizes, digest = head["sizes"], head["sha256"]
    except (ValueError, KeyError, TypeError):
        return None
    if len(sizes) != num_items or hashlib.sha256(body).hexdigest() != digest:
        return None
    pictures, start = [], 0
    for size in sizes:
        pictures.append(body[start : start + size])
        start += size
    return pictures
