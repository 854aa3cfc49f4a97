"""Child processes that end with their parent, and groups of them that end together."""

import os
import signal
import threading
import time
from collections.abc import Callable

_POLL_S = 0.5


def exit_with_parent() -> None:
    """Interrupts this process when the process that started it is gone, and ends it if it does not stop by itself."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
        os._exit(130)

    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()


def stop_group(group: int, *, patience_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Interrupts a process group, waits for it to end, and kills what is left of it.

    Args:
        group: The group's id.
        patience_s: How long to wait before killing.
        sleep: Waits.
    """
    waited = 0.0
    signal_group(group, signal.SIGINT)
    while group_is_alive(group) and waited < patience_s:
        sleep(_POLL_S)
        waited += _POLL_S
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
