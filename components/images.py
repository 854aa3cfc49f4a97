"""The names of the components' container images."""

VERSION = "0.1.0"


def image(step: str) -> str:
    """Returns the full name of a step's image."""
    return f"localhost/groundswell/{step.replace('_', '-')}-python:{VERSION}"
