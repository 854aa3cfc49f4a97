"""The provenance of a model version as an in-toto statement with a SLSA predicate: from what, by what and how it was made.

Statement v1: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. Predicate: https://slsa.dev/spec/v1.0/provenance.
Nothing in it names a person, a path or a host.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from governance.errors import IntegrityError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = "urn:groundswell:pipeline:{pipeline}:1"
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class MadeBy:
    """A step that took part.

    Attributes:
        config: Its configuration.
        fingerprint: Digest of the work.
        code_digest: Digest of the source that ran.
        inputs: Digests of what it was given, by subject (``<kind>:<digest>``).
        image: The image that it ran in, empty for none.
        image_digest: That image's digest, without its algorithm's name.
        lock_digest: Digest of the lock of its libraries.
    """

    config: Mapping[str, Any]
    fingerprint: str
    code_digest: str
    inputs: tuple[str, ...]
    lock_digest: str
    image: str = ""
    image_digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Making:
    """How a model version came about.

    Attributes:
        name: The model's name.
        version: Its version.
        root_digest: The root digest of its package.
        run_id: The run that registered it.
        pipeline: The run's pipeline.
        runner: What ran the steps.
        params_digest: Digest of the run's parameters.
        builder: Who answers for the record: the name of the log's key.
        started: When the run began, RFC 3339.
        finished: When it ended, RFC 3339.
        steps: The steps, by name.
        products: Digests of what else came of it, by subject.
    """

    name: str
    version: int
    root_digest: str
    run_id: str
    pipeline: str
    runner: str
    params_digest: str
    builder: str
    started: str
    finished: str
    steps: Mapping[str, MadeBy]
    products: tuple[str, ...]


def provenance_statement(made: Making) -> dict[str, Any]:
    """Returns the statement about a model version."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"{made.name}/{made.version}", "digest": {"sha256": made.root_digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD_TYPE.format(pipeline=made.pipeline),
                "externalParameters": {
                    "pipeline": made.pipeline,
                    "parametersDigest": made.params_digest,
                    "steps": {name: dict(step.config) for name, step in made.steps.items()},
                },
                "internalParameters": {
                    "runner": made.runner,
                    "fingerprints": {name: step.fingerprint for name, step in made.steps.items()},
                },
                "resolvedDependencies": _dependencies(made),
            },
            "runDetails": {
                "builder": {"id": f"urn:groundswell:log:{made.builder}"},
                "metadata": {"invocationId": f"run:{made.run_id}", "startedOn": made.started, "finishedOn": made.finished},
                "byproducts": [_artifact(subject) for subject in made.products],
            },
        },
    }


def parse_provenance(payload: bytes) -> dict[str, Any]:
    """Returns a statement after checking its form; every digest in it is 64 lowercase hexadecimal characters.

    Raises:
        IntegrityError: It is no provenance of a model version.
    """
    try:
        statement: dict[str, Any] = json.loads(payload)
        kinds = (statement["_type"], statement["predicateType"])
        definition, details = (statement["predicate"][name] for name in ("buildDefinition", "runDetails"))
        described = [*statement["subject"], *definition["resolvedDependencies"], *details["byproducts"]]
        digests = [digest for one in described for digest in one["digest"].values()]
        is_whole = bool(statement["subject"] and definition["buildType"] and details["builder"]["id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError("it is no provenance of a model version") from error
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE) or not is_whole:
        raise IntegrityError("it is no provenance of a model version")
    if len(digests) != len(described) or not all(isinstance(digest, str) and _HEX.fullmatch(digest) for digest in digests):
        raise IntegrityError("a digest in the provenance is no SHA-256")
    return statement


def _dependencies(made: Making) -> list[dict[str, Any]]:
    own = {f"package:{made.root_digest}", *made.products}
    found = {subject: _artifact(subject) for step in made.steps.values() for subject in step.inputs if subject not in own}
    for name, step in made.steps.items():
        found[f"code:{name}"] = _described(f"code:{name}", f"urn:groundswell:code:{name}", step.code_digest)
        found[f"lock:{step.lock_digest}"] = _described("lock", "urn:groundswell:lock", step.lock_digest)
        if step.image_digest:
            found[f"image:{name}"] = _described(f"image:{name}", f"pkg:oci/{step.image}", step.image_digest)
    return [found[key] for key in sorted(found)]


def _artifact(subject: str) -> dict[str, Any]:
    kind, _, digest = subject.partition(":")
    return _described(kind, f"urn:groundswell:{subject}", digest)


def _described(name: str, uri: str, digest: str) -> dict[str, Any]:
    return {"name": name, "uri": uri, "digest": {"sha256": digest}}
