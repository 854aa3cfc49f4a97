"""Whether a recorded history of compare-and-swap attempts on one register could have happened one after another.

A history is linearizable (Herlihy & Wing 1990) if each attempt can be given one moment between its call and its answer so that,
in the order of these moments, each did what a register would. Here every value is written once at most, so the attempts that won
have one possible order, the chain of values, and it remains to find moments for them: the earliest that there are. An attempt
that failed needs a moment at which the register held something else than it expected: after it was replaced, for an attempt
expects what it has seen there before it is called.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt to put a value in the place of another.

    Attributes:
        who: Which process made it.
        expected: The value that it expected.
        wanted: The value that it wanted to write, which nobody else wants.
        called: When it began, by a clock that all share.
        answered: When it ended.
        won: Whether it wrote the value.
    """

    who: int
    expected: str
    wanted: str
    called: int
    answered: int
    won: bool


def problems_of(history: Iterable[Attempt], *, first: str) -> list[str]:
    """Returns why a history is not linearizable; nothing where it is.

    Args:
        history: Every attempt that was answered.
        first: The register's value at the beginning.
    """
    attempts = list(history)
    winners: dict[str, Attempt] = {}
    problems = []
    for attempt in attempts:
        if attempt.won and attempt.expected in winners:
            problems.append(f"two won against {attempt.expected}: {winners[attempt.expected].wanted} and {attempt.wanted}")
        elif attempt.won:
            winners[attempt.expected] = attempt
    chain, lost = _chain(winners, first)
    problems += [f"{value} was replaced, and never stood in the register" for value in lost]
    moments = _moments(chain, problems)
    gone_at = {attempt.expected: moment for attempt, moment in zip(chain, moments, strict=True)}
    for attempt in attempts:
        if not attempt.won and (attempt.expected not in gone_at or attempt.answered < gone_at[attempt.expected]):
            problems.append(f"{attempt.wanted} was refused while {attempt.expected} stood in the register")
    return problems


def _chain(winners: dict[str, Attempt], first: str) -> tuple[list[Attempt], list[str]]:
    """Returns the winners in the order of the values, and the values that they do not lead to."""
    chain, value = [], first
    left = dict(winners)
    while (attempt := left.pop(value, None)) is not None:
        chain.append(attempt)
        value = attempt.wanted
    return chain, sorted(left)


def _moments(chain: Sequence[Attempt], problems: list[str]) -> list[int]:
    """Returns the earliest moment of each winner that is after the one before it."""
    moments, last = [], -1
    for attempt in chain:
        last = max(last, attempt.called)
        if last > attempt.answered:
            problems.append(f"{attempt.wanted} was answered before what it replaced was asked for")
        moments.append(last)
    return moments
