"""Parts of a dataset: together they are what one process writes; what is missing, twice there, exchanged or edited is refused."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.encode_latents.config import Config
from components.encode_latents.step import run as encode_latents
from components.encode_part.config import Config as PartConfig
from components.encode_part.step import run as encode_part
from components.plan_encoding.config import Config as PlanConfig
from components.plan_encoding.plan import divide, part_numbers, read_plan
from components.plan_encoding.step import run as plan_encoding
from governance.digest import sha256_file
from governance.errors import IntegrityError
from model_core.codec.io import save_codec
from tests.components.codec_steps import Recorder, contents, empty, ports, validated_dataset
from tests.components.test_encode_latents import LetterEncoder
from tests.model_core.codec.small import small_codec

CONFIG = Config(batch_size=3, shard_size=2, num_shown=2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class World:
    """A dataset of eleven items, its codec, and a folder for whatever is made of them."""

    folder: Path
    inputs: dict[str, Path]

    def plan(self, parts: int, *, shard_size: int = 2, name: str = "plan") -> Path:
        out = empty(self.folder / name)
        config = PlanConfig(parts=parts, shard_size=shard_size)
        plan_encoding(config, self.inputs, {"plan": out}, ports(self.folder / "nothing", Recorder()))
        return out

    def part(self, plan: Path, number: int, *, name: str = "", recorder: Recorder | None = None) -> Path:
        out = self.folder / (name or f"part-{number}")
        out.mkdir(exist_ok=True)
        scratch = ports(self.folder / f"scratch-{number}", recorder or Recorder())
        encode_part(PartConfig(part=number, batch_size=3), {**self.inputs, "plan": plan}, {"encoded": out}, scratch)
        return out

    def parts(self, parts: int) -> list[Path]:
        plan = self.plan(parts)
        return [self.part(plan, int(number)) for number in part_numbers(str(plan))]

    def join(self, parts: list[Path], name: str = "joined") -> Path:
        given = {f"encoded-{number:04d}": part for number, part in enumerate(parts)}
        out = empty(self.folder / name)
        recorder = ports(self.folder / name / ".." / "unused", Recorder())
        encode_latents(CONFIG, {**self.inputs, **given}, {"latents": out}, recorder, text_encoder=LetterEncoder())
        return out


@pytest.fixture
def world(tmp_path: Path) -> World:
    codec = empty(tmp_path / "codec")
    save_codec(small_codec(latent_mean=(0.1,) * 4, latent_std=(2.0,) * 4), codec)
    return World(tmp_path, {**validated_dataset(tmp_path, num_items=11), "codec": codec})


@pytest.mark.parametrize("parts", [1, 2, 4, 50])
def test_the_parts_joined_are_byte_for_byte_what_one_process_writes(world: World, parts: int) -> None:
    made = world.parts(parts)
    assert len(made) == min(parts, 6)  # shards of two
    assert contents(world.join(made)) == contents(world.join([], name="whole"))


def test_the_order_in_which_parts_arrive_does_not_matter(world: World) -> None:
    first, second, third = world.parts(3)
    assert contents(world.join([third, first, second])) == contents(world.join([], name="whole"))


def test_a_shard_is_not_written_twice_where_the_disk_knows_second_names_and_copied_where_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world.parts(2)
    joined = world.join(made)
    name = next((made[0] / "shards").iterdir()).name
    assert (joined / "shards" / name).samefile(made[0] / "shards" / name)

    def knows_no_links(*_: object) -> None:
        raise OSError("not permitted")

    monkeypatch.setattr("os.link", knows_no_links)
    copied = world.join(made, name="copied")
    assert not (copied / "shards" / name).samefile(made[0] / "shards" / name)
    assert contents(copied) == contents(joined)


def test_an_interrupted_part_goes_on_after_its_last_whole_shard(world: World) -> None:
    plan = world.plan(2)  # three shards each
    whole = contents(world.part(plan, 1, name="whole"))
    shutil.rmtree(world.folder / "scratch-1")
    with pytest.raises(KeyboardInterrupt):
        world.part(plan, 1, name="killed", recorder=Recorder(stop_at=2))
    again = Recorder()
    assert contents(world.part(plan, 1, name="again", recorder=again)) == whole
    assert [update[:2] for update in again.updates] == [(2, 5), (4, 5), (5, 5)]


def retell(part: Path, **changes: object) -> None:
    """Edits what a part tells of itself; the digests of its files are told anew."""
    path = part / "part.json"
    told = json.loads(path.read_text()) | changes
    told["files"] = {name: sha256_file(part / name) for name in told["files"] if (part / name).is_file()}
    path.write_text(json.dumps(told))


def exchange(first: Path, second: Path) -> None:
    """Exchanges the first shards of two parts, under their names."""
    one, other = (min((part / "shards").iterdir()) for part in (first, second))
    one_bytes, other_bytes = one.read_bytes(), other.read_bytes()
    one.unlink()
    other.unlink()
    one.write_bytes(other_bytes)
    other.write_bytes(one_bytes)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


Change = Callable[[list[Path]], object]

REFUSED: dict[str, tuple[Change, str]] = {
    "the first is missing": (lambda parts: parts.pop(0), "no part has shard 0, of 6"),
    "one between is missing": (lambda parts: parts.pop(1), "no part has shard 2, of 6"),
    "the last is missing": (lambda parts: parts.pop(), "no part has shard 4, of 6"),
    "one is there twice": (lambda parts: parts.append(parts[1]), "has shard 2, which another part has too"),
    "two have exchanged shards": (
        lambda parts: exchange(parts[0], parts[1]),
        "latents-00000.safetensors is not as it was written",
    ),
    "a shard was edited": (
        lambda parts: flip(parts[1] / "shards/latents-00002.safetensors"),
        "encoded-0001: shards/.* is not as",
    ),
    "a shard is gone": (lambda parts: (parts[1] / "shards/latents-00003.safetensors").unlink(), "00003.safetensors is not as"),
    "fidelity was edited": (lambda parts: flip(parts[2] / "fidelity.safetensors"), "fidelity.safetensors is not as"),
    "it tells nothing": (lambda parts: (parts[0] / "part.json").unlink(), "nothing that `encode_part` has written"),
    "it tells no JSON": (lambda parts: (parts[0] / "part.json").write_text("[1,"), "nothing that `encode_part` has written"),
    "another format": (lambda parts: retell(parts[0], format="groundswell-encoded-part/9"), "is of another format"),
    "another dataset": (lambda parts: retell(parts[0], dataset_digest="0" * 64), "encoded-0000 is of another dataset digest"),
    "another codec": (lambda parts: retell(parts[1], codec_digest="0" * 64), "encoded-0001 is of another codec digest"),
    "another shape": (lambda parts: retell(parts[1], latent_shape=[4, 1, 2, 3]), "is of another latent shape"),
    "another size of shards": (lambda parts: retell(parts[1], shard_size=3), "is of another shard size"),
    "other items": (lambda parts: retell(parts[2], num_items=4), "encoded-0002 has 4 items, not 3"),
    "shards that are not there": (lambda parts: retell(parts[2], end_shard=9), "of 6 that there are"),
    "no shards": (lambda parts: retell(parts[2], end_shard=4), "of 6 that there are"),
    "files it does not have": (lambda parts: retell(parts[0], files={"../codec/config.json": ""}), "tells of other files"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_set_of_parts_is_refused_with_one_line(world: World, name: str) -> None:
    change, words = REFUSED[name]
    parts = world.parts(3)
    change(parts)
    with pytest.raises(IntegrityError, match=words) as caught:
        world.join(parts)
    assert (caught.value.exit_code, "run the same command again" in caught.value.hint) == (4, True)
    assert "\n" not in caught.value.diagnosis


def test_a_part_whose_shards_hold_other_numbers_of_items_is_refused(world: World) -> None:
    parts = world.parts(3)
    last, first = parts[2] / "shards/latents-00005.safetensors", parts[2] / "shards/latents-00004.safetensors"
    last.write_bytes(first.read_bytes())  # of one item and of two
    retell(parts[2])
    with pytest.raises(IntegrityError, match="encoded-0002 holds other numbers of items than it tells"):
        world.join(parts)


def test_a_plan_of_other_data_and_a_part_that_is_not_in_it_are_refused(world: World) -> None:
    plan = world.plan(2)
    with pytest.raises(IntegrityError, match=r"has 2 parts .* part 2 of dataset") as caught:
        world.part(plan, 2)
    assert caught.value.exit_code == 4
    values = json.loads((plan / "plan.json").read_text())
    for changed in ({**values, "dataset_digest": "0" * 64}, {**values, "format": "another"}, {"format": values["format"]}):
        (plan / "plan.json").write_text(json.dumps(changed))
        with pytest.raises(IntegrityError):
            world.part(plan, 0)
    assert not list((world.folder / "part-0").rglob("*.safetensors"))


@given(num_shards=st.integers(1, 3000), num_parts=st.integers(1, 1000))
def test_parts_follow_each_other_and_differ_by_one_shard_at_most(num_shards: int, num_parts: int) -> None:
    parts = divide(num_shards, num_parts)
    assert [shard for part in parts for shard in part] == list(range(num_shards))
    assert len(parts) == min(num_shards, num_parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_plan_is_read_as_it_was_written(world: World) -> None:
    plan = read_plan(world.plan(4))
    assert (plan.shard_size, plan.parts) == (2, (range(1), range(1, 3), range(3, 4), range(4, 6)))
