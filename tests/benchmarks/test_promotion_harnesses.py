"""The harnesses of promotion find nothing on sound code, and find what is wrong where something is."""

import itertools
import random

import pytest
from sqlalchemy import text

from benchmarks.cas_history import Attempt, problems_of
from benchmarks.promotion_crash import OPERATIONS, Operation, run_engine
from benchmarks.promotion_race import race

NAMES = {operation.name: operation for operation in OPERATIONS}


def attempt(expected, wanted, called, answered, *, won=True):
    return Attempt(who=0, expected=expected, wanted=wanted, called=called, answered=answered, won=won)


def has_an_order(history, first):
    """The definition: some order that respects real time and in which each attempt does what a register would."""
    for order in itertools.permutations(history):
        if any(later.answered < earlier.called for earlier, later in itertools.combinations(order, 2)):
            continue
        value, fits = first, True
        for one in order:
            fits = fits and one.won == (one.expected == value)
            value = one.wanted if one.won else value
        if fits:
            return True
    return False


def test_the_checker_agrees_with_the_definition_on_small_histories():
    dice = random.Random(5)
    seen = {True: 0, False: 0}
    for _ in range(3000):
        values = ["a"]
        history = []
        for number in range(dice.randint(1, 5)):
            called = dice.randint(0, 12)
            wanted = f"v{number}"
            one = attempt(dice.choice(values), wanted, called, called + dice.randint(0, 6), won=dice.random() < 0.6)
            values.append(wanted)
            history.append(one)
        stood = {"a": -1} | {one.wanted: one.answered for one in history if one.won}
        if all(stood.get(one.expected, 99) < one.called for one in history if not one.won):
            sound = has_an_order(history, "a")
            assert (problems_of(history, first="a") == []) == sound, history
            seen[sound] += 1
    assert min(seen.values()) > 300


@pytest.mark.parametrize(
    ("history", "says"),
    [
        ([attempt("a", "b", 0, 1), attempt("a", "c", 0, 1)], "two won"),
        ([attempt("a", "b", 5, 6), attempt("b", "c", 1, 2)], "before what it replaced"),
        ([attempt("x", "b", 0, 1)], "never stood"),
        ([attempt("a", "b", 0, 1, won=False)], "refused while"),
        ([attempt("a", "b", 5, 6), attempt("a", "c", 0, 1, won=False)], "refused while"),
    ],
)
def test_what_could_not_have_happened_is_named(history, says):
    assert any(says in problem for problem in problems_of(history, first="a"))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_one_promoter_wins_against_each_champion(engine, tmp_path, request):
    if engine == "postgresql":
        request.getfixturevalue("postgres")
    found = race(engine, 4, 24, 0, tmp_path)
    assert found["first_failures"] == []
    assert found["attempts"] == 24
    assert found["won"] + found["refused"] == 24


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_nothing_is_half_done_where_a_promoter_is_killed(engine, tmp_path, request):
    if engine == "postgresql":
        request.getfixturevalue("postgres")
    tally = run_engine(engine, 16, 1, tmp_path, operations=[NAMES["last approval, which applies"], NAMES["roll back"]])
    assert tally.failures == []
    assert sum(tally.kills.values()) == tally.before + tally.after == 16


def test_what_is_done_in_two_transactions_is_found_out(tmp_path):
    def by_halves(world):
        with world.db.engine.begin() as connection:
            connection.execute(text("DROP TRIGGER gs_guard_aliases_update"))
            connection.execute(text("UPDATE registered_model_aliases SET version = 2"))
        with world.db.unit_of_work() as uow:
            uow.append("note.made", "note:1", {})

    broken = Operation("by halves", lambda world: world.promote(1), by_halves)
    tally = run_engine("sqlite", 12, 1, tmp_path, operations=[broken])
    assert any("MLflow has" in failure for failure in tally.failures)
    assert any("half of it was done" in failure for failure in tally.failures)
