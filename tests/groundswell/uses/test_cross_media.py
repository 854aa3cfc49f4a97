"""Files of one idea: what makes them a family, and how far apart their frames are."""

from dataclasses import replace
from pathlib import Path

from groundswell.uses.cross_media import Medium, _apart, is_family

LOOP = Medium(
    idea="one",
    medium="loop",
    file=Path("loop"),
    sha256="1" * 64,
    run_id="r",
    seed="7",
    source_sha256=None,
    model="m/1 d",
    fingerprint=(0b0000, 0b1111),
)
CLIP = replace(LOOP, medium="clip", sha256="2" * 64, fingerprint=(0b0001, 0b1000))
POSTER = replace(LOOP, medium="poster", sha256="3" * 64, source_sha256=LOOP.sha256, fingerprint=(0b0000,))


def test_three_media_of_one_model_and_seed_are_a_family() -> None:
    assert is_family([CLIP, LOOP, POSTER])


def test_others_are_none() -> None:
    assert not is_family([CLIP, LOOP])
    assert not is_family([CLIP, LOOP, POSTER, POSTER])
    assert not is_family([replace(CLIP, seed="8"), LOOP, POSTER])
    assert not is_family([replace(CLIP, model="m/2 d"), LOOP, POSTER])
    assert not is_family([CLIP, LOOP, replace(POSTER, source_sha256=CLIP.sha256)])
    assert not is_family([replace(one, model="") for one in (CLIP, LOOP, POSTER)])


def test_the_worst_of_the_corresponding_frames_counts() -> None:
    assert _apart(CLIP, LOOP) == [3]  # 1 bit in the first frame, 3 in the second
    assert _apart(POSTER, LOOP) == [0]
    assert _apart(POSTER, CLIP) == [1]
    assert _apart(replace(CLIP, fingerprint=(1,)), LOOP) == [64]  # frames that do not correspond are as far as can be
