"""The gates of a policy, judged on what is on record. A result keeps the values that it saw; what is unknown does not pass."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from governance.canonical import canonical_digest, canonical_text
from governance.ledger import format_time
from governance.promotion.policy import Example, Gates, Memorisation, NonInferiority, Policy, Threshold

FORMAT = "groundswell-gates/1"
_SECONDS_A_DAY = 86_400
_MEMORISED, _MEMORISED_REAL = "memorised_share", "memorised_share_real"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How a metric of a candidate differs from the champion's on the same holdout.

    Attributes:
        candidate: The candidate's value.
        champion: The champion's value.
        difference: Candidate less champion.
        low: Lower end of its interval.
        high: Upper end of its interval.
        problem: Why they cannot be compared; empty where they can.
    """

    candidate: float | None = None
    champion: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is on record about a candidate.

    Attributes:
        metrics: Its evaluation's metrics.
        differences: Its differences to the champion, by metric; None where there is no champion.
        licences: Licences of its data; None where they are unknown.
        age_s: How old its evaluation is, in seconds; None where that is unknown.
        validation: What is on record of its data's validation; None where nothing is.
        open_questions: What is unknown about its lineage.
        withdrawn_items: How many items of its data were withdrawn.
        package: What the verification of its package saw.
    """

    metrics: Mapping[str, float]
    differences: Mapping[str, Difference] | None = None
    licences: tuple[str, ...] | None = None
    age_s: float | None = None
    validation: Mapping[str, Any] | None = None
    open_questions: tuple[str, ...] = ()
    withdrawn_items: int = 0
    package: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What a gate found.

    Attributes:
        gate: Its name, such as ``threshold.kid``.
        passed: Whether it lets the candidate through.
        message: The same in words.
        saw: The values that it saw.
    """

    gate: str
    passed: bool
    message: str
    saw: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns the form that is stored."""
        return {"gate": self.gate, "passed": self.passed, "message": self.message, "saw": dict(self.saw)}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The gate results of one request: the document that approvals are bound to.

    Attributes:
        results: What each gate found.
        about: What was judged: model, version, package, environment, champion, policy, and when.
    """

    results: tuple[GateResult, ...]
    about: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every gate lets the candidate through."""
        return all(result.passed for result in self.results)

    @property
    def refusing(self) -> tuple[GateResult, ...]:
        """The gates that do not."""
        return tuple(result for result in self.results if not result.passed)

    @property
    def document(self) -> str:
        """Its canonical JSON."""
        return canonical_text(self.to_value(), floats=True)

    @property
    def root(self) -> str:
        """The evidence root: SHA-256 of the document."""
        return canonical_digest(self.to_value(), floats=True)

    def to_value(self) -> dict[str, Any]:
        """Returns the document."""
        return {"format": FORMAT, **self.about, "gates": [result.to_dict() for result in self.results]}


def judge(gates: Gates, evidence: Evidence) -> tuple[GateResult, ...]:
    """Returns what each gate of a policy finds."""
    return tuple(_judge(gates, evidence))


def run_example(policy: Policy, example: Example) -> tuple[str, ...]:
    """Returns the names of the gates that refuse an example's candidate."""
    candidate, champion = example.candidate, example.champion
    differences = None
    if champion is not None:
        differences = {
            metric: Difference(
                candidate=candidate.metrics.get(metric), champion=champion.get(metric), difference=middle, low=low, high=high
            )
            for metric, (middle, low, high) in candidate.differences.items()
        }
    allowed = policy.gates.licences
    evidence = Evidence(
        metrics=candidate.metrics,
        differences=differences,
        licences=candidate.licences if candidate.licences is not None else (allowed or ()),
        age_s=candidate.age_days * _SECONDS_A_DAY,
        validation={"recorded": True} if candidate.validation_recorded else None,
        open_questions=candidate.open_questions,
        withdrawn_items=candidate.withdrawn_items,
    )
    return tuple(result.gate for result in judge(policy.gates, evidence) if not result.passed)


def judged_about(
    *,
    name: str,
    version: int,
    root_digest: str,
    environment: str,
    policy_digest: str,
    champion: Mapping[str, Any] | None,
    judged: datetime,
) -> dict[str, Any]:
    """Returns what a judgement is about, see `Judgement`."""
    return {
        "model": name,
        "version": version,
        "root_digest": root_digest,
        "environment": environment,
        "policy_digest": policy_digest,
        "expected_champion": dict(champion) if champion else None,
        "judged": format_time(judged),
    }


def _judge(gates: Gates, evidence: Evidence) -> Iterator[GateResult]:
    yield GateResult(
        gate="package", passed=True, message="every digest and the signature of the package hold", saw=dict(evidence.package)
    )
    if gates.validation_passed:
        yield _validation(evidence)
    if gates.lineage_complete:
        yield _lineage(evidence)
    if gates.nothing_withdrawn:
        count = evidence.withdrawn_items
        message = f"{count:,} items of its data were withdrawn" if count else "nothing behind it was withdrawn"
        yield GateResult(gate="withdrawn", passed=not count, message=message, saw={"withdrawn_items": count})
    if gates.licences is not None:
        yield _licences(gates.licences, evidence)
    if gates.evidence_max_age_days is not None:
        yield _age(gates.evidence_max_age_days, evidence)
    if gates.memorisation is not None:
        yield _memorisation(gates.memorisation, evidence)
    yield from (_threshold(threshold, evidence) for threshold in gates.thresholds)
    yield from (_non_inferior(rule, evidence) for rule in gates.non_inferiority)


def _validation(evidence: Evidence) -> GateResult:
    known = evidence.validation
    message = "its data passed validation" if known is not None else "the validation of its data is not on record"
    return GateResult(gate="validation", passed=known is not None, message=message, saw=dict(known or {}))


def _lineage(evidence: Evidence) -> GateResult:
    questions = evidence.open_questions
    message = f"its lineage leaves {len(questions)} questions open: {questions[0]}" if questions else "its lineage is complete"
    return GateResult(gate="lineage", passed=not questions, message=message, saw={"open_questions": list(questions)})


def _licences(allowed: tuple[str, ...], evidence: Evidence) -> GateResult:
    found = evidence.licences
    others = sorted(set(found or ()) - set(allowed))
    if found is None:
        message = "the licences of its data are not on record"
    elif others:
        message = f"its data have licences that the policy does not name: {', '.join(others)}"
    else:
        message = "the policy names every licence of its data"
    saw = {"licences": sorted(found) if found is not None else None, "allowed": sorted(allowed)}
    return GateResult(gate="licences", passed=found is not None and not others, message=message, saw=saw)


def _age(days: int, evidence: Evidence) -> GateResult:
    age = evidence.age_s / _SECONDS_A_DAY if evidence.age_s is not None else None
    passed = age is not None and age <= days
    message = f"its evaluation is {age:.1f} days old, {days} are let through" if age is not None else "its evaluation has no date"
    return GateResult(
        gate="age", passed=passed, message=message, saw={"age_days": round(age, 3) if age is not None else None, "max_days": days}
    )


def _memorisation(bound: Memorisation, evidence: Evidence) -> GateResult:
    share, real = (evidence.metrics.get(name) for name in (_MEMORISED, _MEMORISED_REAL))
    saw: dict[str, Any] = {_MEMORISED: share, _MEMORISED_REAL: real, **bound.model_dump()}
    if share is None or (real is None and bound.max_above_real < 1):
        return GateResult(gate="memorisation", passed=False, message="its memorisation was not measured", saw=saw)
    passed = share <= bound.max_share and (real is None or share - real <= bound.max_above_real)
    beside = f", {real:.1%} of real held-out pictures are" if real is not None else ""
    message = f"{share:.1%} of its samples are too near to a training picture{beside}"
    return GateResult(gate="memorisation", passed=passed, message=message, saw=saw)


def _threshold(bound: Threshold, evidence: Evidence) -> GateResult:
    value = evidence.metrics.get(bound.metric)
    wanted = " and ".join(
        f"{word} {limit:g}" for word, limit in (("at least", bound.min), ("at most", bound.max)) if limit is not None
    )
    passed = value is not None and (bound.min is None or value >= bound.min) and (bound.max is None or value <= bound.max)
    message = (
        f"{bound.metric} is {value:.4g}, {wanted} is let through" if value is not None else f"{bound.metric} was not measured"
    )
    return GateResult(
        gate=f"threshold.{bound.metric}", passed=passed, message=message, saw={"value": value, "min": bound.min, "max": bound.max}
    )


def _non_inferior(rule: NonInferiority, evidence: Evidence) -> GateResult:
    gate = f"non-inferior.{rule.metric}"
    saw: dict[str, Any] = {"margin": rule.margin, "better": rule.better, "confidence": rule.confidence}
    if evidence.differences is None:
        return GateResult(gate=gate, passed=True, message="there is no champion to compare it with", saw=saw | {"champion": None})
    found = evidence.differences.get(rule.metric, Difference(problem=f"{rule.metric} was not compared with the champion's"))
    saw |= {name: getattr(found, name) for name in ("candidate", "champion", "difference", "low", "high")}
    if found.problem or found.low is None or found.high is None or found.difference is None:
        return GateResult(gate=gate, passed=False, message=found.problem or f"{rule.metric} has no interval", saw=saw)
    worst = found.high if rule.better == "lower" else -found.low
    passed = worst <= rule.margin
    message = (
        f"{rule.metric} differs from the champion's by {found.difference:+.4g} ({found.low:+.4g} to {found.high:+.4g}); "
        f"{rule.better} is better, and {rule.margin:g} worse is let through"
    )
    return GateResult(gate=gate, passed=passed, message=message, saw=saw)
