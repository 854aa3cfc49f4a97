"""A synthetic store of lineage, written in bulk: training runs that share datasets and codecs, and what their models made."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from governance.lineage import ArtifactRef, Event, StepIdentity, event_edges, run_event
from infra.database import Database
from infra.lineage import event_text

NUM_DATASETS = 50
NUM_CODECS = 10
GENERATIONS = 4
MEDIA = 8
EVENTS_OF_A_MODEL = 10 + GENERATIONS * 4

_TIME = "2026-11-01T00:00:00.000000Z"
_CONFIG = {f"parameter_{number}": number / 7 for number in range(30)}
_ENVIRONMENT = {"lock_digest": "c" * 64, "python": "3.11.7", "platform": "linux-x86_64", "accelerator": "none", "host": "m"}
_STEPS = {
    "validate_data": (("dataset",), ("validation",)),
    "encode_latents": (("dataset", "validation", "codec"), ("latents",)),
    "train_dit": (("latents",), ("model",)),
    "evaluate": (("model", "codec", "latents", "dataset"), ("evaluation",)),
    "register_model": (("model", "codec", "latents", "dataset", "validation", "evaluation"), ("package",)),
}
_INSERTS = {
    "events": "INSERT INTO gs_lineage_events (id, run_id, job, event_type, time, event) VALUES (?, ?, ?, ?, ?, ?)",
    "edges": "INSERT OR IGNORE INTO gs_lineage_edges (source, target, event_id) VALUES (?, ?, ?)",
    "runs": "INSERT INTO gs_runs (run_id, pipeline, status, runner, params, actor, started, ended) "
    "VALUES (?, ?, 'completed', 'subprocess', '{}', 'id-1', ?, ?)",
    "steps": "INSERT INTO gs_steps (run_id, step, status, fingerprint, started, ended, record) "
    "VALUES (?, ?, 'completed', ?, ?, ?, ?)",
    "artifacts": "INSERT OR IGNORE INTO gs_artifacts (digest, kind, location, facts, created) VALUES (?, ?, '', ?, ?)",
    "versions": "INSERT INTO gs_model_versions (name, version, root_digest, location, run_id, metrics, inputs, created) "
    "VALUES ('m', ?, ?, '', ?, '{}', '{}', ?)",
    "assets": "INSERT INTO gs_assets VALUES (?, ?, ?, 'm', ?, ?, '0', '', ?, ?, NULL, NULL, NULL, NULL)",
}


def digest(*parts: object) -> str:
    """Returns the digest of a made-up thing."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def run_id(number: int, generation: int | None = None) -> str:
    """Returns a run's id: of the training of a model, or of one of its generations."""
    text = digest("run", number, generation)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"


def write_store(path: Path, num_events: int) -> int:
    """Writes a store with about so many events, and returns the number of its models.

    Args:
        path: The SQLite file to make.
        num_events: How many events; one model has 26.
    """
    num_models = max(1, num_events // EVENTS_OF_A_MODEL)
    with Database.open(f"sqlite:///{path}") as database, database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA synchronous = OFF")
        event_id = 0
        for number in range(num_models):
            rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _INSERTS}
            for run, step, inputs, outputs in _work(number):
                event_id = _add_step(rows, event_id, run, step, inputs, outputs)
            rows["versions"].append((number + 1, digest("package", number), run_id(number), _TIME))
            for name, statement in _INSERTS.items():
                driver.executemany(statement, rows[name])
            if number % 500 == 0:
                driver.commit()
        driver.commit()
    return num_models


def _work(number: int) -> Iterator[tuple[tuple[str, str, int], str, list[ArtifactRef], list[ArtifactRef]]]:
    """Yields run, step, inputs and outputs of all that was done for one model."""
    shared = {"dataset": digest("dataset", number % NUM_DATASETS), "codec": digest("codec", number % NUM_CODECS)}

    def refs(kinds: tuple[str, ...]) -> list[ArtifactRef]:
        return [ArtifactRef(kind=kind, digest=shared.get(kind) or digest(kind, number)) for kind in kinds]

    for step, (inputs, outputs) in _STEPS.items():
        yield (run_id(number), "training", number), step, refs(inputs), refs(outputs)
    for generation in range(GENERATIONS):
        run = (run_id(number, generation), "generation", number)
        made = ArtifactRef(kind="media_set", digest=digest("set", number, generation))
        media = [ArtifactRef(kind="media", digest=digest("media", number, generation, place)) for place in range(MEDIA)]
        yield run, "generate_media", refs(("package",)), [made]
        yield run, "publish_media", [made], media


def _add_step(
    rows: dict[str, list[tuple[Any, ...]]],
    event_id: int,
    run: tuple[str, str, int],
    step: str,
    inputs: list[ArtifactRef],
    outputs: list[ArtifactRef],
) -> int:
    run_uuid, pipeline, number = run
    identity = StepIdentity(run_id=run_uuid, pipeline=pipeline, step=step)
    common = {"time": _TIME, "inputs": inputs, "config": _CONFIG, "environment": _ENVIRONMENT, "code_digest": "d" * 64}
    events: list[Event] = [run_event("START", identity, **common), run_event("COMPLETE", identity, outputs=outputs, **common)]  # type: ignore[arg-type]
    for event in events:
        event_id += 1
        rows["events"].append((event_id, run_uuid, identity.job, event["eventType"], _TIME, event_text(event)))
        rows["edges"] += [(edge.source, edge.target, event_id) for edge in event_edges(event)]
    if step in {"validate_data", "generate_media"}:
        rows["runs"].append((run_uuid, pipeline, _TIME, _TIME))
    record = json.dumps({"config": _CONFIG, "environment": _ENVIRONMENT, "code_digest": "d" * 64})
    rows["steps"].append((run_uuid, step, "f" * 64, _TIME, _TIME, record))
    rows["artifacts"] += [(ref.digest, ref.kind, '{"name": "synthetic"}', _TIME) for ref in (*inputs, *outputs)]
    if step == "publish_media":
        package = digest("package", number)
        rows["assets"] += [
            (ref.digest, run_uuid, place, number + 1, package, f"{place}.png", _TIME) for place, ref in enumerate(outputs)
        ]
    return event_id
