"""What another producer's event must be to be taken in: an event of OpenLineage 1.x, as the published schema has it.

It is of a run, or static lineage: of a job with its inputs and outputs, or of a dataset. Specification: see `governance.lineage`.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from governance.errors import BadRecordError
from governance.imported_lineage import told_by
from governance.lineage import Event

MAX_DEPTH = 64
MAX_SUBJECT_CHARACTERS = 512
MAX_JOB_CHARACTERS = 255

_HINT = "events must hold to OpenLineage 1.x: openlineage.io/docs/spec/object-model"
_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_TIME = r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$"
_URI = r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f-\x9f]+$"

_Name = Annotated[str, StringConstraints(min_length=1)]
_Uri = Annotated[str, StringConstraints(pattern=_URI)]


class _Part(BaseModel):
    """A part of an event: what the schema names is checked, what else it holds is kept."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class _Facet(_Part):
    producer: _Uri = Field(alias="_producer")
    schema_url: _Uri = Field(alias="_schemaURL")


_Facets = dict[str, _Facet]


class _Job(_Part):
    namespace: _Name
    name: _Name
    facets: _Facets = Field(default_factory=dict)


class _ParentRun(_Part):
    run_id: Annotated[str, StringConstraints(pattern=_UUID)] = Field(alias="runId")


class _ParentFacet(_Facet):
    run: _ParentRun
    job: _Job


class _RunFacets(_Part):
    __pydantic_extra__: dict[str, _Facet]
    parent: _ParentFacet = Field(default=None, validate_default=False)  # type: ignore[assignment]  # may be left out, not null


class _Run(_Part):
    run_id: Annotated[str, StringConstraints(pattern=_UUID)] = Field(alias="runId")
    facets: _RunFacets = Field(default=None, validate_default=False)  # type: ignore[assignment]  # the same


class _Dataset(_Part):
    namespace: _Name
    name: _Name
    facets: _Facets = Field(default_factory=dict)


class _Input(_Dataset):
    input_facets: _Facets = Field(alias="inputFacets", default_factory=dict)


class _Output(_Dataset):
    output_facets: _Facets = Field(alias="outputFacets", default_factory=dict)


class _Event(_Part):
    event_time: Annotated[str, StringConstraints(pattern=_TIME)] = Field(alias="eventTime")
    producer: _Uri
    schema_url: _Uri = Field(alias="schemaURL")


class _JobEvent(_Event):
    job: _Job
    inputs: list[_Input] = Field(default_factory=list)
    outputs: list[_Output] = Field(default_factory=list)


class _RunEvent(_JobEvent):
    event_type: Literal["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"] = Field(alias="eventType", default="OTHER")
    run: _Run


class _DatasetEvent(_Event):
    dataset: _Dataset


def check_event(value: Any) -> Event:
    """Returns a JSON value that is an OpenLineage event which can be taken in.

    Raises:
        BadRecordError: It is none; the diagnosis names the first thing that is wrong.
    """
    if not isinstance(value, dict):
        raise BadRecordError("an event is a JSON object", hint=_HINT)
    kind = _kind_of(value)
    _check_depth(value)
    try:
        kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = str(first["msg"])
        raise BadRecordError(f"{place:.120}: {message[:1].lower()}{message[1:]:.160}", hint=_HINT) from error
    _check_text(value)
    try:
        told = told_by(value, imported=True)
    except (ValueError, OverflowError) as error:
        raise BadRecordError(f"eventTime: {value['eventTime']:.60} is no time", hint=_HINT) from error
    if len(told.job) > MAX_JOB_CHARACTERS:
        raise BadRecordError(f"the name of its job has more than {MAX_JOB_CHARACTERS} characters")
    if any(
        len(end) > MAX_SUBJECT_CHARACTERS
        for end in (told.step, *(end for edge in told.edges for end in (edge.source, edge.target)))
    ):
        raise BadRecordError(
            f"namespace and name of a job or dataset have more than {MAX_SUBJECT_CHARACTERS} characters together"
        )
    return value


def _kind_of(value: Mapping[str, Any]) -> type[_Event]:
    if "run" in value:
        return _RunEvent
    if "job" in value and "dataset" in value:
        raise BadRecordError("it is about a job and a dataset and of no run: which it is an event of is not told", hint=_HINT)
    if "job" not in value and "dataset" not in value:
        raise BadRecordError("it is an event of no run, no job and no dataset", hint=_HINT)
    return _JobEvent if "job" in value else _DatasetEvent


def _check_depth(value: Any) -> None:
    depth, level = 0, [value]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadRecordError(f"it is nested more than {MAX_DEPTH} deep")
        held = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [inner for inners in held for inner in inners]


def _check_text(event: Event) -> None:
    """Refuses what JSON text or a database cannot hold: numbers without end, halves of characters, NUL in names."""
    try:
        json.dumps(event, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRecordError("it holds half of a character (a lone surrogate)") from error
    except ValueError as error:
        raise BadRecordError("it holds a number that is not finite") from error
    named = [event["job"] if "job" in event else event["dataset"], *event.get("inputs", ()), *event.get("outputs", ())]
    if any("\0" in one[key] for one in named for key in ("namespace", "name")) or "\0" in event["producer"]:
        raise BadRecordError("a name in it holds a NUL character")
