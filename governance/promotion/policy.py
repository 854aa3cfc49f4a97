"""What an environment asks of a model version: a policy, written as YAML and checked before it counts.

A policy's digest is that of its canonical JSON, so that comments and layout are free. Its examples say what it lets through and
what it refuses, and `groundswell policy test` holds it to them.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from governance.canonical import canonical_digest, canonical_text
from governance.errors import BadRecordError
from governance.identity import Role
from governance.promotion.state import Needed
from governance.strict_yaml import load_mapping, one_line

FORMAT = "groundswell-policy/1"
MAX_BYTES = 64 << 10
_HINT = "docs/PROMOTION.md describes policies; `groundswell policy show production` prints one"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Metric = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,127}$")]
Days = Annotated[int, Field(ge=1, le=3650)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Threshold(_Part):
    """A bound on a metric.

    Attributes:
        metric: Its name in the evaluation report.
        min: The least that is let through.
        max: The most that is let through.
    """

    metric: Metric
    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> "Threshold":
        if self.min is None and self.max is None:
            raise ValueError("a threshold needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self


class NonInferiority(_Part):
    """That a candidate is not worse than the champion by more than a margin, with confidence.

    Attributes:
        metric: Its name in the evaluation report.
        better: Whether lower or higher is better.
        margin: How much worse is let through, in the metric's unit.
        confidence: The one-sided confidence of the bound that must be within the margin.
    """

    metric: Metric
    better: Literal["lower", "higher"]
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Memorisation(_Part):
    """A bound on how many samples are too near to a training picture.

    Attributes:
        max_share: The largest share of samples.
        max_above_real: The most that share may be above that of real held-out pictures.
    """

    max_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    max_above_real: Annotated[float, Field(ge=0, le=1)] = 1.0


class Gates(_Part):
    """What must hold, judged when a version is requested.

    Attributes:
        thresholds: Bounds on metrics.
        non_inferiority: Comparisons with the champion; each passes where there is none.
        memorisation: The bound on memorisation; None for none.
        licences: The licences, SPDX identifiers, that data may have; None for any, an unknown one too.
        evidence_max_age_days: How old the evaluation may be; None for any age.
        validation_passed: Whether the data's validation must be on record.
        lineage_complete: Whether nothing about the lineage may be unknown.
        nothing_withdrawn: Whether no withdrawn item may be behind the model.
    """

    thresholds: tuple[Threshold, ...] = ()
    non_inferiority: tuple[NonInferiority, ...] = ()
    memorisation: Memorisation | None = None
    licences: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | None = None
    evidence_max_age_days: Days | None = None
    validation_passed: bool = True
    lineage_complete: bool = True
    nothing_withdrawn: bool = True


class Approvals(_Part):
    """Who has to approve.

    Attributes:
        count: How many different people, none of them the requester or the trainer.
        roles: The roles that approve.
        at_least: How many of them must have a role.
    """

    count: Annotated[int, Field(ge=1, le=20)]
    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = (Role.OPS, Role.ADMIN)
    at_least: dict[Role, Annotated[int, Field(ge=0, le=20)]] = {}

    @model_validator(mode="after")
    def _check(self) -> "Approvals":
        if unknown := set(self.at_least) - set(self.roles):
            raise ValueError(f"at_least names {', '.join(sorted(unknown))}, which is not among the roles")
        if sum(self.at_least.values()) > self.count:
            raise ValueError("at_least asks for more people than count")
        return self

    @property
    def needed(self) -> Needed:
        """The same, as the rules take it."""
        return Needed(count=self.count, roles=frozenset(self.roles), at_least=dict(self.at_least))


class ExampleCandidate(_Part):
    """A made-up candidate of an example; what is left out is as it should be."""

    metrics: dict[Metric, Number] = {}
    differences: dict[Metric, tuple[Number, Number, Number]] = {}
    licences: tuple[str, ...] | None = None
    age_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    validation_recorded: bool = True
    open_questions: tuple[str, ...] = ()
    withdrawn_items: Annotated[int, Field(ge=0)] = 0


class Example(_Part):
    """What a policy makes of a candidate.

    Attributes:
        name: What the example shows.
        candidate: The candidate. ``differences`` are difference to the champion, and the ends of its interval.
        champion: The champion's metrics; None where there is no champion.
        refused_by: Names of the gates that refuse; none where it passes.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    candidate: ExampleCandidate
    champion: dict[Metric, Number] | None = None
    refused_by: tuple[str, ...] = ()


class Policy(_Part):
    """A policy of one environment.

    Attributes:
        policy: The format.
        name: What it is called.
        environment: The environment, which is MLflow's alias.
        valid_until: The last day on which it counts, UTC; None for no end.
        request_valid_days: How long a request may be approved and applied.
        champion_valid_days: After how long a champion is to be validated again.
        application: Whether the last approval applies (``automatic``), or somebody does later (``manual``).
        approvals: Who has to approve.
        gates: What must hold.
        examples: What it lets through and what not.
    """

    policy: Literal["groundswell-policy/1"]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    environment: Name
    valid_until: date | None = None
    request_valid_days: Days = 7
    champion_valid_days: Days = 180
    application: Literal["automatic", "manual"] = "automatic"
    approvals: Approvals
    gates: Gates
    examples: tuple[Example, ...] = ()

    @property
    def document(self) -> str:
        """Its canonical JSON, of which the digest is taken."""
        return canonical_text(self.model_dump(mode="json"), floats=True)

    @property
    def digest(self) -> str:
        """SHA-256 of the document."""
        return canonical_digest(self.model_dump(mode="json"), floats=True)

    def counts_at(self, now: str) -> bool:
        """Says whether it counts at a time, RFC 3339 UTC."""
        return self.valid_until is None or now[:10] <= self.valid_until.isoformat()


def parse_policy(text: str) -> Policy:
    """Parses a policy.

    Args:
        text: YAML, or its canonical JSON, which is YAML too.

    Raises:
        BadRecordError: It is too long, no YAML, or no policy, naming the place.
    """
    value = load_mapping(text, noun="a policy", max_bytes=MAX_BYTES, hint=_HINT)
    try:
        return Policy.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the policy"
        raise BadRecordError(f"{place}: {one_line(first['msg'])}", hint=_HINT) from error
