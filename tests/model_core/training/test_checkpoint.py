import pickle
import threading

import pytest
import torch

from model_core.errors import BadModelError
from model_core.training.checkpoint import Checkpoint, CheckpointWriter, read_checkpoint, write_checkpoint


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


def test_a_file_of_another_format_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    monkeypatch.setattr("model_core.training.checkpoint.FORMAT", "groundswell-training/0")
    write_checkpoint(path, _checkpoint())
    monkeypatch.undo()
    with pytest.raises(BadModelError, match="groundswell-training/0"):
        read_checkpoint(path)


@pytest.mark.parametrize("state", ["{", "[]", "{}", '{"format": "groundswell-training/1", "step": -1, "work": {}}'])
def test_a_state_that_is_none_is_refused(tmp_path, state):
    from safetensors.torch import save_file

    path = tmp_path / "checkpoint.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"state": state})
    with pytest.raises(BadModelError, match="not a readable training checkpoint"):
        read_checkpoint(path)


class _SlowDisk:
    """Stands for `write_checkpoint` where it takes as long as the test wants."""

    def __init__(self):
        self.may_end, self.steps, self.now, self.most = threading.Event(), [], 0, 0

    def __call__(self, path, checkpoint):
        self.now += 1
        self.most = max(self.most, self.now)
        assert self.may_end.wait(10)
        self.steps.append(checkpoint.step)
        self.now -= 1


def test_writing_goes_on_beside_the_caller_one_at_a_time(tmp_path, monkeypatch):
    disk = _SlowDisk()
    monkeypatch.setattr("model_core.training.checkpoint.write_checkpoint", disk)
    with CheckpointWriter(tmp_path / "c") as writer:
        writer.save(_checkpoint())
        assert disk.steps == []
        disk.may_end.set()
        for _ in range(3):
            writer.save(_checkpoint())
    assert (disk.steps, disk.most) == ([3, 3, 3, 3], 1)


def _fails(path, checkpoint):
    raise OSError(28, "No space left on device")


def test_an_error_of_the_thread_surfaces_at_the_next_save_once(tmp_path, monkeypatch):
    monkeypatch.setattr("model_core.training.checkpoint.write_checkpoint", _fails)
    with CheckpointWriter(tmp_path / "c") as writer:
        writer.save(_checkpoint())
        with pytest.raises(OSError, match="No space"):
            writer.save(_checkpoint())
        writer.wait()


def _save_and_then(path, error=None):
    with CheckpointWriter(path) as writer:
        writer.save(_checkpoint())
        if error is not None:
            raise error


def test_an_error_of_the_thread_surfaces_at_the_end_and_hides_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("model_core.training.checkpoint.write_checkpoint", _fails)
    with pytest.raises(OSError, match="No space"):
        _save_and_then(tmp_path / "c")
    with pytest.raises(ValueError, match="another"):
        _save_and_then(tmp_path / "c", ValueError("another"))


def test_what_is_being_written_is_finished_when_something_else_fails(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        _save_and_then(path, KeyboardInterrupt())
    assert read_checkpoint(path).step == 3
