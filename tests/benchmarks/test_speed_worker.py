import io
import json

import pytest
import torch

from benchmarks.speed_contenders import Contender
from benchmarks.speed_worker import Session, _Stop, held_bytes, peak_bytes
from tests.benchmarks.test_transformer_speed import TINY


@pytest.fixture
def contender():
    weight = torch.zeros(3, 5, requires_grad=True)

    def train(after_step):
        while True:
            after_step()

    return Contender(
        num_parameters=15,
        forward=lambda count: torch.ones(count, 3) @ weight,
        train=train,
        sample=lambda _num_steps: None,
    )


def answers(contender, lines, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    with pytest.raises(_Stop):
        contender.train(Session(contender, TINY, baseline_bytes=7).after_step)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_answers_what_it_is_asked_and_times_only_the_steps_asked_for(contender, monkeypatch, capsys):
    found = answers(contender, ["train 2", "memory", "sample 4", "operations", "train 1", "quit"], monkeypatch, capsys)
    facts, two, memory, sampled, counted, one = found
    assert facts == {"num_parameters": 15, "baseline_bytes": 7}
    assert [len(two["seconds"]), len(one["seconds"]), len(sampled["seconds"])] == [2, 1, 1]
    assert all(0 <= second < 1 for second in two["seconds"])
    assert memory["bytes"] > 0
    # A product of [count, 3] with [3, 5] is 30 operations a row, and its one gradient as many.
    assert counted == {"training_flops": 2 * 30 * TINY.batch_size, "sampling_flops": 30 * 2 * TINY.batch_size}


def test_the_end_of_its_input_ends_it(contender, monkeypatch, capsys):
    assert len(answers(contender, [], monkeypatch, capsys)) == 1


def test_the_peak_is_at_least_what_is_held():
    assert peak_bytes("cpu") >= held_bytes("cpu") * 0.99 > 0
