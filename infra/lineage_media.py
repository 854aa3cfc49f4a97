"""What generated files are called in a lineage report: pictures or clips, by what is recorded of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from infra.lineage_records import Records
from infra.lineage_subjects import run_of_step

_CLIP_SUFFIXES = (".mp4", ".webp", ".gif")
_STEPS = {"generate_media": "Generate", "publish_media": "Hand out"}


def medium_of(file_name: str) -> str:
    """Returns what a person calls a generated file: a picture, or a clip."""
    return "clip" if file_name.lower().endswith(_CLIP_SUFFIXES) else "picture"


def media_noun(file_names: Iterable[str]) -> str:
    """Returns what a person calls some generated files; pictures where there are none."""
    media = {f"{medium_of(name)}s" for name in file_names}
    return " and ".join(sorted(media, reverse=True)) or "pictures"


def items_noun(facts: Mapping[str, Any]) -> str:
    """Returns what a person calls the items of a dataset, by what is recorded of it."""
    frames = facts.get("num_frames", 1)
    return "clips" if isinstance(frames, int) and frames > 1 else "pictures"


def listed_names(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the files that the facts of a step, or of what it made, list; none where they list none."""
    listed = facts.get("media")
    return tuple(str(one.get("file", "")) for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()


def media_step_title(step: str, records: Records) -> str | None:
    """Returns what a person calls a step that makes pictures or clips or hands them out; None for any other."""
    run_id, name = run_of_step(step), step.rpartition("/")[2]
    if "#" in step or name not in _STEPS:
        return None
    row = records.steps.get(f"step:{run_id}/generate_media")
    names = listed_names((row["record"].get("facts") or {}) if row else {})
    made = (row["file_name"] for rows in records.assets.values() for row in rows if row["run_id"] == run_id)
    return f"{_STEPS[name]} {media_noun(names or made)}"
