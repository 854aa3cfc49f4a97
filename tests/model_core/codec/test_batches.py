import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.codec.batches import crop_sampler, rescale, to_bytes, to_unit_range
from model_core.errors import BadDataError
from tests.model_core.codec.small import pictures


def test_every_byte_survives_the_way_to_pixels_and_back() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    frames = to_unit_range(images)
    assert (float(frames.min()), float(frames.max())) == (-1.0, 1.0)
    assert torch.equal(to_bytes(frames), images)


def test_what_is_no_number_becomes_no_byte() -> None:
    frames = pictures(2, 8)
    frames[1, 2, 3, 4] = torch.nan
    with pytest.raises(BadDataError, match="not a number"):
        to_bytes(frames)
    frames[1, 2, 3, 4] = torch.inf
    assert int(to_bytes(frames)[1, 3, 4, 2]) == 255


def test_rescaling_takes_the_mean_of_what_a_pixel_covers() -> None:
    frames = pictures(2, 8)
    assert float(rescale(frames, 2)[1, 2, 0, 3]) == pytest.approx(float(frames[1, 2, 0:2, 6:8].mean()))
    assert rescale(frames, 1) is frames


@settings(max_examples=20, deadline=None)
@given(batch_size=st.integers(1, 9), seed=st.integers(0, 2**40), step=st.integers(0, 10**6))
def test_a_batch_depends_on_seed_and_step_only(batch_size: int, seed: int, step: int) -> None:
    sampler = crop_sampler(pictures(3, 16), divisors=(1, 2), crop_size=8, batch_size=batch_size, seed=seed)
    torch.rand(1)  # another use of the global generator changes nothing
    batch = sampler.draw(step)
    assert batch.shape == (batch_size, 3, 8, 8)
    assert torch.equal(batch, sampler.draw(step))
    assert not torch.equal(batch, sampler.draw(step + 1))


def test_a_crop_holds_a_picture_s_pixels_flipped_and_recoloured() -> None:
    frames = pictures(1, 8)
    for crop in crop_sampler(frames, divisors=(1,), crop_size=8, batch_size=16, seed=1).draw(0):
        assert torch.equal(crop.flatten().sort().values, frames.flatten().sort().values)


def test_half_of_the_crops_keep_their_colours() -> None:
    frames = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    crops = crop_sampler(frames, divisors=(1,), crop_size=8, batch_size=2000, seed=1).draw(0)
    kept = (crops[:, :, 0, 0] == torch.tensor([-1.0, 0.0, 1.0])).all(dim=1)
    assert float(kept.float().mean()) == pytest.approx(1 / 2 + 1 / 12, abs=0.04)  # one of six orders changes nothing


@pytest.mark.parametrize(
    ("num_items", "divisors", "what"), [(0, (1,), "no picture"), (2, (3,), "divided by 3"), (2, (4,), "divided by 4")]
)
def test_pictures_that_give_no_crops_are_refused(num_items: int, divisors: tuple[int, ...], what: str) -> None:
    with pytest.raises(BadDataError, match=what):
        crop_sampler(pictures(2, 16)[:num_items], divisors=divisors, crop_size=8, batch_size=2, seed=0)
