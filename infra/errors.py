"""What can go wrong with the outside world."""


class InfraError(Exception):
    """Base of this room's errors: a one-line diagnosis, a hint, and the exit code that fits.

    Args:
        diagnosis: One line that says what is wrong, naming the backend or setting.
        hint: One line that says what to do about it; empty where there is nothing to say.
    """

    exit_code = 6

    def __init__(self, diagnosis: str, *, hint: str = "") -> None:
        super().__init__(diagnosis)
        self.diagnosis = diagnosis
        self.hint = hint


class BackendUnavailableError(InfraError):
    """A database, server, engine or disk does not answer, or is full."""

    exit_code = 6


class BadSettingError(InfraError):
    """A setting, parameter or configuration key cannot be used."""

    exit_code = 3


class HomeBusyError(InfraError):
    """Another run is active in the same home."""

    exit_code = 6
