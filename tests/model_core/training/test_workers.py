"""Training in processes that training itself starts."""

import dataclasses
import multiprocessing

import pytest
import torch

from model_core.errors import BadModelError, ModelCoreError
from model_core.training.distributed import WorkerLostError, joined_processes
from model_core.training.loop import train
from model_core.training.throughput import measured_matmul_peak
from model_core.training.workers import train_in_processes
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING, open_latents

NETWORK = dataclasses.replace(ARCHITECTURE, qk_norm=True)  # see test_distributed


def _train(latents, scratch, *, training=TRAINING, num_processes=2, strategy="ddp", on_step=lambda _: None, matmul_peak=None):
    scratch.mkdir(exist_ok=True)
    return train_in_processes(
        training,
        NETWORK,
        latents.folder,
        num_processes=num_processes,
        strategy=strategy,
        scratch=scratch,
        device="cpu",
        on_step=on_step,
        matmul_peak=matmul_peak,
    )


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    assert torch.get_num_threads() == 1
    assert not multiprocessing.active_children()
    torch.set_num_threads(before)


@pytest.fixture
def latents(tmp_path):
    return open_latents(tmp_path / "latents")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_processes_train_what_one_trains_and_only_this_one_tells(tmp_path, latents, strategy):
    alone = train(TRAINING, NETWORK, latents, scratch=tmp_path, device="cpu")
    told = []
    together = _train(latents, tmp_path / "together", strategy=strategy, on_step=told.append, matmul_peak=measured_matmul_peak)
    assert together.losses == pytest.approx(alone.losses, abs=1e-6)
    for name, tensor in alone.weights.items():
        torch.testing.assert_close(together.weights[name], tensor, rtol=0, atol=1e-6)
    assert [progress.step for progress in told] == list(range(1, TRAINING.num_steps + 1))
    assert all(progress.share_of_peak for progress in told)
    assert [path.name for path in (tmp_path / "together").glob("meeting-*")] == []


@pytest.mark.slow
def test_a_meeting_to_which_nobody_came_leaves_the_next_as_it_is(tmp_path, latents):
    place = {"rank": 0, "world_size": 2, "init_method": (tmp_path / "meet").as_uri(), "timeout_s": 0.5}
    with pytest.raises(WorkerLostError, match="did not meet"), joined_processes(torch.device("cpu"), **place):
        pass
    assert len(_train(latents, tmp_path / "scratch").losses) == TRAINING.num_steps


@pytest.mark.slow
def test_an_interrupt_ends_all_and_the_next_attempt_goes_on(tmp_path, latents):
    def interrupt(progress):
        if progress.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(latents, tmp_path / "scratch", on_step=interrupt)
    assert not multiprocessing.active_children()
    resumed = _train(latents, tmp_path / "scratch")
    assert resumed.resumed_from == 7
    whole = train(TRAINING, NETWORK, latents, scratch=tmp_path, device="cpu")
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-6)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_training_in_one_line(tmp_path, latents):
    def kill(progress):
        if progress.step == 4:
            multiprocessing.active_children()[0].kill()

    with pytest.raises(ModelCoreError, match="process 0 lost another of the 2 processes") as caught:
        _train(latents, tmp_path / "scratch", on_step=kill)
    assert caught.value.exit_code == 6


def _fails_elsewhere(*_):
    if multiprocessing.parent_process() is not None:
        raise BadModelError("a step does not fit into memory", hint="take smaller batches")
    return 1e9


@pytest.mark.slow
def test_what_another_process_says_is_told_with_its_number(tmp_path, latents):
    with pytest.raises(ModelCoreError, match="process 1: a step does not fit into memory") as caught:
        _train(latents, tmp_path / "scratch", matmul_peak=_fails_elsewhere)
    assert (caught.value.exit_code, caught.value.hint) == (3, "take smaller batches")


def test_more_processes_than_pictures_of_a_step_are_refused(tmp_path, latents):
    with pytest.raises(BadModelError, match="3 processes and 2 parts of a step share batches of 4"):
        _train(latents, tmp_path, training=dataclasses.replace(TRAINING, accumulate_steps=2), num_processes=3)


def test_one_process_starts_no_others(tmp_path, latents):
    def look(_):
        assert not multiprocessing.active_children()

    assert len(_train(latents, tmp_path / "scratch", num_processes=1, on_step=look).losses) == TRAINING.num_steps
    assert any((tmp_path / "scratch").iterdir())
