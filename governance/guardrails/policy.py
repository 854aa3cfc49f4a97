"""What may be generated: a policy, written as YAML and checked before it counts.

A policy's digest is that of its canonical JSON, so that comments and layout are free. Its examples say which prompts it lets
through and which it refuses, and `groundswell guardrails test` holds it to them.
"""

from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from governance.canonical import canonical_digest, canonical_text
from governance.errors import BadRecordError
from governance.guardrails.lexicon import words_of
from governance.strict_yaml import load_mapping, one_line

FORMAT = "groundswell-guardrails/1"
MAX_BYTES = 256 << 10
_MAX_WORDS = 8
_HINT = "docs/GUARDRAILS.md describes guardrails; `groundswell guardrails show` prints those that count"


def _has_words(phrase: str) -> str:
    words = words_of(phrase)
    if not words:
        raise ValueError(f"{phrase!r} holds no word")
    if len(words) > _MAX_WORDS and words[0].isascii():
        raise ValueError(f"{phrase!r} has more than {_MAX_WORDS} words")
    if len("".join(words)) == 1 and words[0].isascii():
        raise ValueError(f"{phrase!r} is one letter, which would be found everywhere")
    return phrase


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Term = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_has_words)]
Terms = Annotated[tuple[Term, ...], Field(max_length=2000)]
Group = Annotated[tuple[Term, ...], Field(min_length=1, max_length=2000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Category(_Part):
    """A kind of prompt that is refused.

    Attributes:
        name: What it is called.
        reason: What the one who asks is told; one line.
        terms: Words and phrases, each of which is enough.
        together: Lists of groups of words and phrases; a prompt that holds one of every group of a list is refused.
        allow: Phrases that are fine although they hold a term, of this category or another.
    """

    name: Name
    reason: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
    terms: Terms = ()
    together: Annotated[tuple[Annotated[tuple[Group, ...], Field(min_length=2, max_length=5)], ...], Field(max_length=50)] = ()
    allow: Terms = ()

    @model_validator(mode="after")
    def _check(self) -> "Category":
        if not self.terms and not self.together:
            raise ValueError("a category needs terms, or groups of them that are refused together")
        return self


class ImagesPerHour(_Part):
    """How many pictures may be made within an hour; None for any number.

    Attributes:
        per_identity: By one identity.
        in_all: By all of them.
    """

    per_identity: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    in_all: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None

    @property
    def is_limited(self) -> bool:
        """Whether anything has to be counted, which takes the longer the more was ever made."""
        return self.per_identity is not None or self.in_all is not None


class Limits(_Part):
    """How much may be asked for at once, and within an hour.

    Attributes:
        max_prompt_characters: Length of a prompt.
        max_images: Pictures, or clips, of a request.
        max_frames: Frames of a clip.
        max_pixels: Pixels of a frame, width times height.
        max_images_per_hour: Pictures, or clips, within an hour.
    """

    max_prompt_characters: Annotated[int, Field(ge=1, le=20_000)] = 2_000
    max_images: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    max_frames: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    max_pixels: Annotated[int, Field(ge=1, le=2**40)] = 1 << 24
    max_images_per_hour: ImagesPerHour = ImagesPerHour()


class Memorisation(_Part):
    """What becomes of a sample that is a near-copy of a training item.

    Attributes:
        samples: `withhold` it, hand it out and `flag` it on record, or `off` for no check.
        unchecked: Where there is no index of the model's training items: `generate` and say so on record, or `refuse`.
    """

    samples: Literal["withhold", "flag", "off"] = "withhold"
    unchecked: Literal["generate", "refuse"] = "generate"


class ChampionsOf(_Part):
    """That only versions may be used that are champion of one of these environments."""

    champions_of: Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)]


class Example(_Part):
    """A prompt, and the category that refuses it; None where it is let through."""

    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    refused_as: Name | None = None


class Guardrails(_Part):
    """A policy of what may be generated.

    Attributes:
        guardrails: The format.
        name: What it is called.
        models: Which versions may be used: any that is registered, or champions alone.
        limits: How much may be asked for.
        memorisation: What becomes of near-copies of training items.
        categories: What is refused; the first that does is named.
        examples: What it lets through and what not.
    """

    guardrails: Literal["groundswell-guardrails/1"]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    models: Literal["any"] | ChampionsOf = "any"
    limits: Limits = Limits()
    memorisation: Memorisation = Memorisation()
    categories: Annotated[tuple[Category, ...], Field(max_length=50)] = ()
    examples: Annotated[tuple[Example, ...], Field(max_length=500)] = ()

    @model_validator(mode="after")
    def _check(self) -> "Guardrails":
        names = [one.name for one in self.categories]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two categories are called {repeated}")
        if unknown := next((one.refused_as for one in self.examples if one.refused_as not in {None, *names}), None):
            raise ValueError(f"an example names the category {unknown}, which there is none of")
        return self

    @property
    def document(self) -> str:
        """Its canonical JSON, of which the digest is taken."""
        return canonical_text(self._values(), floats=True)

    @property
    def digest(self) -> str:
        """SHA-256 of the document."""
        return canonical_digest(self._values(), floats=True)

    def _values(self) -> dict[str, Any]:
        """Returns what is written down; what came later is left out where nobody has set it, so that old digests hold."""
        unset = {"memorisation"} if self.memorisation == Memorisation() else set()
        return self.model_dump(mode="json", exclude=unset)


def parse_guardrails(text: str) -> Guardrails:
    """Parses a policy of what may be generated.

    Args:
        text: YAML, or its canonical JSON, which is YAML too.

    Raises:
        BadRecordError: It is too long, no YAML, or no such policy, naming the place.
    """
    value = load_mapping(text, noun="a guardrails policy", max_bytes=MAX_BYTES, hint=_HINT)
    try:
        return Guardrails.model_validate(value)
    except ValidationError as error:
        raise _problem(error) from error


def parse_document(document: str) -> Guardrails:
    """Parses a policy's canonical JSON, which takes a tenth of the time.

    Raises:
        BadRecordError: It is none.
    """
    try:
        return Guardrails.model_validate_json(document)
    except ValidationError as error:
        raise _problem(error) from error


def _problem(error: ValidationError) -> BadRecordError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "the guardrails policy"
    return BadRecordError(f"{place}: {one_line(first['msg'])}", hint=_HINT)


@lru_cache(maxsize=1)
def shipped_guardrails() -> Guardrails:
    """Returns the policy that counts until another is set."""
    return parse_guardrails(files("governance.guardrails").joinpath("policies", "shipped.yaml").read_text(encoding="utf-8"))
