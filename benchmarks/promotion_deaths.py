"""A child that does something on a home and is killed at a statement: right before it, right after it, or in its midst.

The child is forked from a process that has imported everything and has no connection open; it opens its own. Statements are told
apart by their beginning and how many like it came before, so that a place is the same one however long the ledger is.
"""

import ctypes
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sqlalchemy import Engine, event

from infra import engines

COMMIT = "COMMIT"
KINDS = ("before", "after", "during")
_HEAD = 70
_CLOCK_MONOTONIC = 1


@dataclass(frozen=True, order=True)
class Point:
    """A statement of what the child does.

    Attributes:
        statement: How it begins.
        number: How many that begin alike came before it.
    """

    statement: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """When the child is to die.

    Attributes:
        point: At which statement.
        kind: ``before``, ``after`` or ``during``.
        delay_s: For ``during``: how long after the statement began.
    """

    point: Point
    kind: str
    delay_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Death:
    """How it went with a child.

    Attributes:
        killed: Whether it was killed; otherwise it did all and lived.
        reached: Whether it came to the statement.
        points: The statements that it came to, with the seconds that each took; told by a child that lived.
        error: What it raised, which nothing should.
    """

    killed: bool
    reached: bool
    points: dict[Point, float] = field(default_factory=dict)
    error: str = ""


def let_die(begin: Callable[[], Any], act: Callable[[Any], Any], plan: Plan | None) -> Death:
    """Has a child begin and act, and kills it as planned; statements count from the end of `begin` on.

    Args:
        begin: Opens what the child works with.
        act: What it does with that.
        plan: When it is to die; None for never.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _live(begin, act, plan, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        words = told.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    reached, _, rest = words.partition(b"\n")
    answer = json.loads(rest) if rest else {}
    error = answer.get("error", "") or ("" if code in {0, -signal.SIGKILL} else f"the child ended with {code}")
    points = {Point(statement, number): seconds for statement, number, seconds in answer.get("points", [])}
    return Death(killed=code == -signal.SIGKILL, reached=reached == b"reached", points=points, error=error)


def _live(begin: Callable[[], Any], act: Callable[[Any], Any], plan: Plan | None, told: int) -> NoReturn:
    watch = _Watch(plan, told)
    _watch_engines(watch)
    error = ""
    try:
        thing = begin()
        watch.armed = True
        act(thing)
    except BaseException as caught:  # noqa: BLE001 - told to the parent, whatever it is
        error = f"{type(caught).__name__}: {caught}"
    watch.armed = False
    if watch.is_doomed and not error:
        signal.pause()
    points = [(point.statement, point.number, seconds) for point, seconds in watch.seconds.items()]
    _write(told, f"\n{json.dumps({'error': error, 'points': points})}".encode())
    os._exit(0)


class _Watch:
    """Sees every statement, and kills at the one that was planned."""

    def __init__(self, plan: Plan | None, told: int) -> None:
        self.armed = False
        self.is_doomed = False
        self.seconds: dict[Point, float] = {}
        self._plan = plan
        self._told = told
        self._seen: Counter[str] = Counter()
        self._point = Point("", 0)
        self._began = 0.0

    def begins(self, statement: str) -> None:
        if not self.armed:
            return
        head = " ".join(statement.split())[:_HEAD].split(" (")[0].split(" VALUES")[0]
        self._point = Point(head, self._seen[head])
        self._seen[head] += 1
        self._die("before")
        if self._plan is not None and not self.is_doomed and (self._plan.point, self._plan.kind) == (self._point, "during"):
            self.is_doomed = True
            os.write(self._told, b"reached")
            kill_in(self._plan.delay_s)
        self._began = time.perf_counter()

    def ended(self) -> None:
        if not self.armed:
            return
        self.seconds[self._point] = time.perf_counter() - self._began
        self._die("after")

    def _die(self, kind: str) -> None:
        if self._plan is not None and (self._plan.point, self._plan.kind) == (self._point, kind):
            os.write(self._told, b"reached")
            os.kill(os.getpid(), signal.SIGKILL)


def _watch_engines(watch: _Watch) -> None:
    """Has every engine that is made from now on in this process tell of its statements, commits too."""
    make = engines.create_engine

    def create_engine(*args: Any, **options: Any) -> Engine:
        engine = make(*args, **options)
        event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: watch.begins(statement))
        event.listen(engine, "after_cursor_execute", lambda *_: watch.ended())
        commit = engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            watch.begins(COMMIT)
            commit(connection)
            watch.ended()

        engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
        return engine

    engines.create_engine = create_engine


def kill_in(seconds: float) -> None:
    """Has the kernel kill this process after so long, wherever it is then."""
    libc = ctypes.CDLL(None, use_errno=True)
    asked = (ctypes.c_int * 16)()  # struct sigevent: a value of eight bytes, the signal, SIGEV_SIGNAL
    asked[2] = signal.SIGKILL
    timer = ctypes.c_void_p()
    nanoseconds = max(1, round(seconds * 1e9))
    when = (ctypes.c_long * 4)(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
    if libc.timer_create(_CLOCK_MONOTONIC, asked, ctypes.byref(timer)) or libc.timer_settime(timer, 0, when, None):
        raise OSError(ctypes.get_errno(), "no timer")


def _write(told: int, words: bytes) -> None:
    while words:
        words = words[os.write(told, words) :]
