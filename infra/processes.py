"""Child processes that end with their parent, and groups of them that end together."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_POLL_S = 0.5


def exit_with_parent(*, patience_s: float = 30.0) -> None:
    """Interrupts this process when the process that started it is gone, and kills it if it does not stop by itself.

    A process that leads a process group takes the group with it.

    Args:
        patience_s: How long to wait before killing.
    """
    parent = os.getppid()
    exit_when(lambda: os.getppid() != parent, patience_s=patience_s)


def exit_when(condition: Callable[[], bool], *, patience_s: float = 30.0) -> None:
    """Interrupts this process when a condition holds, and kills it if it does not stop by itself.

    A process that leads a process group takes the group with it.

    Args:
        condition: Asked twice a second, in a thread of its own.
        patience_s: How long to wait before killing.
    """
    send = os.killpg if os.getpgid(0) == os.getpid() else os.kill

    def watch() -> None:
        while not condition():
            time.sleep(_POLL_S)
        send(os.getpid(), signal.SIGINT)
        time.sleep(patience_s)
        send(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="exit-when", daemon=True).start()


def stop_group(group: int, *, patience_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Interrupts a process group, waits for it to end, and kills what is left of it.

    Args:
        group: The group's id.
        patience_s: How long to wait before killing.
        sleep: Waits; reaps the group's leader if that is a child of this process, since a zombie counts as alive.
    """
    waited = 0.0
    signal_group(group, signal.SIGINT)
    try:
        while group_is_alive(group) and waited < patience_s:
            sleep(_POLL_S)
            waited += _POLL_S
    finally:  # a second interrupt does not wait
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: signal.Signals) -> None:
    """Sends a signal to a process group; a group that has ended is left alone."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def group_is_alive(group: int) -> bool:
    """Returns whether a process group still has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM end a step as ctrl-C does: checkpointed and recorded."""

    def interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is signal's
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs it handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
