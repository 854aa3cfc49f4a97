import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.errors import BadModelError
from model_core.transformer.config import TransformerConfig


@given(
    heads=st.integers(1, 4), width=st.integers(1, 8), depth=st.integers(1, 6), labels=st.integers(0, 9), patch=st.integers(1, 4)
)
def test_to_dict_and_from_dict_reverse_each_other(heads, width, depth, labels, patch):
    config = TransformerConfig(
        in_channels=8,
        hidden_size=4 * width * heads,
        num_heads=heads,
        depth=depth,
        num_labels=labels,
        patch_size=(1, patch, patch),
    )
    assert TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"num_heads": 5}, "not a multiple"),
        ({"patch_size": (0, 1, 1)}, "patch_size"),
        ({"patch_size": (1, 1)}, "patch_size"),
        ({"mlp_ratio": 0.0}, "mlp_ratio"),
        ({"num_labels": -1}, "num_labels"),
        ({"hidden_size": 10**9}, "hidden_size"),
        ({"hidden_size": 6}, "multiple of 4"),
        ({"frequency_dim": 3}, "even"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"mlp": "relu"}, "mlp is 'relu'"),
        ({"positions": "learned"}, "positions is 'learned'"),
        ({"modulation": ""}, "modulation is ''"),
        ({"attention": "window"}, "attention is 'window'"),
        ({"text_conditioning": "yes"}, "text_conditioning is 'yes'"),
        ({"text_conditioning": "cross_attention"}, "text_dim is 0"),
        ({"positions": "rope", "num_heads": 4}, "head width of 6 or more, it is 4"),
        ({"positions": "rope", "hidden_size": 28, "num_heads": 4}, "even head width"),
        ({"rope_grid": (1, 4, 4)}, "without rotary positions"),
        ({"positions": "rope", "rope_grid": (1, 0, 4)}, "rope_grid"),
        ({"positions": "rope", "rope_grid": (1, 4)}, "rope_grid"),
    ],
)
def test_impossible_shapes_are_refused(change, message):
    with pytest.raises(BadModelError, match=message):
        TransformerConfig(**{"in_channels": 4, "hidden_size": 16, "num_heads": 2, **change})


def test_a_misspelt_key_or_a_value_of_a_wrong_type_is_refused():
    values = TransformerConfig(in_channels=4).to_dict()
    with pytest.raises(BadModelError, match="dephth"):
        TransformerConfig.from_dict({**values, "dephth": 3})
    with pytest.raises(BadModelError, match="depth has a value of a wrong type"):
        TransformerConfig.from_dict({**values, "depth": "4"})
    for name, value in [
        ("learn_variance", 1),
        ("long_skips", "no"),
        ("depth", True),
        ("norm", None),
        ("patch_size", None),
        ("patch_size", 2),
        ("patch_size", [1, 2.0, 2]),
        ("rope_grid", [1, "2", 2]),
        ("mlp_ratio", None),
    ]:
        with pytest.raises(BadModelError, match=f"{name} has a value of a wrong type"):
            TransformerConfig.from_dict({**values, name: value})
    del values["depth"]
    with pytest.raises(BadModelError, match="missing keys: depth"):
        TransformerConfig.from_dict(values)


def test_every_option_survives_its_trip_through_json():
    config = TransformerConfig(
        in_channels=4,
        text_dim=3,
        learn_variance=True,
        norm="rms",
        mlp="swiglu",
        positions="rope",
        rope_grid=(2, 8, 8),
        qk_norm=True,
        modulation="shared",
        attention="factorised",
        text_conditioning="cross_attention",
        long_skips=True,
    )
    assert TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_configuration_written_before_the_options_means_their_defaults():
    first = [
        "in_channels",
        "patch_size",
        "hidden_size",
        "depth",
        "num_heads",
        "mlp_ratio",
        "num_labels",
        "text_dim",
        "frequency_dim",
    ]
    config = TransformerConfig(in_channels=4)
    values = {name: value for name, value in config.to_dict().items() if name in first}
    assert TransformerConfig.from_dict(values) == config


def test_swiglu_has_as_many_weights_as_gelu():
    for width in (64, 384, 1152):
        gelu = TransformerConfig(in_channels=4, hidden_size=width, num_heads=2)
        swiglu = TransformerConfig(in_channels=4, hidden_size=width, num_heads=2, mlp="swiglu")
        assert 3 * swiglu.mlp_width == pytest.approx(2 * gelu.mlp_width, rel=0.1)
        assert swiglu.mlp_width % 8 == 0


def test_latents_that_do_not_divide_into_patches_are_refused():
    config = TransformerConfig(in_channels=4, patch_size=(1, 2, 2))
    assert config.grid((4, 1, 8, 6)) == (1, 4, 3)
    with pytest.raises(BadModelError, match="do not divide"):
        config.grid((4, 1, 8, 7))
    with pytest.raises(BadModelError, match="channels"):
        config.grid((3, 1, 8, 8))
