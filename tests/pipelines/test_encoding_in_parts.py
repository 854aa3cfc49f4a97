"""A dataset that is encoded part by part: one part's process is killed, the same again, and a part that is edited afterwards."""

import os
import re
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.runtime import RunContext, run_step
from components.store import ArtifactRef
from governance.digest import tree_digest
from governance.errors import IntegrityError
from infra.home import Home
from infra.identities import first_identity
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.lineage import upstream
from infra.run_records import begin_run
from infra.runs import StepRow, get_steps
from infra.settings import Settings
from tests.pipelines.calling import Called, call_here, finish, flip_byte, run_training, running, step_process, wait_for
from tests.pipelines.conftest import copy_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ENCODING = {"parts": 3, "shard_size": 8, "device": "cpu"}  # 36 pictures: five shards


@dataclass(frozen=True)
class Ran:
    """A run one of whose parts was killed, and the same command again. What follows on encoding is refused at once."""

    home: Home
    killed: Called
    again: Called

    def steps(self, called: Called) -> dict[str, StepRow]:
        with self.home.database.read() as connection:
            return {step.step: step for step in get_steps(connection, called.document["run_id"])}

    def inputs(self, step: str) -> dict[str, Path]:
        """Where the inputs of a step of the second run are."""
        recorded = self.steps(self.again)[step].record["inputs"]
        return {name: Path(reference["location"]) for name, reference in recorded.items()}

    def new_run(self) -> RunContext:
        """Begins a run in this process."""
        run_id, actor = str(uuid.uuid4()), first_identity(self.home.database)
        begin_run(self.home, run_id=run_id, pipeline="training", runner="in-process", params={}, actor=actor)
        return RunContext(home=self.home, run_id=run_id, pipeline="training", actor=actor)

    def do(self, step: str, inputs: dict[str, Path], **more: int) -> tuple[ArtifactRef, str]:
        """Does a step in this process; returns what it made, and whether that was reused."""
        run = self.new_run()
        config = {"device": "cpu", **({"part": more["part"]} if more else {"shard_size": 8})}
        (made,) = run_step(run, step, config, inputs, **more).values()
        with self.home.database.read() as connection:
            (row,) = get_steps(connection, run.run_id)
        return made, row.status


@pytest.fixture(scope="module")
def ran(home_template: Path, training_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("parts") / "home"
    copy_home(home_template, folder)
    settings = [one for one in training_settings if not one.startswith("train_dit")]
    settings += [f"encode_latents.{name}={value}" for name, value in ENCODING.items()]
    settings += ["train_dit.preset=DiT-S/2", "train_dit.hidden_size=16"]  # contradict each other
    with running(folder, settings) as process:
        part = wait_for(lambda: step_process(folder, "encode_part"), "a part", process=process)
        os.kill(part, signal.SIGKILL)
        killed = finish(process)
    found = Ran(Home.open(Settings.load(folder)), killed, run_training(folder, settings))
    yield found
    found.home.database.close()


def test_a_killed_part_fails_its_run_with_one_line_and_it_alone_is_done_again(ran: Ran) -> None:
    assert (ran.killed.exit_code, "Traceback" in ran.killed.stderr) == (1, False)
    assert re.fullmatch(
        r"encode_part-000\d: its process was killed before it could say why|encode_latents: 1 of its 3 parts ended before .*",
        ran.killed.document["error"],
    )
    before, after = ran.steps(ran.killed), ran.steps(ran.again)
    parts = {f"encode_part-{number:04d}" for number in range(3)}
    assert {"validate_data", "plan_encoding", *parts, "encode_latents"} < {*after}
    assert "encode_latents" not in before
    done = {name for name in parts if name in before and before[name].status == "completed"}
    assert done < parts
    assert {name for name in parts if after[name].status == "reused"} == done
    assert {after[name].status for name in parts - done} == {after["encode_latents"].status} == {"completed"}
    assert (ran.again.exit_code, "preset" in ran.again.document["error"]) == (3, True)


def test_a_person_sees_one_step_and_how_many_of_its_parts_are_done(ran: Ran) -> None:
    seen = {step["name"]: step["status"] for step in ran.again.document["steps"]}
    assert list(seen) == ["import_data", "validate_data", "encode_latents", "train_dit", "evaluate", "register_model"]
    assert (seen["validate_data"], seen["encode_latents"], seen["train_dit"]) == ("reused", "completed", "failed")
    seen = {step["name"]: step["status"] for step in ran.killed.document["steps"]}
    assert (seen["encode_latents"], seen["train_dit"]) == ("failed", "waiting")


def test_the_latents_are_those_of_one_process_and_what_follows_is_not_done_again(ran: Ran) -> None:
    inputs = {name: path for name, path in ran.inputs("encode_latents").items() if not name.startswith("encoded-")}
    whole, status = ran.do("encode_latents", inputs)
    joined = ran.steps(ran.again)["encode_latents"].record
    assert status == "completed"  # it is other work, with the same outcome
    assert whole.digest == joined["outputs"]["latents"]["digest"] == tree_digest(Path(joined["outputs"]["latents"]["location"]))
    assert whole.path != Path(joined["outputs"]["latents"]["location"])


def test_lineage_leads_from_latents_through_all_parts_to_the_data_and_the_codec(ran: Ran) -> None:
    steps = ran.steps(ran.again)
    joined = steps["encode_latents"].record
    with ran.home.database.read() as connection:
        graph = upstream(connection, f"latents:{joined['outputs']['latents']['digest']}")
    for name in ("dataset", "codec", "validation", "encoded-0000", "encoded-0001", "encoded-0002"):
        assert f"{joined['inputs'][name]['kind']}:{joined['inputs'][name]['digest']}" in graph.nodes
    for part in range(3):
        reference = joined["inputs"][f"encoded-{part:04d}"]
        made = next(one for name, one in steps.items() if name == f"encode_part-{part:04d}").record
        assert made["outputs"]["encoded"]["digest"] == reference["digest"]
        assert made["inputs"]["dataset"]["digest"] == joined["inputs"]["dataset"]["digest"]
    shown = call_here(ran.home.path, "--json", "lineage", ran.again.document["run_id"], "--format", "json")
    assert shown.exit_code == 0, shown.stderr
    titles = {node["title"] for node in shown.document["nodes"]}
    assert {
        "Divide the data",
        "Encode a part (0000)",
        "Encode a part (0002)",
        "Encode to latents",
        "Part of the latents",
    } <= titles
    assert verify_ledger(ran.home.database, ran.home.keys.log_public_key()).problems == ()


def test_a_part_that_was_edited_is_refused_by_the_join_kept_and_made_anew(ran: Ran) -> None:
    folder = ran.inputs("encode_latents")["encoded-0001"]
    declared = ran.steps(ran.again)["encode_latents"].record["inputs"]["encoded-0001"]["digest"]
    shard = next(folder.glob("shards/*.safetensors"))
    before = shard.read_bytes()
    shard.unlink()  # its other name is the joined folder's
    shard.write_bytes(before)
    flip_byte(shard)
    for told in ({"encoded-0001": declared}, {}):
        with pytest.raises(IntegrityError, match=r"encoded-0001.*(declared|not as it was written)") as caught:
            run_step(ran.new_run(), "encode_latents", ENCODING, ran.inputs("encode_latents"), declared=told)
        assert (caught.value.exit_code, "made" in caught.value.hint or "run" in caught.value.hint) == (4, True)
    made, status = ran.do("encode_part", ran.inputs("encode_part-0001"), part=1)
    assert (made.digest, made.path, status) == (declared, folder, "completed")
    assert shard.read_bytes() == before
    assert "artifact.tampered" in {entry.action for entry in iter_entries(ran.home.database)}
    assert ran.do("encode_part", ran.inputs("encode_part-0001"), part=1)[1] == "reused"
