"""The fingerprint of work: what it is done with, and by which code."""

from collections.abc import Mapping
from typing import Any

from components.store import ArtifactRef
from governance.canonical import canonical_digest


def fingerprint(*, step: str, code_digest: str, config: Mapping[str, Any], inputs: Mapping[str, ArtifactRef]) -> str:
    """Returns the digest of everything that a step's outputs depend on.

    Args:
        step: The step's name.
        code_digest: The digest of the step's source and of the lock.
        config: The step's complete configuration, defaults included.
        inputs: The step's inputs; their digests count, their places do not.

    Returns:
        64 hexadecimal characters: the same work has the same fingerprint, on any machine, in any home.
    """
    content = {
        "code": code_digest,
        "config": dict(config),
        "inputs": {name: {"digest": reference.digest, "kind": reference.kind} for name, reference in inputs.items()},
        "step": step,
    }
    return canonical_digest(content, floats=True)
