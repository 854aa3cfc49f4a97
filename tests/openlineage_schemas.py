"""The published OpenLineage schemas, where they lie beside the project."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "schemas" / "openlineage"


class Schemas:
    """Validates events and facets; skips the test where the schemas are absent."""

    def __init__(self) -> None:
        if not FOLDER.is_dir():
            pytest.skip("the published OpenLineage schemas are not beside the project")
        from referencing import Registry, Resource

        documents = [json.loads(path.read_text()) for path in [FOLDER / "OpenLineage.json", *FOLDER.glob("facets/*.json")]]
        self._known = {document["$id"] for document in documents}
        self._registry: Any = Registry().with_resources([(each["$id"], Resource.from_contents(each)) for each in documents])

    def check_event(self, event: Mapping[str, Any]) -> None:
        """Asserts that an event holds to the schema that it names, and each standard facet in it to its own."""
        assert self._validate(event, event["schemaURL"])
        holders = [event["run"]["facets"], event["job"]["facets"]]
        for dataset in [*event["inputs"], *event["outputs"]]:
            holders += [dataset["facets"], dataset.get("inputFacets", {})]
        for name, facet in ((name, facet) for facets in holders for name, facet in facets.items()):
            assert self._validate(facet, facet["_schemaURL"]) or name.startswith("groundswell_")

    def _validate(self, instance: object, url: str) -> bool:
        from jsonschema import Draft202012Validator, FormatChecker

        if url.partition("#")[0] not in self._known:
            return False
        Draft202012Validator({"$ref": url}, registry=self._registry, format_checker=FormatChecker()).validate(instance)
        return True
