"""Perceptual fingerprints: how near two are, and why nearness is never an attribution.

A fingerprint is the perceptual hash of a picture, 64 bits as 16 hex digits; of a clip, those of up to 8 evenly spaced frames,
joined by ``-``. It outlives resizing and lossy compression. But pictures that look alike have near fingerprints too, whoever made
them, so what it finds is a candidate for a person to look at.
"""

import re
from collections.abc import Sequence

NUM_FRAMES = 8
NUM_BITS = 64
MAX_DISTANCE = 10
"""Candidates differ in at most so many bits of 64: unrelated photographs differ in about 32, re-encoded ones in a few."""

_FORM = re.compile(rf"[0-9a-f]{{16}}(?:-[0-9a-f]{{16}}){{0,{NUM_FRAMES - 1}}}")


def frame_indices(num_frames: int) -> list[int]:
    """Returns which frames of a clip are fingerprinted: all, or 8 evenly spaced ones with the first and the last."""
    count = min(NUM_FRAMES, num_frames)
    return [round(index * (num_frames - 1) / max(count - 1, 1)) for index in range(count)]


def join_hashes(hashes: Sequence[str]) -> str:
    """Returns the fingerprint of frames.

    Args:
        hashes: One to 8 hashes, each as 16 hex digits.

    Raises:
        ValueError: They are not that.
    """
    text = "-".join(hashes)
    if not _FORM.fullmatch(text):
        raise ValueError(f"no fingerprint: {text!r:.80}")
    return text


def parse_fingerprint(text: str) -> tuple[int, ...]:
    """Returns the hashes of a fingerprint as numbers; empty for what is none."""
    return tuple(int(part, 16) for part in text.split("-")) if _FORM.fullmatch(text) else ()


def distance(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Returns how many bits of 64 differ, of clips the most of any frame; None where the numbers of frames differ."""
    if len(one) != len(other) or not one:
        return None
    return max((a ^ b).bit_count() for a, b in zip(one, other, strict=True))
