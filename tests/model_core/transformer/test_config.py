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


def test_latents_that_do_not_divide_into_patches_are_refused():
    config = TransformerConfig(in_channels=4, patch_size=(1, 2, 2))
    assert config.grid((4, 1, 8, 6)) == (1, 4, 3)
    with pytest.raises(BadModelError, match="do not divide"):
        config.grid((4, 1, 8, 7))
    with pytest.raises(BadModelError, match="channels"):
        config.grid((3, 1, 8, 8))
