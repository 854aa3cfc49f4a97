import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.ports import Ports
from components.train_dit.config import Config
from components.train_dit.step import build_architecture, run
from model_core.data.latents import LatentDataset
from model_core.errors import BadDataError, BadModelError
from model_core.sampling.generate import load_transformer
from model_core.training.config import TrainingConfig
from model_core.transformer.model_config import SamplingDefaults
from model_core.transformer.presets import MODERN
from tests.model_core.toy_latents import LABELS, TEXT_DIM, write_latents

SIZES = {"hidden_size": 16, "depth": 1, "num_heads": 2}
CONFIG = Config(num_steps=12, batch_size=4, warmup_steps=2, **SIZES)
NO_SIZES = {name: Config.model_fields[name].default for name in SIZES}
MEASURED = ("loss", "steps_per_s", "images_per_s", "model_flops_per_s", "share_of_peak")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class FakeWorld:
    """Stands for tracking, progress and metrics."""

    def __init__(self):
        self.params, self.metrics, self.updates, self.gauges = {}, [], [], {}

    def log_params(self, params):
        self.params.update(params)

    def log_metrics(self, metrics, *, step=None):
        self.metrics.append((step, dict(metrics)))

    def log_artifact(self, path, *, folder=""):
        raise AssertionError("the runtime logs artifacts")

    def update(self, completed, total, description="", **fields):
        self.updates.append((completed, total, fields))

    def gauge(self, name, value, **labels):
        self.gauges[name] = value

    def ports(self, scratch: Path) -> Ports:
        scratch.mkdir(parents=True, exist_ok=True)
        return Ports(tracking=self, progress=self, metrics=self, scratch=scratch)


def _run(tmp_path, name="model", config=CONFIG, world=None, latents=None):
    world = world or FakeWorld()
    latents = latents or write_latents(tmp_path / "latents")
    folder = tmp_path / name
    folder.mkdir()
    return run(config, {"latents": latents}, {"model": folder}, world.ports(tmp_path / f"{name}-scratch")), folder


def test_a_model_is_written_that_opens_and_knows_what_it_was_made_from(tmp_path):
    report, folder = _run(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "loss_curve.png",
        "training.json",
        "transformer.safetensors",
    ]
    transformer, config = load_transformer(folder)
    assert config.conditioning.labels == list(LABELS)
    assert (config.codec_digest, config.dataset_digest) == ("c" * 64, "d" * 64)
    assert config.training["seed"] == 0
    training = json.loads((folder / "training.json").read_text())
    assert len(training["losses"]) == 12
    assert report.metrics["num_parameters"] == transformer.num_parameters
    assert report.facts["num_items"] == 8


def test_the_same_work_gives_the_same_bytes(tmp_path):
    _, first = _run(tmp_path, "first")
    _, second = _run(tmp_path, "second")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_losses_reach_tracking_in_tens_and_progress_at_every_step(tmp_path):
    world = FakeWorld()
    _run(tmp_path, world=world)
    assert [step for step, _ in world.metrics] == [10, 12]
    assert [done for done, _, _ in world.updates] == list(range(1, 13))
    assert set(world.updates[0][2]) == {"loss", "steps_per_s", "seconds_left"}
    assert set(world.gauges) == {f"training_{name}" for name in MEASURED}
    assert world.params["num_steps"] == 12


def test_an_epsilon_model_records_its_schedule(tmp_path):
    config = CONFIG.model_copy(update={"objective": "epsilon", "noise_schedule": "cosine", "num_timesteps": 50})
    _, folder = _run(tmp_path, config=config)
    schedule = load_transformer(folder)[1].noise_schedule
    assert schedule is not None
    assert (schedule.name, schedule.num_timesteps) == ("cosine", 50)


def test_damaged_latents_and_impossible_shapes_are_refused(tmp_path):
    with pytest.raises(BadModelError, match="do not divide"):
        _run(tmp_path, "a", config=CONFIG.model_copy(update={"patch_size": (1, 4, 4)}))
    with pytest.raises(BadModelError, match="multiple of num_heads"):
        _run(tmp_path, "b", config=CONFIG.model_copy(update={"num_heads": 3}))
    latents = write_latents(tmp_path / "cut")
    shard = next((latents / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(BadDataError, match=shard.name):
        _run(tmp_path, "c", latents=latents)


def test_a_misspelt_key_is_refused():
    with pytest.raises(ValueError, match="lerning_rate"):
        Config(lerning_rate=1.0)


def test_the_configuration_names_every_field_of_training():
    assert set(Config().training_values()) == set(TrainingConfig.__dataclass_fields__)


def test_the_configuration_names_every_field_of_sampling():
    assert set(Config().sampling_values()) == set(SamplingDefaults.model_fields)


@pytest.mark.parametrize(
    "change",
    [
        {"objective": "v", "noise_schedule": "cosine", "zero_terminal_snr": True, "min_snr_gamma": 5.0, "sampler": "ddim"},
        {"objective": "x0", "noise_schedule": "scaled_linear", "time_sampling": "logit_normal", "decay": "wsd"},
        {"objective": "epsilon", "learn_variance": True, "num_timesteps": 20, "accumulate_steps": 2, "device": "cpu"},
        {"norm": "rms", "mlp": "swiglu", "positions": "rope", "qk_norm": True, "hidden_size": 24, "precision": "bfloat16"},
        {"modulation": "shared", "attention": "factorised", "long_skips": True, "text_conditioning": "none", "depth": 2},
        {"sampling_time_shift": 3.0, "sampling_guidance_interval": (0.1, 0.9), "sampling_cache_interval": 2},
        {"sampling_eta": 0.5, "objective": "v", "sampling_guidance_rescale": 0.7},
        {"sampling_ddpm_variance": "large", "objective": "x0", "sampler": "ddpm"},
        {"preset": "tiny-modern", "activation_checkpointing": True, **NO_SIZES},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_trains_a_model_that_opens_and_says_what_it_is(tmp_path, change):
    config = CONFIG.model_copy(update={"num_steps": 2, **change})
    _, folder = _run(tmp_path, config=config)
    _, found = load_transformer(folder)
    assert found.objective == config.objective
    assert (found.noise_schedule is None) == (config.objective == "rectified_flow")
    if found.noise_schedule is not None:
        assert (found.noise_schedule.name, found.noise_schedule.zero_terminal_snr) == (
            config.noise_schedule,
            config.zero_terminal_snr,
        )
    assert found.sampling == SamplingDefaults(**config.sampling_values())
    architecture = found.transformer()
    for name in ("learn_variance", "modulation", "attention", "text_conditioning", "long_skips"):
        assert getattr(architecture, name) == getattr(config, name)
    if "preset" in change:
        assert (architecture.hidden_size, architecture.mlp, architecture.patch_size) == (64, "swiglu", (1, 2, 2))
    assert architecture.rope_grid == ((1, 1, 1) if architecture.positions == "rope" else None)


@pytest.mark.parametrize("change", [{"hidden_size": 512}, {"patch_size": (1, 4, 4)}, {"norm": "rms"}, {"mlp_ratio": 2.0}])
def test_a_size_beside_a_preset_that_has_another_is_refused_by_name(tmp_path, change):
    latents = LatentDataset.open(write_latents(tmp_path / "latents")).config
    complete = Config(preset="tiny", **change).model_dump(mode="json")  # as parameters reach a step
    (name,) = change
    with pytest.raises(BadModelError, match=f"but {name} is set to") as caught:
        build_architecture(Config.model_validate(complete), latents)
    assert caught.value.hint == f"leave out preset or {name}"


def test_a_size_beside_a_preset_that_has_the_same_is_no_conflict(tmp_path):
    latents = LatentDataset.open(write_latents(tmp_path / "latents")).config
    plain = build_architecture(Config(preset="tiny-modern"), latents)
    assert build_architecture(Config(preset="tiny-modern", hidden_size=64, **MODERN), latents) == plain


@pytest.mark.parametrize("preset", ["tiny", "tiny-modern"])
@pytest.mark.parametrize("change", [{"positions": "rope"}, {"modulation": "shared"}, {"long_skips": True}])
def test_what_a_preset_does_not_decide_may_stand_beside_it(tmp_path, preset, change):
    latents = LatentDataset.open(write_latents(tmp_path / "latents")).config
    plain = build_architecture(Config(preset=preset), latents)
    changed = build_architecture(Config(preset=preset, **change), latents)
    grid = plain.grid(latents.latent_shape) if "positions" in change else None
    assert changed == replace(plain, **change, rope_grid=grid)


def test_the_step_keeps_every_part_of_the_preset_modern():
    assert MODERN.keys() <= Config().size_values().keys()


def test_the_model_says_which_precision_auto_was(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    _, folder = _run(tmp_path, config=CONFIG.model_copy(update={"num_steps": 2, "precision": "auto", "device": "cpu"}))
    assert load_transformer(folder)[1].training["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"objective": "epsilon", "zero_terminal_snr": True}, "zero terminal SNR"),
        ({"learn_variance": True}, "learn_variance"),
        ({"sampler": "ddpm"}, "cannot sample rectified_flow"),
        ({"objective": "epsilon", "num_timesteps": 50, "sampling_num_steps": 51}, "sampling takes 51 steps"),
        ({"objective": "v", "sampling_time_shift": 3.0}, "time shift is for rectified flow"),
        ({"sampling_eta": 0.5}, "eta is 0.5, which the sampler euler does not read"),
        (
            {"objective": "epsilon", "sampler": "ddpm", "learn_variance": True, "sampling_ddpm_variance": "small"},
            "learns its variance",
        ),
        ({"preset": "DiT-M/2"}, "no transformer preset"),
        ({"preset": "tiny"}, "preset tiny has hidden_size 64, but hidden_size is set to 16"),
        ({"accumulate_steps": 5}, "accumulate_steps"),
        ({"positions": "rope"}, "rotary positions"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_training(tmp_path, change, problem):
    world = FakeWorld()
    config = CONFIG.model_copy(update={"num_heads": 4, **change})
    with pytest.raises(BadModelError, match=problem):
        _run(tmp_path, config=config, world=world)
    assert world.updates == []


def test_the_defaults_are_the_recipe_from_before():
    config = Config()
    assert config.objective == "rectified_flow"
    assert (config.precision, config.accumulate_steps, config.compile, config.preset) == ("float32", 1, False, None)
    assert (config.norm, config.mlp, config.positions, config.qk_norm) == ("layer", "gelu", "sinusoid", False)
    assert (config.modulation, config.attention, config.text_conditioning) == ("block", "full", "pooled")


def test_a_network_attends_to_the_captions_tokens_that_the_latents_hold(tmp_path):
    cross = CONFIG.model_copy(update={"text_conditioning": "cross_attention", "learning_rate": 0.02, "drop_text": 0.0})
    words = [torch.randn(count, TEXT_DIM, generator=torch.Generator().manual_seed(count)) for count in (2, 5, 3)]
    losses = []
    for name, tokens in (("words", words), ("others", [-states for states in words])):
        latents = write_latents(tmp_path / f"{name}-latents", tokens=tokens)
        _, folder = _run(tmp_path, name, cross, latents=latents)
        losses.append(json.loads((folder / "training.json").read_text())["losses"])
        assert load_transformer(folder)[0].config.reads_text_states
    assert losses[0][0] == losses[1][0]  # attention starts at nothing
    assert losses[0][-1] != losses[1][-1]
    with pytest.raises(BadModelError, match="these latents hold pooled captions only") as caught:
        _run(tmp_path, "pooled", cross)
    assert "encode_latents.caption_tokens=true" in caught.value.hint
