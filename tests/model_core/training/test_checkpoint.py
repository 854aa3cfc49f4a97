import pickle

import pytest
import torch

from model_core.errors import BadModelError
from model_core.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint


def _checkpoint(value=1.0):
    return Checkpoint(step=3, work={"seed": 1}, tensors={"a": torch.full((2,), value), "b": torch.tensor(2.0)})


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, _checkpoint())
    found = read_checkpoint(path)
    assert (found.step, found.work) == (3, {"seed": 1})
    assert torch.equal(found.tensors["a"], torch.ones(2))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, _checkpoint())

    def full(*args, **kwargs):
        (tmp_path / "checkpoint.safetensors.partial").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model_core.training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(path, _checkpoint(2.0))
    assert torch.equal(read_checkpoint(path).tensors["a"], torch.ones(2))


@pytest.mark.parametrize("damage", ["truncated", "pickle", "foreign", "missing"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    from safetensors.torch import save_file

    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, _checkpoint())
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"step": 3}))
    elif damage == "foreign":
        save_file({"a": torch.zeros(2)}, path)
    else:
        path.unlink()
    with pytest.raises(BadModelError, match="not a readable training checkpoint"):
        read_checkpoint(path)
