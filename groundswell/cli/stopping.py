"""What ends a command early."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM, which schedulers send, end a command as ctrl-C does: it tidies up and says that it was interrupted."""

    def interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is signal's
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
