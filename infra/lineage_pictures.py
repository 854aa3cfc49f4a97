"""Pictures for a lineage report, taken only where their bytes are still those that were recorded."""

import base64
import hashlib
import struct
from pathlib import Path

from governance.digest import tree_digest
from governance.errors import BadRecordError, IntegrityError
from governance.lineage import LineageGraph
from governance.lineage_report.model import Picture
from infra.lineage_filmstrip import read_filmstrip
from infra.lineage_media import medium_of
from infra.lineage_records import Records
from infra.lineage_subjects import digest_of
from infra.media_reading import read_file, read_pixels

_MAX_BYTES = 3 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_SMALL_PIXELS = 160
_SUFFIXES = frozenset({".png", ".mp4", ".webp", ".gif"})
LOSS_CAPTION = "Loss while training"
_DRAWN = "The picture, pixel by pixel; the file itself is not here"
_FROM_ARTIFACTS = (
    ("evaluation", "samples.png", "Samples that the evaluation drew"),
    ("model", "loss_curve.png", LOSS_CAPTION),
)


def read_pictures(records: Records, graph: LineageGraph, node: str, *, home: Path, media: Path | None) -> tuple[Picture, ...]:
    """Returns the picture asked about, or frames of the clip, then samples and the loss curve, where found unchanged.

    Args:
        records: What the database holds.
        graph: The report's graph.
        node: The subject's node.
        home: Relative locations are below it.
        media: The file asked about, if any.
    """
    found = []
    if node.startswith("media:"):
        places = ([media] if media else []) + _media_places(records, graph, node, home)
        picture = next((p for place in places if (p := _read(place, "The picture", sha256=digest_of(node)))), None)
        picture = picture or _filmstrip(records, node, places) or _drawn(records, node, places)
        found += [picture] if picture else []
    for kind, name, caption in _FROM_ARTIFACTS:
        for subject in sorted(node for node in graph.nodes if node.startswith(f"{kind}:"))[:1]:
            if (folder := unchanged_folder(subject, records, home)) and (picture := _read(folder / name, caption)):
                found.append(picture)
    return tuple(found)


def _filmstrip(records: Records, node: str, places: list[Path]) -> Picture | None:
    """Returns frames of the clip: of the file itself where it is at hand, otherwise of the clip as it was drawn."""
    rows = records.assets.get(node, ())
    if not any(medium_of(row["file_name"]) == "clip" for row in rows):
        return None
    pixels = next((row["pixels_sha256"] for row in rows if row["pixels_sha256"]), None)
    return next(
        (
            strip
            for wanted in (None, pixels)
            for place in places
            if (strip := read_filmstrip(place, sha256=digest_of(node), pixels_sha256=wanted))
        ),
        None,
    )


def _drawn(records: Records, node: str, places: list[Path]) -> Picture | None:
    """Returns the picture as it was drawn, before it was handed out with credentials: its pixels are on record, too."""
    wanted = next((row["pixels_sha256"] for row in records.assets.get(node, ()) if row["pixels_sha256"]), None)
    return next((p for place in places if wanted and _has_pixels(place, wanted) and (p := _read(place, _DRAWN))), None)


def _has_pixels(path: Path, pixels_sha256: str) -> bool:
    try:
        file = read_file(path)
        return read_pixels(file.kind, file.data).sha256 == pixels_sha256
    except BadRecordError:
        return False


def _media_places(records: Records, graph: LineageGraph, node: str, home: Path) -> list[Path]:
    """Returns where a generated file may lie: in the folders that it was handed out from."""
    folders = [
        home / row["location"]
        for subject, row in records.artifacts.items()
        if subject in graph.upstream(node) and row["kind"] == "media_set"
    ]
    files = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    return [path for path in files if path.suffix in _SUFFIXES and path.is_file()]


def unchanged_folder(subject: str, records: Records, home: Path) -> Path | None:
    """Returns the folder of an artifact where it has the recorded digest, None where it is gone or was changed.

    Args:
        subject: The artifact.
        records: What the database holds.
        home: Relative locations are below it.
    """
    row = records.artifacts.get(subject)
    if row is None:
        return None
    folder = home / row["location"]
    try:
        return folder if folder.is_dir() and tree_digest(folder) == row["digest"] else None
    except (IntegrityError, OSError):
        return None


def _read(path: Path, caption: str, *, sha256: str | None = None) -> Picture | None:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    digest = hashlib.sha256(data).hexdigest()
    if not data.startswith(_PNG) or len(data) < 24 or sha256 not in {None, digest}:
        return None
    width: int = struct.unpack(">I", data[16:20])[0]
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    return Picture(caption=caption, data_uri=uri, sha256=digest, pixelated=width <= _SMALL_PIXELS)
