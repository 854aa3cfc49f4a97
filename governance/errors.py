"""What can go wrong with records."""


class GovernanceError(Exception):
    """Base of this room's errors: a one-line diagnosis, a hint, and the exit code that fits.

    Args:
        diagnosis: One line that says what is wrong, naming the record.
        hint: One line that says what to do about it; empty where there is nothing to say.
    """

    exit_code = 4

    def __init__(self, diagnosis: str, *, hint: str = "") -> None:
        super().__init__(diagnosis)
        self.diagnosis = diagnosis
        self.hint = hint


class IntegrityError(GovernanceError):
    """A digest, a signature or a proof does not hold."""

    exit_code = 4


class RefusedError(GovernanceError):
    """A policy or a role does not allow it."""

    exit_code = 5


class BadRecordError(GovernanceError):
    """A record offered from outside is malformed."""

    exit_code = 3


class UnknownSubjectError(GovernanceError):
    """There is no record of what was asked for."""

    exit_code = 3
