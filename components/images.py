"""The names of the components' container images."""

from infra.settings import image_name

VERSION = "0.1.0"


def image(step: str) -> str:
    """Returns the full name of a step's image."""
    return image_name(step, version=VERSION)
