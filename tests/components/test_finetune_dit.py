"""The step that fine-tunes: what it makes opens as any model does, and what does not fit the base is refused in one line."""

import json
import shutil

import pytest
import torch

from components.finetune_dit.config import Base, Config
from components.finetune_dit.step import run
from governance.digest import tree_digest
from governance.errors import IntegrityError
from governance.package_contents import read_base
from governance.package_layout import package_root_digest
from model_core.data.latents import LatentsConfig
from model_core.errors import BadModelError
from model_core.sampling.generate import load_transformer
from model_core.transformer.adapter_file import load_adapter
from model_core.transformer.adapters import merged_weights
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig, write_model_config
from model_core.transformer.weights import load_weights, save_weights
from tests.components.test_train_dit import FakeWorld
from tests.model_core.toy_latents import ARCHITECTURE, LABELS, model_config, write_latents

CONFIG = Config(num_steps=8, batch_size=4, warmup_steps=2, rank=2, alpha=2.0, device="cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "base")


def write_base(folder, config: ModelConfig | None = None):
    (folder / "codec").mkdir(parents=True)
    (folder / "codec" / "config.json").write_text("{}")
    config = config or model_config()
    write_model_config(config, folder)
    model = DiT(config.transformer(), generator=torch.Generator().manual_seed(1))
    save_weights({name: tensor + 0.05 for name, tensor in model.named_parameters()}, folder)
    values = json.loads((folder / "config.json").read_text())
    values["training_data"] = {"name": "old", "dataset_digest": "d" * 64, "num_items": {"train": 3}, "licences": {"MIT": 3}}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def own_latents(folder, **changes):
    """Latents of a company's own: circles, and stars that the base does not know."""
    write_latents(folder)
    path = folder / "config.json"
    values = json.loads(path.read_text()) | {"labels": ["circles", "stars"], "dataset_digest": "a" * 64} | changes
    path.write_text(json.dumps(LatentsConfig.from_dict(values).to_dict()))
    return folder


def finetune(tmp_path, base, *, config=CONFIG, latents=None, named=None):
    named = named or Base(name="toy", version=3, root_digest=package_root_digest(base))
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    inputs = {"latents": latents or own_latents(tmp_path / "latents"), "base": base}
    config = config.model_copy(update={"base": named})
    return run(config, inputs, {"model": folder}, FakeWorld().ports(tmp_path / "scratch")), folder


def test_it_makes_a_model_with_the_adapter_merged_and_its_base_on_record(tmp_path, base):
    report, folder = finetune(tmp_path, base)
    model, config = load_transformer(folder)
    assert config.conditioning.labels == [*LABELS, "stars"]
    assert (config.dataset_digest, config.codec_digest) == ("a" * 64, "c" * 64)
    assert config.training["adapter"] == {"rank": 2, "alpha": 2.0, "targets": None}
    adapter = load_adapter(folder / "adapter", ARCHITECTURE)
    expected = merged_weights(dict(load_weights(ARCHITECTURE, base).named_parameters()), adapter.tensors, adapter.config)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.named_parameters())
    record = read_base(folder)
    assert record is not None
    assert (record["name"], record["version"], record["training_data"]["name"]) == ("toy", 3, "old")
    assert adapter.base == {name: record[name] for name in ("name", "version", "root_digest", "weights_digest")}
    assert report.facts["added_labels"] == ["stars"]
    assert report.metrics["num_parameters"] == sum(tensor.numel() for tensor in adapter.tensors.values())


def test_the_same_work_gives_the_same_bytes(tmp_path, base):
    _, folder = finetune(tmp_path, base)
    first = tree_digest(folder)
    shutil.rmtree(tmp_path / "scratch")
    shutil.rmtree(tmp_path / "latents")
    assert tree_digest(finetune(tmp_path, base)[1]) == first


def test_the_objective_is_the_bases(tmp_path):
    base = write_base(tmp_path / "noise", model_config(objective="epsilon"))
    _, folder = finetune(tmp_path, base)
    _, config = load_transformer(folder)
    assert (config.objective, config.training["num_timesteps"]) == ("epsilon", 20)


def test_a_base_that_is_not_the_version_named_is_refused(tmp_path, base):
    with pytest.raises(IntegrityError, match="the base toy/3 has root digest"):
        finetune(tmp_path, base, named=Base(name="toy", version=3, root_digest="0" * 64))
    with pytest.raises(BadModelError, match="no base is named"):
        run(CONFIG, {"latents": own_latents(tmp_path / "own"), "base": base}, {"model": tmp_path}, FakeWorld().ports(tmp_path))


@pytest.mark.parametrize(
    ("changes", "told", "hint"),
    [
        ({"codec_digest": "9" * 64}, "encoded with codec 999999999999", "the base's codec"),
        ({"fps": 8.0}, "toy/3 makes 0 frames a second, the clips have 8", "data.fps=0"),
        ({"text_encoder": {"name": "other", "digest": "9" * 64, "dim": 6}}, "the latents' are of other 9999", "text encoder"),
    ],
)
def test_data_that_the_base_was_not_made_for_are_refused(tmp_path, base, changes, told, hint):
    with pytest.raises(BadModelError, match=told) as caught:
        finetune(tmp_path, base, latents=own_latents(tmp_path / "other", **changes))
    assert (hint in caught.value.hint, caught.value.exit_code) == (True, 3)


@pytest.mark.parametrize("shape", [(3, 1, 2, 2), (4, 2, 2, 2), (4, 1, 4, 4)])
def test_channels_frames_and_size_have_to_be_the_bases(tmp_path, base, shape):
    latents = write_latents(tmp_path / "other", latents=torch.randn(10, *shape))
    with pytest.raises(BadModelError, match="toy/3 is of latents of 4x1x2x2") as caught:
        finetune(tmp_path, base, latents=latents)
    assert "data.size=4" in caught.value.hint


def test_clips_have_to_be_as_long_as_the_bases(tmp_path, base):
    latents = own_latents(tmp_path / "latents", num_frames=4)
    with pytest.raises(BadModelError, match="clips of 1 frames, the data have clips of 4") as caught:
        finetune(tmp_path, base, latents=latents)
    assert caught.value.hint == "set data.frames=1"


def test_adapters_that_do_not_fit_are_refused_before_anything_is_learnt(tmp_path, base):
    for change, told in (({"rank": 17}, "larger than the layer"), ({"targets": ("head",)}, "no linear layer")):
        with pytest.raises(BadModelError, match=told):
            finetune(tmp_path, base, config=CONFIG.model_copy(update=change))
        shutil.rmtree(tmp_path / "latents")
    assert not list((tmp_path / "scratch").iterdir())
