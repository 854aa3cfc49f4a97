import subprocess
import sys

import pytest
import torch

from model_core.device import exact_convolutions, placed, select_device
from model_core.errors import BadModelError


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto") == select_device("cpu") == torch.device("cpu")
    with pytest.raises(BadModelError, match="no CUDA GPU"):
        select_device("cuda")
    with pytest.raises(BadModelError, match="no device"):
        select_device("tpu")  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [select_device("auto", index=index).index for index in range(3)] == [0, 1, 0]


def test_modules_are_on_the_device_for_as_long_as_it_takes():
    there, here = torch.nn.Linear(2, 2, device="meta"), torch.nn.Linear(2, 2)
    with placed(torch.device("meta"), there):
        assert there.weight.is_meta
    with pytest.raises(KeyboardInterrupt), placed(torch.device("cpu"), here):
        raise KeyboardInterrupt
    assert not here.weight.is_meta


def test_convolutions_are_exact_within_and_as_they_were_after():
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    with exact_convolutions():
        assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)
    assert (cudnn.allow_tf32, cudnn.deterministic) == before
    with pytest.raises(KeyboardInterrupt), exact_convolutions():
        raise KeyboardInterrupt
    assert (cudnn.allow_tf32, cudnn.deterministic) == before


def test_a_device_has_a_name_without_tensors():
    code = "import sys, model_core.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
