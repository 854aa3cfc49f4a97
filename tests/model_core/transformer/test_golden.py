"""The first architecture's weights and predictions, as they were before it had options."""

import hashlib

import pytest
import torch

from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT

FIRST = {"in_channels": 4, "patch_size": [1, 2, 2], "hidden_size": 64, "depth": 2, "num_heads": 4, "mlp_ratio": 4.0}
SECOND = {"in_channels": 4, "patch_size": [1, 1, 1], "hidden_size": 192, "depth": 4, "num_heads": 3, "mlp_ratio": 4.0}
THIRD = {"in_channels": 8, "patch_size": [2, 2, 2], "hidden_size": 48, "depth": 3, "num_heads": 3, "mlp_ratio": 2.5}
GOLDEN = [
    (
        {**FIRST, "num_labels": 3, "text_dim": 6, "frequency_dim": 256},
        "ae6cdedc7b48e4fcacafd364ae104f52e844693d939102fb9b49075966c3066b",
        [-0.1680157482624054, -0.12806430459022522, 0.045509010553359985, -0.08018922805786133],
        200.45718383789062,
    ),
    (
        {**SECOND, "num_labels": 10, "text_dim": 0, "frequency_dim": 256},
        "bd1d24150cf8af77b6ec83a7cd12dccf0ff3ff75a13515f910ebeeef2b3646ed",
        [0.2086387425661087, 0.17172028124332428, 0.32373732328414917, 0.3655226230621338],
        296.16961669921875,
    ),
    (
        {**THIRD, "num_labels": 2, "text_dim": 0, "frequency_dim": 32},
        "6bc3ec23651cd9a688c3ad3449edea97e8148fdc51686ddd2f132359be1494f9",
        [0.002660186495631933, -0.09560804814100266, -0.041353363543748856, -0.03974412754178047],
        690.4169921875,
    ),
]


def _digest(model):
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        found.update(name.encode() + b"\0" + str(list(parameter.shape)).encode() + b"\0" + parameter.detach().numpy().tobytes())
    return found.hexdigest()


def _assert_drawn_in_order_of_name(model):
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        expected = torch.zeros_like(parameter)
        if not (name.endswith("bias") or "adaLN_modulation" in name or name.startswith("final_layer.linear")):
            if name.startswith(("t_embedder", "y_embedder")) or name == "text_embedder.null":
                expected.normal_(std=0.02, generator=generator)
            else:
                bound = (6 / sum(parameter.shape)) ** 0.5
                expected.uniform_(-bound, bound, generator=generator)
        assert torch.equal(parameter, expected), name


@pytest.mark.parametrize(("values", "digest", "first", "total"), GOLDEN)
def test_a_configuration_written_before_the_options_gives_the_weights_and_predictions_of_then(values, digest, first, total):
    config = TransformerConfig.from_dict(values)
    model = DiT(config, generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    _assert_drawn_in_order_of_name(model)
    if torch.backends.cpu.get_cpu_capability() == "AVX512":  # normal numbers differ in their last bits between kinds of processor
        assert _digest(model) == digest
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    x_t = torch.randn(3, config.in_channels, 2 * config.patch_size[0], 8, 8, generator=generator)
    timestep = torch.rand(3, generator=generator) * 1000
    labels = torch.randint(0, config.num_labels + 1, (3,), generator=generator)
    text = torch.randn(3, config.text_dim, generator=generator)
    prediction = model(x_t, timestep, labels, text, torch.tensor([True, False, True]))
    torch.testing.assert_close(prediction.flatten()[:4], torch.tensor(first), atol=1e-5, rtol=1e-5)
    assert float(prediction.abs().sum()) == pytest.approx(total, rel=1e-5)
