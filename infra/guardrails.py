"""Guardrails of what is generated: the policy on record, and the one place where a request is held to it.

The policy is kept where the policies of environments are, under a name that none of them can have. What is refused is an entry of
the ledger before its error is told; the prompt is beside the ledger, where it can be erased.

How much was made within an hour is counted before a request is let through, and what it makes is recorded at its end: requests at
the same time do not see each other, so that together they can exceed a limit by what each may ask for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from governance.canonical import canonical_text
from governance.errors import IntegrityError, UnknownSubjectError
from governance.identity import Role
from governance.ledger import format_time
from governance.promotion.state import check_actor
from infra.database import Database
from infra.identities import get_identity
from infra.promotion.policies import GUARDRAILS, environments, newest, record_document
from infra.promotion.policies import history as policy_history
from infra.tables import assets, champions, runs

if TYPE_CHECKING:
    from governance.guardrails.policy import Guardrails  # takes its time to be imported
    from infra.model_versions import ModelVersion

ACTION = "generation.refused"
SUBJECT = f"policy:{GUARDRAILS}"
_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked for, as far as guardrails are concerned.

    Attributes:
        prompt: A text, or None.
        label: A category of the model, or None.
        num_images: How many pictures or clips.
        num_frames: Frames of each; None for the model's own number.
        upscale: Times that the model's pixels are enlarged along each side.
    """

    prompt: str | None
    label: str | None
    num_images: int
    num_frames: int | None
    upscale: int = 1


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A request that is held to a policy.

    Attributes:
        database: The database.
        policy: The policy that it was held to.
        asked: What was asked for.
        model: ``name/version``.
        actor: Who asked.
    """

    database: Database
    policy: "Guardrails"
    asked: Asked
    model: str
    actor: str

    def require_size_of(self, config: Mapping[str, Any]) -> None:
        """Checks the size of what a model makes, by its configuration: of pictures, and of clips whose length nobody has said.

        Raises:
            GuardrailError: They are larger or longer than the policy lets through.
        """
        from governance.guardrails import judging
        from governance.model_records import frames_of

        frames = self.asked.num_frames or frames_of(config)
        with self._refusals_recorded():
            judging.require_pixels(self.policy, (int(config.get("image_size", 0)) * self.asked.upscale) ** 2)
            judging.require_size(self.policy, judging.Size(num_images=self.asked.num_images, num_frames=frames))

    def require_check(self, *, unchecked: str) -> None:
        """Checks that samples can be held against the model's training items, as far as the policy asks for that.

        Args:
            unchecked: Why they cannot; "" where they can.

        Raises:
            GuardrailError: The policy refuses what cannot be checked.
        """
        from governance.guardrails import judging

        with self._refusals_recorded():
            judging.require_check(self.policy, unchecked=unchecked)

    @contextmanager
    def _refusals_recorded(self) -> Iterator[None]:
        from governance.guardrails.judging import GuardrailError

        try:
            yield
        except GuardrailError as error:
            with self.database.unit_of_work() as uow:
                request = canonical_text({"label": self.asked.label, "prompt": self.asked.prompt})
                details = {
                    "rule": error.rule,
                    "category": error.category,
                    "policy_digest": self.policy.digest,
                    "model": self.model,
                    "condition_commitment": uow.commit_to(request),
                }
                uow.append(ACTION, SUBJECT, details, actor=self.actor)
            raise

    def require_allowed(self) -> None:
        """Checks everything but the size of pictures.

        Raises:
            GuardrailError: The policy refuses it.
            BadPromptError: The prompt is empty, too long, or no text.
        """
        from governance.guardrails import judging

        asked, policy = self.asked, self.policy
        texts = {noun: text for noun, text in (("prompt", asked.prompt), ("label", asked.label)) if text is not None}
        for noun, text in texts.items():
            judging.require_text(policy, text, noun=noun)
        size = judging.Size(num_images=asked.num_images, num_frames=asked.num_frames or 1)
        in_all = by_identity = 0
        with self.database.read() as connection:
            name, _, version = self.model.rpartition("/")
            champion_of = _champion_of(connection, name, int(version))
            if policy.limits.max_images_per_hour.is_limited:
                in_all, by_identity = _made_since(connection, format_time(self.database.now() - _WINDOW), self.actor)
        with self._refusals_recorded():
            for text in texts.values():
                judging.require_allowed(policy, text)
            judging.require_size(policy, size)
            judging.require_model(policy, self.model, champion_of)
            judging.require_rate(policy, size, by_identity=by_identity, in_all=in_all)


def admit(database: Database, version: "ModelVersion", asked: Asked, *, actor: str) -> Admission:
    """Holds a request to the policy that counts, before anything is opened or made for it.

    Args:
        database: The database.
        version: The model that it names.
        asked: What is asked for.
        actor: Who asks.

    Raises:
        GuardrailError: The policy refuses it, which is on record then.
        BadPromptError: The prompt is empty, too long, or no text.
        IntegrityError: The policy on record is not the one of its digest.
    """
    with database.read() as connection:
        policy = current_guardrails(connection)
    model = f"{version.name}/{version.version}"
    admission = Admission(database=database, policy=policy, asked=asked, model=model, actor=actor)
    admission.require_allowed()
    return admission


def current_guardrails(connection: Connection) -> "Guardrails":
    """Returns the policy that counts: the newest on record, otherwise the one that groundswell ships.

    Raises:
        IntegrityError: What is on record is not the policy of its digest.
    """
    from governance.guardrails.policy import parse_document, shipped_guardrails

    found = newest(connection, GUARDRAILS)
    if found is None:
        return shipped_guardrails()
    digest, document = found
    policy = parse_document(document)
    if policy.digest != digest or policy.document != document:
        raise IntegrityError("the guardrails on record are not those of their digest", hint="`groundswell audit verify`")
    return policy


def history(connection: Connection) -> Iterator[tuple[int, str, str, str]]:
    """Yields number, digest, actor and time of the policies that were set, oldest first."""
    yield from policy_history(connection, GUARDRAILS)


def set_guardrails(database: Database, policy: "Guardrails", *, actor: str) -> int:
    """Makes a policy the one that counts, and returns its number; the one that counts already stays.

    Raises:
        RuleError: The actor is no admin.
        UnknownSubjectError: The policy asks for champions of an environment that there is not.
    """
    with database.unit_of_work() as uow:
        check_actor(get_identity(uow.connection, actor), {Role.ADMIN}, "set the guardrails")
        if policy.models != "any" and (missing := {*policy.models.champions_of} - {*environments(uow.connection)}):
            raise UnknownSubjectError(f"there is no environment {min(missing)}", hint="`groundswell policy list` shows them")
        return record_document(uow, GUARDRAILS, policy.document, policy.digest, actor=actor)


def _champion_of(connection: Connection, name: str, version: int) -> list[str]:
    columns = champions.c
    return list(connection.execute(select(columns.environment).where(columns.name == name, columns.version == version)).scalars())


def _made_since(connection: Connection, since: str, actor: str) -> tuple[int, int]:
    """Returns how many pictures were made since a time, by all and by one identity."""
    made = select(func.count()).select_from(assets.join(runs, runs.c.run_id == assets.c.run_id)).where(assets.c.created >= since)
    in_all, by_identity = (connection.execute(query).scalar_one() for query in (made, made.where(runs.c.actor == actor)))
    return int(in_all), int(by_identity)
