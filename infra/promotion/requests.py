"""Asks for a model version to be promoted: gates it, and records what came of it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.canonical import canonical_digest
from governance.errors import RefusedError
from governance.ledger import format_time
from governance.promotion.gates import Judgement, judge, judged_about
from governance.promotion.policy import Policy
from governance.promotion.state import REQUESTERS, Champion, Promotion, RuleError, State, check_actor, check_champion
from infra.database import UnitOfWork
from infra.home import Home
from infra.identities import get_identity
from infra.model_package import ModelPackage
from infra.model_versions import ModelVersion, find_version, open_version
from infra.promotion.evidence import gather_evidence, trainers_of
from infra.promotion.guards import install_guards
from infra.promotion.outbox import post
from infra.promotion.policies import current_policy, record_policy
from infra.promotion.records import champion_of, find_promotions, insert_promotion, row_values
from infra.promotion.refusals import recorded

Progress = Callable[[int, int, str], None]
_ID_BYTES = 5
_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Requested:
    """A request as it was recorded.

    Attributes:
        promotion: The request, awaiting approval or gated.
        judgement: What the gates found.
        policy: The policy that they are of.
    """

    promotion: Promotion
    judgement: Judgement
    policy: Policy


class GatedError(RefusedError):
    """A gate has refused a request, which is on record.

    Args:
        requested: The request.
    """

    def __init__(self, requested: Requested) -> None:
        refusing = requested.judgement.refusing
        promotion = requested.promotion
        more = f" (and {len(refusing) - 1} more)" if len(refusing) > 1 else ""
        super().__init__(
            f"{promotion.name}/{promotion.version} is refused by gate {refusing[0].gate} of {promotion.environment}: "
            f"{refusing[0].message}{more}",
            hint=f"`groundswell promote status {promotion.promotion_id}` shows every gate",
        )
        self.requested = requested


def request_promotion(
    home: Home,
    version: ModelVersion,
    environment: str,
    *,
    actor: str,
    reason: str | None = None,
    progress: Progress = lambda *_: None,
) -> Requested:
    """Asks for a version to be promoted into an environment.

    The request is recorded whatever the gates find; where one refuses, the request is gated, and nobody can approve it. The
    champion itself may be requested again, which validates it anew.

    Args:
        home: The home.
        version: The version.
        environment: Where it is to go.
        actor: Who asks.
        reason: Why, in words; the ledger holds a commitment to it.
        progress: Called with steps done, steps in all, and what is being done.

    Raises:
        GatedError: A gate refuses.
        RuleError: The actor may not, the policy's time is over, or the version is requested there already.
        IntegrityError: The package is not what was registered.
        UnknownSubjectError: There is no such environment or identity.
    """
    db = home.database
    install_guards(db)
    with db.read() as connection:
        policy = current_policy(connection, environment)
        champion = champion_of(connection, version.name, environment)
    with recorded(db, "request", version.subject, actor=actor, environment=environment):
        with db.read() as connection:
            check_actor(get_identity(connection, actor), REQUESTERS, "request a promotion")
        now = db.now()
        judgement = _judge(home, version, champion, policy, now, progress)
        with db.unit_of_work() as uow:
            requested = _record(uow, version, champion, policy, judgement, actor=actor, reason=reason)
    progress(_STEPS, _STEPS, "recorded")
    if requested.promotion.state is State.GATED:
        raise GatedError(requested)
    return requested


def _judge(
    home: Home, version: ModelVersion, champion: Champion | None, policy: Policy, now: datetime, progress: Progress
) -> Judgement:
    progress(0, _STEPS, "verifying the package")
    package = open_version(version, home.package_keys, home.package_cache)
    progress(1, _STEPS, "verifying the champion's package")
    other: ModelPackage | None = None
    if champion is not None:
        other = open_version(
            find_version(home.database, f"{version.name}/{champion.version}"), home.package_keys, home.package_cache
        )
    progress(2, _STEPS, "judging by the policy")
    with home.database.read() as connection:
        evidence = gather_evidence(connection, version, package, other, policy, now=now)
    expected = {"version": champion.version, "root_digest": champion.root_digest} if champion else None
    about = judged_about(
        name=version.name,
        version=version.version,
        root_digest=version.root_digest,
        environment=policy.environment,
        policy_digest=policy.digest,
        champion=expected,
        judged=now,
    )
    return Judgement(results=judge(policy.gates, evidence), about=about)


def _record(
    uow: UnitOfWork,
    version: ModelVersion,
    champion: Champion | None,
    policy: Policy,
    judgement: Judgement,
    *,
    actor: str,
    reason: str | None,
) -> Requested:
    connection = uow.connection
    check_actor(get_identity(connection, actor), REQUESTERS, "request a promotion")
    if current_policy(connection, policy.environment).digest != policy.digest:
        raise RuleError("policy", f"the policy of {policy.environment} was changed meanwhile", hint="request it again")
    if not policy.counts_at(uow.time):
        raise RuleError(
            "expired",
            f"the policy of {policy.environment} counted until {policy.valid_until}",
            hint="`groundswell policy set` puts another in its place",
        )
    begun = datetime.fromisoformat(uow.time)
    promotion = Promotion(
        promotion_id=f"p-{secrets.token_hex(_ID_BYTES)}",
        name=version.name,
        version=version.version,
        root_digest=version.root_digest,
        environment=policy.environment,
        policy_digest=policy.digest,
        evidence_root=judgement.root,
        requester=actor,
        trainers=trainers_of(connection, version.run_id),
        expected_version=champion.version if champion else None,
        expected_digest=champion.root_digest if champion else None,
        requested=uow.time,
        expires=format_time(begun + timedelta(days=policy.request_valid_days)),
        state=State.AWAITING if judgement.passed else State.GATED,
    )
    check_champion(promotion, champion_of(connection, version.name, policy.environment))
    for other in find_promotions(connection, name=version.name, environment=policy.environment, open_only=True):
        if other.version == version.version:
            raise RuleError(
                "duplicate",
                f"{version.name}/{version.version} is requested for {policy.environment} already: {other.promotion_id}",
                hint=f"`groundswell promote status {other.promotion_id}` shows what it waits for",
            )
    record_policy(uow, policy)
    reason_commitment = uow.commit_to(reason) if reason else None
    insert_promotion(uow, promotion, evidence=judgement.document, reason_commitment=reason_commitment)
    said = {name: value for name, value in row_values(promotion).items() if name not in {"promotion_id", "name", "version"}}
    details = {
        "promotion": promotion.promotion_id,
        **said,
        "evidence_digest": canonical_digest(judgement.to_value(), floats=True),
        "reason_commitment": reason_commitment,
        "changed": uow.time,
        "lapses": None,
        "refused_by": [result.gate for result in judgement.refusing],
    }
    action = "promotion.requested" if judgement.passed else "promotion.gated"
    uow.append(action, promotion.subject, details, actor=actor)
    post(uow, action, promotion, actor=actor)
    return Requested(promotion=promotion, judgement=judgement, policy=policy)
