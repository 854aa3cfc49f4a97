"""Has many processes promote at once, and checks that one of them wins against each champion.

``python -m benchmarks.promotion_race --promoters 64 --attempts 10000 --engine both``: again and again each process records a
request for another version, as approved, that expects the champion of then, and a moment later applies it in a unit of work
of its own, as the last approval does. What is left out are gates, signatures and the verification of packages, which come before
that and decide nothing about who wins. Every attempt to apply is recorded with its times by a clock that the processes share; the
history has to be linearizable, and the ledger, the champion's row and MLflow's alias have to say the same as its end. Exit code 1
where something does not hold.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.cas_history import Attempt, problems_of
from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.promotion_agreement import CROWNING, disagreements, promotion_entries
from benchmarks.promotion_homes import ENGINES, Place, one_home, prepared
from governance.promotion.policy import Policy
from governance.promotion.state import Champion, Promotion, RuleError, State
from infra.database import UnitOfWork
from infra.model_versions import ModelVersion
from infra.promotion.champions import put_in
from infra.promotion.policies import current_policy
from infra.promotion.records import champion_of, find_promotion, insert_promotion
from tests.infra.package_inputs import NAME
from tests.infra.promotion.world import World

RESULTS = Path(__file__).parent / "results" / "promotion-race.json"
VERSIONS = 4
_ENVIRONMENT = "production"
_PAUSE_S = 0.2


def race(engine: str, promoters: int, attempts: int, seed: int, folder: Path) -> dict[str, Any]:
    """Runs the race on one engine and returns what came of it."""
    with prepared(engine, folder, versions=VERSIONS) as (template, server):
        place = one_home(engine, template, server, folder / "race")()
        world = place.world()
        first = world.promote(1).promotion_id
        world.db.close()
        began = time.perf_counter()
        history = _run(place, promoters, attempts, seed, folder)
        seconds = time.perf_counter() - began
        failures = [*problems_of(history, first=first), *_compare(place, history, first)]
    won = sum(attempt.won for attempt in history)
    return {
        "promoters": promoters,
        "attempts": len(history),
        "won": won,
        "refused": len(history) - won,
        "overlapping": _num_overlapping(history),
        "failures": len(failures),
        "first_failures": failures[:10],
        "seconds": round(seconds, 1),
        "attempts_per_s": round(len(history) / seconds, 1),
    }


def _run(place: Place, promoters: int, attempts: int, seed: int, folder: Path) -> list[Attempt]:
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(promoters)
    shares = [attempts // promoters + (number < attempts % promoters) for number in range(promoters)]
    files = [folder / f"history-{number}.jsonl" for number in range(promoters)]
    children = [
        context.Process(target=_promote, args=(place, number, share, seed, gate, file))
        for number, (share, file) in enumerate(zip(shares, files, strict=True))
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise RuntimeError(f"a promoter ended with {next(child.exitcode for child in children if child.exitcode)}")
    return [Attempt(**json.loads(line)) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def _promote(place: Place, number: int, share: int, seed: int, gate: Any, file: Path) -> None:
    """Attempts so often to be the one who puts the next champion in."""
    dice = random.Random(seed * 1000 + number)  # noqa: S311  # no secret
    try:
        world = place.world()
    except BaseException:
        gate.abort()  # nobody waits for one who will not come
        raise
    with world.db.read() as connection:
        policy = current_policy(connection, _ENVIRONMENT)
    versions = [world.version(each) for each in range(1, VERSIONS + 1)]
    gate.wait()
    with file.open("w", encoding="utf-8") as out:
        for turn in range(share):
            wanted = f"p-{number:03d}-{turn:05d}"
            expected = _request(world, dice, versions, wanted, policy)
            time.sleep(dice.random() * _PAUSE_S)  # for others to come in between
            called = time.monotonic_ns()
            won = _apply(world, wanted, policy)
            answered = time.monotonic_ns()
            attempt = Attempt(who=number, expected=expected, wanted=wanted, called=called, answered=answered, won=won)
            out.write(f"{json.dumps(asdict(attempt))}\n")
    world.db.close()
    out.close()
    os._exit(0)


def _request(world: World, dice: random.Random, versions: Sequence[ModelVersion], wanted: str, policy: Policy) -> str:
    """Records an approved request for another version than the champion, and returns the request whose version that is."""
    with world.db.unit_of_work() as uow:
        champion = champion_of(uow.connection, NAME, _ENVIRONMENT)
        if champion is None:
            raise RuntimeError("there is no champion")
        version = dice.choice([each for each in versions if each.version != champion.version])
        promotion = _approved(uow, champion, version, wanted, policy)
        insert_promotion(uow, promotion, evidence="{}", reason_commitment=None)
        details = {"promotion": wanted, "state": promotion.state.value, "previous": None, "environment": _ENVIRONMENT}
        uow.append("promotion.requested", promotion.subject, details)
        return champion.promotion_id


def _apply(world: World, wanted: str, policy: Policy) -> bool:
    """Applies a request, and says whether that was let through."""
    try:
        with world.db.unit_of_work() as uow:
            put_in(uow, find_promotion(uow.connection, wanted), policy, actor=world.people["Omar"])
    except RuleError as error:
        if error.rule not in {"champion", "state"}:
            raise
        return False
    return True


def _approved(uow: UnitOfWork, champion: Champion, version: ModelVersion, wanted: str, policy: Policy) -> Promotion:
    return Promotion(
        promotion_id=wanted,
        name=NAME,
        version=version.version,
        root_digest=version.root_digest,
        environment=_ENVIRONMENT,
        policy_digest=policy.digest,
        evidence_root="00" * 32,
        requester="system",
        trainers=(),
        expected_version=champion.version,
        expected_digest=champion.root_digest,
        requested=uow.time,
        expires="9999-12-31T23:59:59.999999Z",
        state=State.APPROVED,
    )


def _compare(place: Place, history: Sequence[Attempt], first: str) -> list[str]:
    """Returns how ledger, champion and alias differ from the history."""
    winners = {attempt.expected: attempt.wanted for attempt in history if attempt.won}
    chain, value = [first], first
    while (value := winners.get(value, "")) and len(chain) <= len(winners):
        chain.append(value)
    world = place.world()
    try:
        with world.db.read() as connection:
            crowned = [entry.details["promotion"] for entry in promotion_entries(connection) if entry.action in CROWNING]
            problems = list(disagreements(connection))
    finally:
        world.db.close()
    if crowned != chain:
        problems.append(f"the ledger has {len(crowned)} champions, the history {len(chain)}, or in another order")
    return problems


def _num_overlapping(history: Sequence[Attempt]) -> int:
    """Returns how many attempts began while another was under way: how much of a race it was."""
    count, latest = 0, -1
    for attempt in sorted(history, key=lambda each: each.called):
        count += attempt.called < latest
        latest = max(latest, attempt.answered)
    return count


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promotion_race", description=__doc__)
    parser.add_argument("--promoters", type=positive, default=64)
    parser.add_argument("--attempts", type=positive, default=10_000)
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
    """Runs the harness.

    Raises:
        SystemExit: Something did not hold.
    """
    found: dict[str, Any] = {}
    document: dict[str, Any] = {}
    for engine in ENGINES if options.engine == "both" else [options.engine]:
        with tempfile.TemporaryDirectory(prefix="groundswell-race-") as folder:
            found[engine] = race(engine, options.promoters, options.attempts, options.seed, Path(folder))
        document = {"benchmark": "promotion-race", "seed": options.seed, "machine": machine(), "engines": found}
        write_json(options.results, document)  # after each, for the next may take long
    print(table(document))
    if any(one["failures"] for one in found.values()):
        raise SystemExit(1)


def table(document: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    rows = [
        [
            ENGINES[engine],
            one["promoters"],
            *(f"{one[name]:,}" for name in ("attempts", "overlapping", "won", "refused")),
            one["failures"],
            f"{one['attempts_per_s']:.0f}/s",
        ]
        for engine, one in document["engines"].items()
    ]
    header = ["database", "promoters", "attempts", "overlapping", "won", "refused", "failures", "rate"]
    return markdown_table(header, rows)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
