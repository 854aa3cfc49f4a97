import math

import numpy as np
import pytest
from PIL import Image

from model_core.training.loss_curve import smoothed, write_loss_curve


def test_smoothing_leaves_a_constant_and_starts_without_bias():
    assert smoothed([2.0] * 50) == pytest.approx(np.full(50, 2.0))


def test_the_same_losses_give_the_same_picture(tmp_path):
    losses = [1 / math.sqrt(step + 1) for step in range(200)]
    for name in ("a.png", "b.png"):
        write_loss_curve(losses, tmp_path / name, title="loss")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (800, 450)
        assert "Software" not in picture.info
