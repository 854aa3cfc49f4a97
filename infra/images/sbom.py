"""Runs inside an image while it is built: writes its bill of materials, CycloneDX 1.6, from what is installed there.

Standard library only. https://cyclonedx.org/docs/1.6/json/
"""

import argparse
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

TARGET = Path("/usr/share/groundswell/sbom.cdx.json")
_BUILD = Path(__file__).parent
_STATUS = Path("/var/lib/dpkg/status")
_DOCUMENTS = Path("/usr/share/doc")
_OWN = "groundswell"
_MAX_LICENCE_LENGTH = 100  # a longer one is the licence's text
_CLASSIFIER = "License :: "


def main() -> int:
    """Writes the bill of materials of an image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the image's name")
    name = parser.parse_args().name
    about = json.loads((_BUILD / "about" / f"{name}.json").read_text(encoding="utf-8"))
    components = [*_python(), *_libraries(_BUILD / "wheels"), *_packages(_STATUS)]
    text = json.dumps(bill(about, components), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


def bill(about: dict[str, str], components: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a bill of materials whose serial number follows from its content.

    Args:
        about: ``name``, ``version``, ``created`` (RFC 3339) and ``revision`` of the image.
        components: What it holds.
    """
    content = json.dumps([about, components], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "version": 1,
        "metadata": {
            "timestamp": about["created"],
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "container",
                "bom-ref": about["name"],
                "name": about["name"],
                "version": about["version"],
                "properties": [{"name": "io.groundswell.revision", "value": about["revision"]}],
            },
        },
        "components": components,
    }


def _python() -> Iterator[dict[str, Any]]:
    """Yields the interpreter, where no package of the system holds it."""
    if sys.base_prefix != "/usr":
        version = ".".join(map(str, sys.version_info[:3]))
        yield {
            "type": "application",
            "bom-ref": f"pkg:generic/python@{version}",
            "name": "python",
            "version": version,
            "purl": f"pkg:generic/python@{version}",
            "licenses": [{"expression": "Python-2.0"}],
        }


def _libraries(wheels: Path) -> Iterator[dict[str, Any]]:
    """Yields the installed Python distributions, with the digests of the wheels that they came from."""
    found = {tuple(path.name.split("-")[:2]): path for path in wheels.glob("*.whl")}
    by_name = {(_normal(name), version): path for (name, version), path in found.items()}
    for distribution in sorted(distributions(), key=lambda one: _normal(one.name)):
        name, version = _normal(distribution.name), distribution.version
        wheel = by_name[name, version]
        kind = "generic" if name == _OWN else "pypi"
        purl = f"pkg:{kind}/{name}@{quote(version, safe='')}"
        yield {
            "type": "application" if name == _OWN else "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
            "licenses": licences(distribution.metadata),
        }


def licences(metadata: Message | Any) -> list[dict[str, Any]]:
    """Returns the licences that a distribution's metadata states: an SPDX expression, or names."""
    if expression := metadata.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = [one for one in metadata.get_all("Classifier") or [] if one.startswith(_CLASSIFIER)]
    names = [one.rpartition(" :: ")[2] for one in classifiers if one != "License :: OSI Approved"]
    stated = " ".join((metadata.get("License") or "").split())
    if stated and stated != "UNKNOWN" and len(stated) <= _MAX_LICENCE_LENGTH:
        names = [stated]
    return [{"license": {"name": name}} for name in sorted(set(names))]


def _packages(status: Path) -> Iterator[dict[str, Any]]:
    """Yields the Debian packages."""
    for stanza in status.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={architecture}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "licenses": [{"license": {"name": one}} for one in _debian_licences(name)],
        }


def _debian_licences(package: str) -> list[str]:
    """Returns the licences that a package's copyright file names: by machine-readable field, else by Debian's common texts."""
    path = _DOCUMENTS / package / "copyright"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    pattern = r"^License: *(\S.*)$" if "Format:" in text[:500] else r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])"
    found = re.findall(pattern, text, re.MULTILINE)
    return sorted({" ".join(one.split()) for one in found if len(one) <= _MAX_LICENCE_LENGTH})


def _normal(name: str) -> str:
    """Returns a distribution's normalised name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
