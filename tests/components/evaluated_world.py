"""A small dataset and a stand-in for a model, which an evaluation judges."""

import hashlib
import io
import json
import shutil
import sys
import types
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from components.evaluate.config import Config
from components.evaluate.step import run
from components.ports import Ports
from governance.digest import tree_digest
from model_core.data.dataset import Dataset, DatasetInfo
from model_core.data.manifest import Row, write_manifest
from model_core.evaluation.features import convert_weights

SIZE = 16
CODEC_DIGEST = "c" * 64
CONFIG = Config(num_samples=8, batch_size=4, feature_size=32, num_resamples=100)


class Recorder:
    def __init__(self):
        self.metrics, self.descriptions, self.gauges = {}, [], {}

    def log_metrics(self, metrics, *, step=None):
        self.metrics |= metrics

    def gauge(self, name, value, **labels):
        self.gauges[name] = value

    def update(self, completed, total, description="", **fields):
        assert 0 <= completed <= total
        self.descriptions.append(description)


def picture(label, number):
    pixels = np.full((SIZE, SIZE, 3), 255, np.uint8)
    generator = np.random.default_rng(number)
    low = generator.integers(1, 6)
    pixels[low : low + 8, 3:13] = (220, generator.integers(0, 80), 20) if label == "hot" else (20, generator.integers(0, 80), 220)
    return pixels


def make_dataset(folder, *, labels=("cold", "hot"), num_train=16, num_holdout=6, first=0):
    (folder / "shards").mkdir(parents=True)
    shard, rows = b"", []
    for number in range(first, first + num_train + num_holdout):
        label = labels[number % len(labels)]
        buffer = io.BytesIO()
        Image.fromarray(picture(label, number)).save(buffer, "PNG")
        data = buffer.getvalue()
        rows.append(
            Row(
                shard="shards/all-00000.tar",
                path=f"{number}.png",
                offset=len(shard),
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                width=SIZE,
                height=SIZE,
                label=label,
                caption=f"<b>{label} {number}</b>",
                split="train" if number < first + num_train else "holdout",
                licence="CC0-1.0",
                source="test",
            )
        )
        shard += data
    (folder / "shards" / "all-00000.tar").write_bytes(shard)
    write_manifest(rows, folder / "manifest.parquet")
    info = DatasetInfo(
        name="tiny", importer="test", options={}, labels=labels, licences=("CC0-1.0",), attribution="nobody", image_size=SIZE
    )
    (folder / "dataset.json").write_text(json.dumps(info.model_dump(mode="json")))


def make_model(root, *, dataset_digest):
    common = {"dataset_digest": dataset_digest, "codec_digest": CODEC_DIGEST}
    model = {**common, "objective": "rectified_flow", "sampling": {"num_steps": 3, "guidance_scale": 2.0}}
    for name, content in (("model", model), ("latents", common), ("codec", {})):
        (root / name).mkdir(exist_ok=True)
        (root / name / "config.json").write_text(json.dumps(content))
    digests = Dataset.open(root / "dataset").columns["sha256"]
    pq.write_table(pa.table({"sha256": digests}), root / "latents" / "index.parquet")


class StandIn:
    """In the place of latents and transformer: draws what is asked for, and counts the calls."""

    def __init__(self, dataset_folder):
        self.devices = []
        self.calls, self.draw = [], lambda label, seed: picture("cold" if label == 0 else "hot", 1000 + seed)
        self.dataset_folder, self.text_dim = dataset_folder, 4
        outer = self

        class LatentDataset:
            has_caption_tokens = False

            def __init__(self):
                self.dataset = Dataset.open(outer.dataset_folder)

            @classmethod
            def open(cls, folder):
                return cls()

            def rows(self, split):
                return self.dataset.rows(split)

            def label_indices(self, rows):
                return torch.tensor([self.dataset.labels.index(self.dataset.columns["label"][row]) for row in rows])

            def caption_embeddings(self, rows):
                return torch.zeros(len(rows), 4)

        self.LatentDataset = LatentDataset

    def load_transformer(self, folder):
        model = torch.nn.Module()
        model.config = types.SimpleNamespace(text_dim=self.text_dim, reads_text_states=False)
        known = types.SimpleNamespace(labels=list(Dataset.open(self.dataset_folder).labels))
        return model, types.SimpleNamespace(conditioning=known)

    def load_codec(self, folder):
        return torch.nn.Module()

    def generate_clips(
        self,
        transformer,
        model_config,
        codec,
        *,
        labels,
        text,
        text_mask,
        text_states,
        text_states_mask,
        seeds,
        num_steps,
        guidance_scale,
        sampler,
        batch_size,
        device,
        **options,
    ):
        assert len(labels) == len(seeds) <= batch_size
        self.devices.append(device)
        assert (text is None) == (text_mask is None) == (self.text_dim == 0)
        assert text_states is text_states_mask is None
        self.calls.append((tuple(seeds), num_steps, guidance_scale))
        self.options = options
        return np.stack([self.draw(label, seed) for label, seed in zip(labels, seeds, strict=True)])[:, None]


def evaluation_weights(tmp_path_factory):
    """Returns the feature extractor's weights, converted once; for a fixture of a module."""
    return convert_weights(tmp_path_factory.mktemp("weights"))


class World:
    def __init__(self, root, weights):
        self.root, self.recorder = root, Recorder()
        make_dataset(root / "dataset")
        make_model(root, dataset_digest=tree_digest(root / "dataset"))
        self.stand_in = StandIn(root / "dataset")
        self.scratch, self.cache = root / "scratch", root / "cache"
        (self.cache / "weights").mkdir(parents=True)
        shutil.copy(weights, self.cache / "weights" / weights.name)

    def redo_dataset(self, **options):
        shutil.rmtree(self.root / "dataset")
        make_dataset(self.root / "dataset", **options)
        make_model(self.root, dataset_digest=tree_digest(self.root / "dataset"))

    def references(self):
        return sorted((self.cache / "references").iterdir())

    def forget_samples(self):
        """Leaves what another run of the same home would find."""
        shutil.rmtree(self.scratch)

    def run(self, config=CONFIG, *, output="evaluation", cached=True):
        (self.root / output).mkdir()
        self.scratch.mkdir(exist_ok=True)
        inputs = {name: self.root / name for name in ("model", "codec", "latents", "dataset")}
        ports = Ports(tracking=self.recorder, progress=self.recorder, metrics=self.recorder, scratch=self.scratch)
        ports = replace(ports, cache=self.cache) if cached else ports
        return run(config, inputs, {"evaluation": self.root / output}, ports)


def evaluated_world(tmp_path, weights, monkeypatch):
    """Returns a dataset and a model that paints by label, where the step finds them; for a fixture."""
    world = World(tmp_path, weights)
    for name, attributes in (
        ("model_core.data.latents", ("LatentDataset",)),
        ("model_core.sampling.generate", ("generate_clips", "load_transformer")),
        ("model_core.codec.io", ("load_codec",)),
    ):
        module = types.ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, getattr(world.stand_in, attribute))
        monkeypatch.setitem(sys.modules, name, module)
    return world
