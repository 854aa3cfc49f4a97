import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from model_core.errors import BadModelError
from model_core.transformer.dit import DiT
from model_core.transformer.presets import preset, reference

PUBLISHED = {"DiT-S/2": 33e6, "DiT-B/4": 130e6, "DiT-L/4": 458e6, "DiT-XL/2": 675e6}  # parameters, from the paper's table 4


def _parameters(config):
    with torch.device("meta"):
        return DiT(config).num_parameters


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_a_reference_has_as_many_parameters_as_the_paper_says(name, parameters):
    assert _parameters(reference(name)) == pytest.approx(parameters, rel=0.015)


@pytest.mark.parametrize("name", ["DiT-S/2", "DiT-B/8", "DiT-L/4", "DiT-XL/1", "tiny"])
def test_a_modern_variant_has_about_as_many_parameters(name):
    plain = preset(name, in_channels=4, num_labels=10)
    modern = preset(f"{name}-modern", in_channels=4, num_labels=10)
    assert modern == replace(plain, mlp="swiglu", qk_norm=True)
    assert _parameters(modern) == pytest.approx(_parameters(plain), rel=0.02)


def test_the_patch_is_in_the_name():
    assert preset("DiT-B/4", in_channels=16).patch_size == (1, 4, 4)
    assert preset("tiny", in_channels=4).patch_size == (1, 2, 2)


@pytest.mark.parametrize("name", ["DiT-XXL/2", "DiT-S/3", "DiT-S", "dit-s/2", "", "tiny/2", "DiT-S/2-modern-modern", "DiT-S/2\n"])
def test_an_unknown_name_is_refused_in_one_line(name):
    with pytest.raises(BadModelError, match="there is no transformer preset") as caught:
        preset(name, in_channels=4)
    assert "\n" not in str(caught.value)
    assert "DiT-S/2" in caught.value.hint


def test_importing_presets_and_buckets_imports_no_tensors():
    code = "import sys, model_core.transformer.presets, model_core.transformer.buckets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
