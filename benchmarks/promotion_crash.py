"""Kills what promotes a model at its statements, and looks at what is left.

``python -m benchmarks.promotion_crash --runs 1000 --engine both``: each run copies a home, has a child do one thing (request,
approve, the last approval, roll back, reject, withdraw), and kills it with SIGKILL right before, right after or in the midst of a
statement, commits among them. Then the home is opened as a next start opens it: MLflow's alias, the champion, the request and the
ledger have to agree, all or nothing was done, and the same can be done again. Exit code 1 where something does not hold.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.promotion_agreement import Change, Picture, change_between, disagreements, take_picture
from benchmarks.promotion_deaths import KINDS, Plan, Point, let_die
from benchmarks.promotion_homes import ENGINES, Fresh, Place, one_home, prepared
from governance.errors import RefusedError
from infra.ledger_verification import verify_ledger
from infra.promotion.approvals import reject, withdraw
from infra.promotion.rollback import roll_back
from tests.infra.package_inputs import NAME
from tests.infra.promotion.world import World

RESULTS = Path(__file__).parent / "results" / "promotion-crash.json"
_VERIFY_EVERY = 20


def _waiting(world: World) -> str:
    from infra.promotion.records import find_promotions

    with world.db.read() as connection:
        (found,) = find_promotions(connection, open_only=True)
        return found.promotion_id


def _approve(world: World, name: str) -> None:
    from infra.promotion.approvals import approve

    approve(world.home, _waiting(world), actor=world.people[name])


@dataclass(frozen=True)
class Operation:
    """Something that is done with promotions.

    Attributes:
        name: What it is called.
        prepare: Brings a new home to where it can be done.
        act: Does it.
    """

    name: str
    prepare: Callable[[World], Any]
    act: Callable[[World], Any]


OPERATIONS = (
    Operation("request", lambda world: world.promote(1), lambda world: world.request(2)),
    Operation("approve", lambda world: (world.promote(1), world.request(2)), lambda world: _approve(world, "Olga")),
    Operation(
        "last approval, which applies",
        lambda world: (world.promote(1), world.approve(world.request(2), "Olga")),
        lambda world: _approve(world, "Admin"),
    ),
    Operation(
        "roll back",
        lambda world: (world.promote(1), world.promote(2)),
        lambda world: roll_back(world.home, NAME, "production", actor=world.people["Omar"], reason="six fingers"),
    ),
    Operation(
        "reject",
        lambda world: world.request(2),
        lambda world: reject(world.home, _waiting(world), actor=world.people["Olga"], reason="blurry"),
    ),
    Operation(
        "withdraw",
        lambda world: world.request(2),
        lambda world: withdraw(world.home, _waiting(world), actor=world.people["Ada"]),
    ),
)


@dataclass
class Tally:
    """What the runs on one engine have come to.

    Attributes:
        kills: How many children were killed, by kind.
        points: The places at which they were.
        before: How many left everything as it was.
        after: How many had done all of it.
        reopening_s: How long each next start took.
        failures: What did not hold.
    """

    kills: Counter[str] = field(default_factory=Counter)
    points: set[tuple[str, Point]] = field(default_factory=set)
    before: int = 0
    after: int = 0
    reopening_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """An operation, a home in which it can be done, and what it does there.

    Attributes:
        operation: The operation.
        fresh: Copies the home.
        points: Its statements, with the seconds that each takes.
        change: What it changes.
    """

    operation: Operation
    fresh: Fresh
    points: dict[Point, float]
    change: Change


def run_engine(engine: str, runs: int, seed: int, folder: Path, *, operations: Sequence[Operation] = OPERATIONS) -> Tally:
    """Does so many runs on one engine, each operation and each of its statements in turn."""
    tally = Tally()
    with prepared(engine, folder, versions=2) as (template, server):
        ready = []
        for number, operation in enumerate(operations):
            place = one_home(engine, template, server, folder / f"prepare-{number}")()
            with_world(place, operation.prepare)
            ready.append(_look(operation, one_home(engine, place, server, folder / f"runs-{number}")))
        for number, (one, plan) in enumerate(schedule(ready, runs, seed)):
            _run(one, plan, tally, verify=number % _VERIFY_EVERY == 0)
            if sys.stderr.isatty() or (number + 1) % 100 == 0:
                print(f"\r{ENGINES[engine]}: {number + 1:,} of {runs:,}, {len(tally.failures)} failures", end="", file=sys.stderr)
        print(file=sys.stderr)
    return tally


def schedule(ready: Sequence[Prepared], runs: int, seed: int) -> list[tuple[Prepared, Plan]]:
    """Returns where each run dies: every statement of every operation before any comes again, in an order of chance."""
    dice = random.Random(seed)  # noqa: S311  # no secret
    places = [(one, point, kind) for one in ready for point in sorted(one.points) for kind in KINDS]
    chosen: list[tuple[Prepared, Plan]] = []
    while len(chosen) < runs:
        dice.shuffle(places)
        for one, point, kind in places[: runs - len(chosen)]:
            chosen.append((one, Plan(point=point, kind=kind, delay_s=dice.random() * one.points[point])))
    return chosen


def with_world(place: Place, act: Callable[[World], Any]) -> Any:
    """Opens a home, does something in it, and closes it."""
    world = place.world()
    try:
        return act(world)
    finally:
        world.db.close()


def _look(operation: Operation, fresh: Fresh) -> Prepared:
    """Has a child do it undisturbed, to learn its statements and what it changes."""
    place = fresh()
    before = with_world(place, _picture)
    lived = let_die(place.world, operation.act, None)
    if lived.error:
        raise RuntimeError(f"{operation.name}: {lived.error}")
    return Prepared(operation, fresh, lived.points, change_between(before, with_world(place, _picture)))


def _picture(world: World) -> Picture:
    with world.db.read() as connection:
        return take_picture(connection)


def _run(one: Prepared, plan: Plan, tally: Tally, *, verify: bool) -> None:
    place = one.fresh()
    before = with_world(place, _picture)
    death = let_die(place.world, one.operation.act, plan)
    name = f"{one.operation.name}, killed {plan.kind} {plan.point.statement!r} ({plan.point.number})"
    if death.error or not death.killed:
        tally.failures.append(f"{name}: {death.error or 'it was not killed'}")
        return
    tally.kills[plan.kind] += 1
    tally.points.add((one.operation.name, plan.point))
    began = time.perf_counter()
    world = place.world()
    tally.reopening_s.append(time.perf_counter() - began)
    try:
        tally.failures += [f"{name}: {problem}" for problem in _judge(world, one, before, tally, verify=verify)]
    finally:
        world.db.close()


def _judge(world: World, one: Prepared, before: Picture, tally: Tally, *, verify: bool) -> list[str]:
    now = _picture(world)
    problems = _disagreements(world)
    if now.is_as(before):
        tally.before += 1
        one.operation.act(world)
    elif change_between(before, now) == one.change:
        tally.after += 1
        try:
            one.operation.act(world)
        except (RefusedError, ValueError):  # it was done: there is nothing left to do it to
            pass
        else:
            problems.append("it could be done twice")
    else:
        problems.append(f"half of it was done: {change_between(before, now)}")
    problems += _disagreements(world)
    if verify:
        problems += verify_ledger(world.db, world.home.keys.log_public_key()).problems
    return problems


def _disagreements(world: World) -> list[str]:
    with world.db.read() as connection:
        return list(disagreements(connection))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promotion_crash", description=__doc__)
    parser.add_argument("--runs", type=positive, default=1000)
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def document_of(tally: Tally, seconds: float) -> dict[str, Any]:
    """Returns what is written of the runs on one engine."""
    reopening = sorted(tally.reopening_s)
    return {
        "runs": sum(tally.kills.values()),
        "kills": dict(sorted(tally.kills.items())),
        "distinct_points": len(tally.points),
        "nothing_done": tally.before,
        "all_done": tally.after,
        "failures": len(tally.failures),
        "first_failures": tally.failures[:10],
        "next_start_median_s": round(reopening[len(reopening) // 2], 4) if reopening else None,
        "next_start_max_s": round(reopening[-1], 4) if reopening else None,
        "seconds": round(seconds, 1),
    }


def measure(options: argparse.Namespace) -> None:
    """Runs the harness.

    Raises:
        SystemExit: Something did not hold.
    """
    found: dict[str, Any] = {}
    document: dict[str, Any] = {}
    for engine in ENGINES if options.engine == "both" else [options.engine]:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="groundswell-crash-") as folder:
            tally = run_engine(engine, options.runs, options.seed, Path(folder))
        found[engine] = document_of(tally, time.perf_counter() - began)
        document = {"benchmark": "promotion-crash", "seed": options.seed, "machine": machine(), "engines": found}
        write_json(options.results, document)  # after each, for the next may take long
    print(table(document))
    if any(one["failures"] for one in found.values()):
        raise SystemExit(1)


def table(document: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    rows = [
        [
            ENGINES[engine],
            f"{one['runs']:,}",
            one["distinct_points"],
            f"{one['nothing_done']:,} / {one['all_done']:,}",
            one["failures"],
            f"{one['next_start_median_s'] * 1000:.0f} / {one['next_start_max_s'] * 1000:.0f} ms",
        ]
        for engine, one in document["engines"].items()
    ]
    header = ["database", "kills", "places", "nothing / all done", "failures", "next start, median / longest"]
    return markdown_table(header, rows)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
