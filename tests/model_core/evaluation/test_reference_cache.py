import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from model_core.errors import BadDataError
from model_core.evaluation.moments import Moments, stream_moments
from model_core.evaluation.reference_cache import (
    MAX_ENTRIES,
    ReferenceCache,
    ReferenceKey,
    cached_features,
    cached_moments,
    rows_digest,
)

FEATURES = np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)
KEY = ReferenceKey(
    dataset="d" * 64, extractor="e" * 64, input_size=160, split="train", rows=rows_digest(range(21)), count=len(FEATURES)
)


class Measuring:
    """Measures slices of known features, and remembers which."""

    def __init__(self, features=FEATURES):
        self.features, self.measured = features, []

    def __call__(self, chosen):
        self.measured.append(chosen)
        return self.features[chosen]


def read(cache, measure, key=KEY):
    return cached_features(cache, key, measure=measure, batch_size=8)


@pytest.fixture
def cache(tmp_path):
    return ReferenceCache(tmp_path / "cache")


@pytest.fixture
def filled(cache):
    read(cache, Measuring())
    return cache


def test_the_second_measurement_is_one_batch_and_the_same_bits(cache):
    first, again = Measuring(), Measuring()
    assert read(cache, first).tobytes() == FEATURES.tobytes() == read(cache, again).tobytes()
    assert len(first.measured) == 3
    assert len(again.measured) == 1


def test_progress_reaches_the_end_either_way(cache):
    for expected in ([8, 16, 21], [21]):
        seen = []
        cached_features(cache, KEY, measure=Measuring(), batch_size=8, on_batch=seen.append)
        assert seen == expected


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "a" * 64},
        {"extractor": "a" * 64},
        {"input_size": 96},
        {"split": "holdout"},
        {"rows": rows_digest(range(1, 22))},
        {"contents": "moments"},
    ],
)
def test_another_key_finds_nothing(filled, other):
    assert filled.load(KEY) is not None
    assert filled.load(replace(KEY, **other)) is None


def test_an_entry_in_anothers_place_is_not_trusted(filled):
    other = replace(KEY, split="holdout")
    filled.path(KEY).replace(filled.path(other))
    assert filled.load(other) is None


def test_any_flipped_byte_is_found(filled):
    path = filled.path(KEY)
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 4
        path.write_bytes(changed)
        assert filled.load(KEY) is None or np.array_equal(filled.load(KEY)["features"], FEATURES)
        assert read(filled, Measuring()).tobytes() == FEATURES.tobytes()


@pytest.mark.parametrize("cut", [0, 5, 200, -1])
def test_a_cut_entry_is_made_anew(filled, cut):
    path = filled.path(KEY)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    measure = Measuring()
    assert read(filled, measure).tobytes() == FEATURES.tobytes()
    assert len(measure.measured) == 3
    assert path.read_bytes() == whole


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.complex64])
def test_an_entry_of_other_types_is_not_trusted(filled, dtype):
    save_torch_file({"features": torch.zeros(21, 4).to(dtype)}, filled.path(KEY), metadata={"groundswell": "{}"})
    assert filled.load(KEY) is None


@pytest.mark.parametrize("header", ["[" * 200_000, "null", "[]", "{}", '{"groundswell": 1}', "not json"])
def test_an_entry_with_a_senseless_header_is_not_trusted(filled, header):
    save_file({"features": FEATURES}, filled.path(KEY), metadata={"groundswell": header})
    assert filled.load(KEY) is None


def test_a_folder_in_the_place_of_an_entry_costs_only_time(cache):
    cache.path(KEY).mkdir(parents=True)
    assert read(cache, Measuring()).tobytes() == FEATURES.tobytes()


class Bomb:
    def __reduce__(self):
        return (os.abort, ())


def test_a_pickled_entry_is_not_opened(filled):
    filled.path(KEY).write_bytes(pickle.dumps(Bomb()))
    assert filled.load(KEY) is None
    assert read(filled, Measuring()).tobytes() == FEATURES.tobytes()


def test_numbers_of_another_library_version_are_measured_anew(filled):
    newer = Measuring(FEATURES * np.float32(1 + 1e-6))
    assert read(filled, newer).tobytes() == newer.features.tobytes()
    assert filled.load(KEY)["features"].tobytes() == newer.features.tobytes()


def test_a_well_formed_entry_without_header_or_of_other_shape_is_not_trusted(filled):
    path = filled.path(KEY)
    save_file({"features": FEATURES}, path)
    assert filled.load(KEY) is None
    for wrong in (FEATURES[:5], np.concatenate([FEATURES, FEATURES]), FEATURES.astype(np.float64), FEATURES[:, :, None]):
        filled.store(KEY, {"features": wrong})
        assert read(filled, Measuring()).tobytes() == FEATURES.tobytes()
    filled.store(KEY, {"other": FEATURES})
    assert read(filled, Measuring()).tobytes() == FEATURES.tobytes()


def test_what_is_not_finite_is_neither_kept_nor_read(cache):
    broken = FEATURES.copy()
    broken[3, 1] = np.nan
    with pytest.raises(BadDataError, match="finite"):
        read(cache, Measuring(broken))
    assert cache.load(KEY) is None


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = ReferenceCache(tmp_path / "file" / "cache")
    for _ in range(2):
        measure = Measuring()
        assert read(cache, measure).tobytes() == FEATURES.tobytes()
        assert len(measure.measured) == 3


def test_no_partial_file_stays_behind(filled, tmp_path):
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".safetensors"]


def test_the_oldest_entries_go(cache, tmp_path):
    for number in range(MAX_ENTRIES + 3):
        key = replace(KEY, dataset=f"{number:064d}")
        cache.store(key, {"features": FEATURES})
        os.utime(cache.path(key), ns=(number, number))
    assert len(list((tmp_path / "cache").iterdir())) <= MAX_ENTRIES + 1
    assert cache.load(replace(KEY, dataset=f"{0:064d}")) is None
    assert cache.load(key) is not None


def test_partial_files_of_killed_processes_go_with_the_oldest(filled, tmp_path):
    stale = tmp_path / "cache" / "features-0.safetensors.1.partial"
    stale.write_bytes(b"half")
    os.utime(stale, ns=(0, 0))
    for number in range(MAX_ENTRIES):
        filled.store(replace(KEY, dataset=f"{number:064d}"), {"features": FEATURES})
    assert not stale.exists()


def test_an_empty_set_and_a_short_measurement_are_refused(cache):
    with pytest.raises(BadDataError, match="no train pictures"):
        read(cache, Measuring(), replace(KEY, count=0))
    with pytest.raises(BadDataError, match="feature vectors"):
        read(cache, lambda chosen: FEATURES[chosen][:1])


def test_moments_are_kept_bit_for_bit(cache):
    key, calls = replace(KEY, contents="moments"), []

    def measure():
        calls.append(1)
        return stream_moments(np.split(FEATURES, 3))

    first, again = cached_moments(cache, key, measure), cached_moments(cache, key, measure)
    assert len(calls) == 1
    assert first.count == again.count == 21
    assert first.mean.tobytes() == again.mean.tobytes()
    assert first.scatter.tobytes() == again.scatter.tobytes()
    cache.path(key).write_bytes(b"damaged")
    assert cached_moments(cache, key, measure).scatter.tobytes() == first.scatter.tobytes()
    assert len(calls) == 2
    for wrong in (
        {"mean": np.zeros(4), "scatter": np.zeros((3, 3))},
        {"mean": np.zeros(4)},
        {"mean": np.zeros(()), "scatter": np.zeros(())},
    ):
        cache.store(key, wrong)
        assert cached_moments(cache, key, measure).scatter.tobytes() == first.scatter.tobytes()


def test_moments_of_another_number_of_pictures_are_refused(cache):
    with pytest.raises(BadDataError, match="of 5 pictures, not of 21"):
        cached_moments(cache, replace(KEY, contents="moments"), lambda: Moments.of(FEATURES[:5]))
