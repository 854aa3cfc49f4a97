"""Makes pictures and clips with a registered model, and records each of them, so that its file leads back to the data."""

import json
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.generate_media.formats import MediaFormat
from components.runtime import RunContext, run_step
from components.store import ArtifactRef, artifact_digest
from governance import lineage
from governance.canonical import canonical_text
from infra.content_keys import signing_keys
from infra.errors import BadSettingError
from infra.guardrails import Admission, Asked, admit
from infra.home import Home
from infra.ledger import sign_head
from infra.lineage import record_event
from infra.source_digest import lock_digest, source_digest
from infra.source_revision import source_revision
from model_core.device import DeviceName
from model_core.sampling.names import SamplerName
from pipelines.memorisation import MemorisationCheck, evaluation_of, record_check, require_checked
from pipelines.publishing import GeneratedFile, Publication, publish, record_files
from pipelines.recorded import OnView, recorded_run, shown

if TYPE_CHECKING:
    from pipelines.source_media import SourceMedia

PIPELINE = "generation"
STEP = "generate_media"


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What is asked for.

    Attributes:
        model: ``name@alias`` or ``name/version``.
        prompt: A text, or None.
        label: A category of the model, or None.
        num_images: How many pictures or clips.
        num_frames: Frames of each clip; the model's own number where it is not given.
        upscale: Times that they are enlarged along each side.
        media_format: What they are written as; PNG for pictures and MP4 for clips where it is not given.
        seed: The first sample's seed; the same seed gives the same pixels on the same machine.
        num_steps: Sampling steps; the model's own where it is not given.
        guidance_scale: Strength of guidance; the model's own where it is not given.
        sampler: How to go from noise to a picture; the model's own way where it is not given.
        batch_size: Pictures or clips at a time; the step's own number where it is not given.
        device: Where to compute: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        source: A picture or clip to make them from, or None.
        strength: Share of the path from noise to data that the source is taken back and forth: 0 returns what the codec makes of
            it, 1 keeps nothing of it.
        keep_frames: Which frames of the source, counted from 0, stay as they are.
        continue_frames: How many frames of the source's end are the beginning of what is made.
        num_passes: How often each step is taken where frames are kept; the step's own number where it is not given.
        options: What else is chosen of sampling, by the names of `SamplingOptions`; the model's own where one is not given.
        out: The folder for the files.
    """

    model: str
    prompt: str | None = None
    label: str | None = None
    num_images: int = 1
    num_frames: int | None = None
    upscale: int = 1
    media_format: MediaFormat | None = None
    seed: int = 0
    num_steps: int | None = None
    guidance_scale: float | None = None
    sampler: SamplerName | None = None
    batch_size: int | None = None
    device: DeviceName = "auto"
    source: Path | None = None
    strength: float | None = None
    keep_frames: tuple[int, ...] = ()
    continue_frames: int | None = None
    num_passes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    out: Path


@dataclass(frozen=True, kw_only=True)
class GenerateOutcome:
    """The pictures or clips of one request, and the run that made them.

    Attributes:
        run_id: The run.
        model_version: ``name/version``.
        files: What was handed out.
        grid: The overview of all of them.
        wall_s: Seconds that it took.
        memorisation: What was found of near-copies of training items.
        source_sha256: SHA-256 of what they were made from, if from a file.
    """

    run_id: str
    model_version: str
    files: tuple[GeneratedFile, ...]
    grid: Path
    wall_s: float
    memorisation: MemorisationCheck
    source_sha256: str | None = None


def generate(home: Home, request: GenerateRequest, *, actor: str, on_view: OnView = lambda _: None) -> GenerateOutcome:
    """Makes the pictures that a request asks for.

    Args:
        home: The home.
        request: What is asked for.
        actor: The identity that asks.
        on_view: Called about five times a second with how far it has come.

    Raises:
        IntegrityError: The model's package is not what was registered, or a file cannot be signed.
        RefusedError: The key that signs files was revoked.
        GuardrailError: The guardrails refuse it, which is on record then.
        BadPromptError: The prompt is empty, too long, or no text.
        BadSettingError: The request names neither prompt nor label nor a source.
        BadRecordError: The source is no picture or clip.
        BadDataError: The source is damaged, too large, or does not fit the model.
    """
    if request.prompt is None and request.label is None and request.source is None:
        raise BadSettingError("neither a prompt nor a label is given", hint="add --prompt TEXT or --label NAME")
    from infra.model_versions import find_version, open_version

    version = find_version(home.database, request.model)
    asked = Asked(
        prompt=request.prompt,
        label=request.label,
        num_images=request.num_images,
        num_frames=request.num_frames,
        upscale=request.upscale,
    )
    admission = admit(home.database, version, asked, actor=actor)
    opened = open_version(version, home.package_keys, home.package_cache)
    admission.require_size_of(opened.config)
    source = _read_source(request, opened.config)
    package, keys = opened.folder, signing_keys(home)
    began = time.time()
    config = {**_config(request), "watermark": home.settings.watermark, "memorisation": admission.policy.memorisation.samples}
    evaluation = evaluation_of(home, opened, admission)
    params = {STEP: config, "model": f"{version.name}/{version.version}", "guardrails": admission.policy.digest}
    inputs = [f"package:{version.root_digest}", *([source.subject] if source else [])]
    with recorded_run(home, pipeline=PIPELINE, runner="in-process", params=params, actor=actor, inputs=inputs) as run:
        folder = home.run_folder(run.run_id) / "request"
        try:
            _write_request(folder, request, source)
            digest = artifact_digest("request", folder)
            with shown(run, steps=(STEP,), on_view=on_view):
                media = run_step(run, STEP, config, {"package": package, "request": folder, **evaluation})["media"]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        require_checked(media.path, admission)
        made = publish(
            home,
            version,
            media.path,
            request.out,
            run_id=run.run_id,
            prefix=run.run_id[:8],
            keys=keys,
            ingredient=source.ingredient if source else None,
        )
        check = _record(run, version, media, made, request, admission, source=source, request_digest=digest)
    return GenerateOutcome(
        run_id=run.run_id,
        model_version=f"{version.name}/{version.version}",
        files=made.files,
        grid=request.out / f"{run.run_id[:8]}-grid.png",
        wall_s=time.time() - began,
        source_sha256=source.sha256 if source else None,
        memorisation=check,
    )


def _config(request: GenerateRequest) -> dict[str, Any]:
    given = {
        "num_images": request.num_images,
        "num_frames": request.num_frames,
        "upscale": request.upscale,
        "media_format": request.media_format,
        "seed": request.seed,
        "num_steps": request.num_steps,
        "guidance_scale": request.guidance_scale,
        "sampler": request.sampler,
        "batch_size": request.batch_size,
        "device": request.device,
        "strength": request.strength,
        "keep_frames": request.keep_frames or tuple(range(request.continue_frames or 0)) or None,
        "num_passes": request.num_passes,
        **request.options,
    }
    return {key: value for key, value in given.items() if value is not None}


def _read_source(request: GenerateRequest, config: Mapping[str, Any]) -> "SourceMedia | None":
    if request.source is None:
        return None
    from pipelines.source_media import read_source

    return read_source(request.source, config, num_frames=request.num_frames, num_last=request.continue_frames)


def _write_request(folder: Path, request: GenerateRequest, source: "SourceMedia | None") -> None:
    folder.mkdir(parents=True)
    content = {"prompt": request.prompt, "label": request.label, "source": source is not None}
    if source is not None:
        source.write_to(folder)
    (folder / "request.json").write_text(json.dumps(content), encoding="utf-8")
    # The salt keeps the request's digest, which lineage shows, from being guessed back to the prompt.
    (folder / "salt").write_text(secrets.token_hex(32), encoding="ascii")


def _record(
    run: RunContext,
    version: Any,
    media: ArtifactRef,
    made: Publication,
    request: GenerateRequest,
    admission: Admission,
    *,
    source: "SourceMedia | None",
    request_digest: str,
) -> MemorisationCheck:
    code: Mapping[str, Any] = {
        "environment": {"lock_digest": lock_digest()},
        "code_digest": source_digest("pipelines.generation"),
        "revision": source_revision(),
    }
    with run.home.database.unit_of_work() as uow:
        condition = uow.commit_to(canonical_text({"label": request.label, "prompt": request.prompt}))
        sha256 = source.sha256 if source else None
        record_files(uow, version, made, run_id=run.run_id, condition=condition, source_sha256=sha256, actor=run.actor)
        if source is not None:
            record_event(uow, source.event(uow, run_id=run.run_id, pipeline=PIPELINE, request=request_digest, **code))
        check = record_check(
            uow, run, media.path, made, admission=admission, root_digest=version.root_digest, condition=condition
        )
        event = lineage.run_event(
            "COMPLETE",
            lineage.StepIdentity(run_id=run.run_id, pipeline=PIPELINE, step="publish_media"),
            time=uow.time,
            inputs=[lineage.ArtifactRef(kind=media.kind, digest=media.digest)],
            outputs=[lineage.ArtifactRef(kind="media", digest=file.sha256) for file in made.files],
            **code,
        )
        record_event(uow, event)
        sign_head(uow, run.home.keys)  # so that a file can be verified as soon as it is on record
    return check
