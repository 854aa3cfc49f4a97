"""Random but sound histories of a home's records, each written by the code that writes them in earnest."""

import hashlib
import json
import random
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel
from sqlalchemy import insert, select

from components.generate_media.near_copies import FILE_NAME
from components.ports import StepReport
from components.recorder import Recorder
from components.specs import StepSpec
from components.step_context import StepContext, StepResult
from components.store import ArtifactRef
from governance.canonical import canonical_digest, canonical_text
from governance.errors import BadRecordError
from governance.identity import Role
from governance.lineage import StepIdentity, run_event
from governance.platform_keys import KeyState
from infra.attestations import sign_statement
from infra.database import Database
from infra.erasure import erase
from infra.identities import create_identity, initialise_home, list_identities, revoke_identity
from infra.key_rotation import revoke_key, rotate_package_key
from infra.keys import PACKAGE_KEY, Keys
from infra.ledger import sign_checkpoint
from infra.lineage_import import import_events
from infra.log_rotation import rotate_log_key
from infra.mlflow_registry import MlflowRegistry
from infra.platform_keys import key_history
from infra.run_records import begin_run, end_run
from infra.runs import StepError
from infra.tables import artifacts, attestations, commitments, withdrawals
from pipelines.generation import GenerateRequest, _record
from pipelines.publishing import GeneratedFile, Publication
from tests.foreign_events import AIRFLOW, dataset, foreign_event, write_lines

MIN_ACTS, MAX_ACTS = 8, 22


class Config(BaseModel):
    """A step's configuration."""

    rate: float
    words: tuple[str, ...]


class Story:
    """One home's records, as they come to be.

    Args:
        url: An empty database.
        keys: The home's keys.
        seed: What happens in it.
    """

    def __init__(self, url: str, keys: Keys, seed: int) -> None:
        self.random = random.Random(seed)
        self.keys = keys
        self.notes: list[str] = []
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self.database = Database.open(url, clock=self._clock, token_bytes=self.random.randbytes)
        self._home: Any = SimpleNamespace(database=self.database, keys=keys, settings=SimpleNamespace(images={}))
        self._running: list[str] = []
        self._packages: list[tuple[str, str]] = []
        self._versions: list[Any] = []
        self._datasets: list[str] = []

    def tell(self) -> Iterator[str]:
        """Has it happen, and yields what did, after each act."""
        self._admin = initialise_home(self.database, self.keys, admin_name="Ada").identity_id
        yield "home"
        for act in (self._dataset, self._import, self._run, self._step, self._register, self._media, self._checkpoint):
            act()
            yield act.__name__
        acts = self._acts()
        for act in self.random.choices(acts, k=self.random.randint(MIN_ACTS, MAX_ACTS)):
            act()
            yield act.__name__
        self._checkpoint()
        if self.random.random() < 0.5:
            self._dataset()

    def _acts(self) -> list[Callable[[], None]]:
        return [
            self._run, self._run, self._step, self._step, self._step, self._end, self._end, self._dataset, self._register,
            self._media, self._identity, self._revoke, self._attest, self._withdraw, self._erase, self._checkpoint, self._killed,
            self._import, self._rotate, self._revoke_key, self._rotate_log,
        ]  # fmt: skip

    def _clock(self) -> datetime:
        self._now += timedelta(microseconds=self.random.randint(1, 9_000_000))
        return self._now

    def _digest(self) -> str:
        return self.random.randbytes(32).hex()

    def _run(self) -> None:
        run_id = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        params = {"rate": self.random.random(), "steps": self.random.randint(1, 9000), "name": "café" * self.random.randint(0, 2)}
        begin_run(self._home, run_id=run_id, pipeline="training", runner="subprocess", params=params, actor=self._admin)
        self._running.append(run_id)

    def _end(self) -> None:
        if len(self._running) > 1:
            run_id = self._running.pop(0)
            status = self.random.choice(["completed", "completed", "failed", "interrupted"])
            error = None if status == "completed" else StepError(diagnosis="it broke", hint=self.random.choice(["", "mend it"]))
            end_run(self._home, run_id=run_id, status=status, error=error, wall_s=self.random.uniform(1, 99))

    def _step(self) -> None:
        recorder, context = self._begin_step()
        kind = self.random.choice(["completed", "completed", "completed", "reused", "failed", "interrupted"])
        output = ArtifactRef(kind=self.random.choice(["latents", "model", "package"]), digest=self._digest(), path=Path("/out"))
        report = StepReport(
            metrics={"loss": self.random.random(), "items": self.random.randint(0, 9)},
            facts={"width": self.random.randint(1, 64), "note": "naïve"},
            summary="done",
        )
        result = StepResult(context=context, report=report, outputs={"out": output}, work_s=self.random.uniform(0, 50))
        if kind == "completed":
            recorder.completed(result, mlflow_run_id=self.random.randbytes(16).hex())
            self._packages.append((output.kind, output.digest))
        elif kind == "reused":
            recorder.reused(result.record())
        else:
            recorder.failed(kind, StepError(diagnosis="no room", exit_code=6), {})

    def _killed(self) -> None:
        """A step of which nobody hears again."""
        self._begin_step()

    def _begin_step(self) -> tuple[Recorder, StepContext]:
        spec = StepSpec(name=f"step_{self.random.randint(0, 4)}", inputs={"data": "dataset"}, outputs={"out": "latents"})
        digest = self.random.choice(self._datasets)
        context = StepContext(
            home=self._home,
            run_id=self._running[-1],
            pipeline="training",
            actor=self._admin,
            spec=spec,
            config=Config(rate=self.random.random(), words=("sea", "wave")),
            inputs={"data": ArtifactRef(kind="dataset", digest=digest, path=Path("/data"))},
            code_digest=self._digest(),
            fingerprint=self._digest(),
            work=None,  # type: ignore[arg-type]
        )
        recorder = Recorder(context)
        recorder.started()
        return recorder, context

    def _dataset(self) -> None:
        digest, facts = (
            self._digest(),
            {"importer": "tests", "num_items": self.random.randint(1, 99), "share": self.random.random()},
        )
        with self.database.unit_of_work() as uow:
            row = {"digest": digest, "kind": "dataset", "location": "/data", "created": uow.time}
            uow.connection.execute(insert(artifacts).values(**row, facts=canonical_text(facts, floats=True)))
            details = {"num_items": facts["num_items"], "created": uow.time}
            details["facts_digest"] = canonical_digest(facts, floats=True)
            uow.append("dataset.imported", f"dataset:{digest}", details, actor=self._admin)
        self._datasets.append(digest)

    def _register(self) -> None:
        key = self.keys.private_path(PACKAGE_KEY)
        registry: Any = SimpleNamespace(_db=self.database, _actor=self._admin, _run_id=self._running[-1], _private_key_pem=key)
        version = SimpleNamespace(version=len(self._versions) + 1, location="/models", model_id=self.random.randbytes(8).hex())
        digest = self._digest()
        metrics = {"kid": self.random.random(), "items": 3.0}
        inputs = {"dataset": self.random.choice(self._datasets)}
        MlflowRegistry._record(registry, version, name="flags", root_digest=digest, metrics=metrics, inputs=inputs)
        self._versions.append(SimpleNamespace(name="flags", version=version.version, root_digest=digest))

    def _media(self) -> None:
        version = self.random.choice(self._versions)
        run: Any = SimpleNamespace(home=self._home, run_id=self._running[-1], actor=self._admin)
        files = [
            GeneratedFile(
                path=Path(f"/out/{n}.png"),
                sha256=self._digest(),
                seed=str(self.random.getrandbits(40)),
                pixels_sha256=self._digest(),
                fingerprint=f"{self.random.getrandbits(64):016x}",
                watermark_id=self.random.choice([None, f"{self.random.getrandbits(48):012x}"]),
            )
            for n in range(3)
        ]
        request = GenerateRequest(model="flags/1", prompt=f"a flag, nº {self.random.randint(0, 99)}", out=Path("/out"))
        admission: Any = SimpleNamespace(model="flags/1", policy=SimpleNamespace(digest=self._digest()))
        made, digest = Publication(files=tuple(files), promotions=()), self._digest()
        with tempfile.TemporaryDirectory() as folder:
            media = ArtifactRef(kind="media_set", digest=self._digest(), path=Path(folder))
            self._write_memorisation(media.path / FILE_NAME)
            _record(run, version, media, made, request, admission, source=None, request_digest=digest)

    def _write_memorisation(self, path: Path) -> None:
        """Writes what the check for near-copies of training items found, as the step does."""
        near = {"position": 3, "seed": self.random.getrandbits(40), "nearest_sha256": self._digest(), "distance": 0.25}
        withheld = self.random.random() < 0.5
        found = {"mode": "withhold", "state": "checked" if withheld else "unchecked", "reason": "", "num_compared": 9}
        path.write_text(json.dumps({**found, "num_in_training": 9, "near_copies": [near] if withheld else []}))

    def _identity(self) -> None:
        role = self.random.choice(list(Role))
        create_identity(self.database, self.keys, name=f"P{self.random.getrandbits(40)}", role=role, actor=self._admin)

    def _revoke(self) -> None:
        others = [one for one in list_identities(self.database) if one.is_active and one.identity_id != self._admin]
        if others:
            revoke_identity(self.database, identity_id=others[0].identity_id, actor=self._admin)

    def _attest(self) -> None:
        statement = {"about": self.random.randbytes(30).hex()}
        envelope = sign_statement(statement, self.keys.private_path(PACKAGE_KEY))
        digest = hashlib.sha256(envelope.encode()).hexdigest()
        with self.database.unit_of_work() as uow:
            values = {"kind": "approval", "subject": "package:x", "signer": PACKAGE_KEY, "created": uow.time}
            uow.connection.execute(insert(attestations).values(digest=digest, envelope=envelope, run_id=None, **values))
            uow.append("attestation.signed", f"attestation:{digest}", values, actor=self._admin)

    def _import(self) -> None:
        """Events of another producer, one of which names a dataset of ours and one a step of ours."""
        ours = dataset(f"dataset:{self.random.choice(self._datasets)}", "groundswell")
        events = [
            foreign_event(self.random.getrandbits(60), inputs=[ours], outputs=[dataset("tiles")]),
            foreign_event(self.random.getrandbits(60), inputs=[dataset("tiles")], producer=AIRFLOW, eventType="RUNNING"),
        ]
        if self._running:
            step = StepIdentity(run_id=self._running[-1], pipeline="training", step="step_1")
            events.append(run_event("START", step, time="2026-01-01T00:00:00Z", inputs=[]) | {"inputs": [dataset("tiles")]})
        with tempfile.TemporaryDirectory() as folder:
            file = write_lines(Path(folder) / "events", events)
            with suppress(BadRecordError):  # the step was told to have begun before
                import_events(self.database, file, actor=self._admin)

    def _rotate(self) -> None:
        rotate_package_key(self.database, self.keys, actor=self._admin)

    def _rotate_log(self) -> None:
        self.notes.append(rotate_log_key(self.database, self.keys, actor=self._admin).note)

    def _revoke_key(self) -> None:
        """Revokes a retired package-signing key, so that the current one goes on signing."""
        with self.database.read() as connection:
            retired = [key for key in key_history(connection, PACKAGE_KEY).keys if key.state is KeyState.RETIRED]
        if retired:
            digits = self.random.choice(retired).fingerprint
            revoke_key(self.database, self.keys, digits=digits, reason="it was lost", actor=self._admin)

    def _withdraw(self) -> None:
        dataset, items = self.random.choice(self._datasets), [self._digest() for _ in range(self.random.randint(1, 3))]
        with self.database.unit_of_work() as uow:
            details = {"reason_commitment": uow.commit_to("the author asked"), "created": uow.time}
            for item in items:
                uow.connection.execute(insert(withdrawals).values(dataset=dataset, item=item, actor=self._admin, **details))
            uow.append("dataset.withdrawn", f"dataset:{dataset}", {**details, "items": items}, actor=self._admin)

    def _erase(self) -> None:
        with self.database.read() as connection:
            kept = sorted(connection.execute(select(commitments.c.commitment)).scalars())
        erase(self.database, [self.random.choice(kept)], reason="a request", actor=self._admin)

    def _checkpoint(self) -> None:
        self.notes.append(sign_checkpoint(self.database, self.keys))
