"""What can go wrong with data, tensors and models."""


class ModelCoreError(Exception):
    """Base of this room's errors: a one-line diagnosis, a hint, and the exit code that fits.

    Args:
        diagnosis: One line that says what is wrong, naming the file, row or key.
        hint: One line that says what to do about it; empty where there is nothing to say.
    """

    exit_code = 3

    def __init__(self, diagnosis: str, *, hint: str = "") -> None:
        super().__init__(diagnosis)
        self.diagnosis = diagnosis
        self.hint = hint


class BadDataError(ModelCoreError):
    """A dataset, picture, caption or label cannot be used."""


class BadModelError(ModelCoreError):
    """Weights, a checkpoint or a model configuration cannot be used."""


class TrainingDivergedError(ModelCoreError):
    """The loss is no longer a finite number."""
