"""Whether a policy lets a request through. Nothing here reads a clock or a table, and no error repeats a prompt."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final, NoReturn

from governance.errors import GovernanceError, RefusedError
from governance.guardrails.lexicon import Lexicon
from governance.guardrails.matching import Match, matches
from governance.guardrails.policy import Category, Example, Guardrails

_HINT: Final = "docs/GUARDRAILS.md says what is refused, and why; `groundswell guardrails show` prints the policy"
_LAYOUT: Final = frozenset("\t\n\r")


class GuardrailError(RefusedError):
    """The policy of what may be generated does not allow it.

    Args:
        diagnosis: One line that says why, without the prompt.
        rule: The rule that refuses, such as ``prompt`` or ``max_images``.
        category: The category, where it is the prompt.
        hint: What to do about it.
    """

    def __init__(self, diagnosis: str, *, rule: str, category: str | None = None, hint: str = _HINT) -> None:
        super().__init__(diagnosis, hint=hint)
        self.rule = rule
        self.category = category


class BadPromptError(GovernanceError):
    """A prompt is no text that a model could be given."""

    exit_code = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why a text is refused.

    Attributes:
        category: The category.
        terms: The terms of the policy that it holds; several where they are refused together.
    """

    category: Category
    terms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is asked for: pictures or clips, and frames of each."""

    num_images: int = 1
    num_frames: int = 1


def require_text(policy: Guardrails, text: str, *, noun: str = "prompt") -> None:
    """Checks that a prompt is a text, of a length that is allowed; the length first, so that a long one takes no time.

    Args:
        policy: The policy.
        text: The prompt.
        noun: What it is, for errors.

    Raises:
        BadPromptError: It is empty, too long, or holds control characters or halves of characters.
    """
    longest = policy.limits.max_prompt_characters
    if len(text) > longest:
        raise BadPromptError(
            f"the {noun} has {len(text):,} characters, at most {longest:,} are allowed", hint="say it in fewer words"
        )
    if not text.strip():
        raise BadPromptError(f"the {noun} is empty", hint="say what to show")
    for place, character in enumerate(text):
        if unicodedata.category(character) in {"Cc", "Cs"} and character not in _LAYOUT:
            raise BadPromptError(
                f"the {noun}'s character {place + 1} is U+{ord(character):04X}, which is no character of a text",
                hint="leave control characters out, and give it in UTF-8",
            )


def find_refusal(policy: Guardrails, text: str) -> Finding | None:
    """Returns why a text is refused, by the first category that does; None where it is let through."""
    return _judge_of(policy)(text)


def require_allowed(policy: Guardrails, text: str) -> None:
    """Checks a text against the categories.

    Raises:
        GuardrailError: A category refuses it.
    """
    if found := find_refusal(policy, text):
        raise GuardrailError(
            f"refused by the guardrails ({found.category.name}): {found.category.reason}",
            rule="prompt",
            category=found.category.name,
        )


def require_size(policy: Guardrails, size: Size) -> None:
    """Checks how much is asked for at once.

    Raises:
        GuardrailError: It is more than the policy's limits.
    """
    if size.num_images > policy.limits.max_images:
        _refuse_size("max_images", size.num_images, policy.limits.max_images, "pictures at once")
    if size.num_frames > policy.limits.max_frames:
        _refuse_size("max_frames", size.num_frames, policy.limits.max_frames, "frames of a clip")


def require_pixels(policy: Guardrails, pixels: int) -> None:
    """Checks the size of a frame, width times height in pixels.

    Raises:
        GuardrailError: It is more than the policy's limit.
    """
    if pixels > policy.limits.max_pixels:
        _refuse_size("max_pixels", pixels, policy.limits.max_pixels, "pixels of a frame")


def require_model(policy: Guardrails, model: str, champion_of: Sequence[str]) -> None:
    """Checks that a version may be used.

    Args:
        policy: The policy.
        model: ``name/version``.
        champion_of: The environments that it is the champion of.

    Raises:
        GuardrailError: The policy asks for a champion, and it is none.
    """
    if policy.models != "any" and not set(policy.models.champions_of) & set(champion_of):
        wanted = " or ".join(policy.models.champions_of)
        raise GuardrailError(
            f"refused by the guardrails (models): {model} is not the champion of {wanted}",
            rule="models",
            hint=f"name a champion, such as NAME@{policy.models.champions_of[0]}; `groundswell promote list` shows them",
        )


def require_rate(policy: Guardrails, size: Size, *, by_identity: int, in_all: int) -> None:
    """Checks how much was made within the last hour.

    Args:
        policy: The policy.
        size: What is asked for.
        by_identity: Pictures that the one who asks made within an hour.
        in_all: Pictures that everybody made.

    Raises:
        GuardrailError: With those that are asked for there would be more than the policy's limits.
    """
    limits = policy.limits.max_images_per_hour
    for rule, made, limit, who in (
        ("max_images_per_hour.per_identity", by_identity, limits.per_identity, "one identity"),
        ("max_images_per_hour.in_all", in_all, limits.in_all, "all together"),
    ):
        if limit is not None and made + size.num_images > limit:
            raise GuardrailError(
                f"refused by the guardrails ({rule}): {made:,} pictures within an hour, at most {limit:,} by {who}",
                rule=rule,
                hint="ask for fewer, or later",
            )


def require_check(policy: Guardrails, *, unchecked: str) -> None:
    """Checks that samples can be held against the model's training items, where the policy asks for that.

    Args:
        policy: The policy.
        unchecked: Why they cannot; "" where they can.

    Raises:
        GuardrailError: They cannot, and the policy does not let samples through that were not checked.
    """
    if unchecked and policy.memorisation.samples != "off" and policy.memorisation.unchecked == "refuse":
        raise GuardrailError(
            f"refused by the guardrails (memorisation): samples cannot be held against training items: {unchecked}",
            rule="memorisation",
            hint="run the model's training pipeline again, which makes it, or set memorisation.unchecked to generate",
        )


def failed_example(policy: Guardrails, example: Example) -> str | None:
    """Returns in which way an example does not hold, None where it does."""
    found = find_refusal(policy, example.prompt)
    got = found.category.name if found else None
    if got == example.refused_as:
        return None
    return f"refused as {got or 'nothing'}, not as {example.refused_as or 'nothing'}"


def _refuse_size(rule: str, asked: int, limit: int, what: str) -> NoReturn:
    raise GuardrailError(
        f"refused by the guardrails ({rule}): {asked:,} {what} are asked for, at most {limit:,} are allowed",
        rule=rule,
        hint="ask for less",
    )


@lru_cache(maxsize=4)
def _judge_of(policy: Guardrails) -> Callable[[str], Finding | None]:
    """Makes a policy's phrases ready to be looked up, once for each policy."""
    phrases: dict[str, int] = {}
    for category in policy.categories:
        for phrase in chain(category.terms, category.allow, *chain.from_iterable(category.together)):
            phrases.setdefault(phrase, len(phrases))
    lexicon, names = Lexicon(phrases), tuple(phrases)
    allowed = {phrases[one] for category in policy.categories for one in category.allow}

    def judge(text: str) -> Finding | None:
        views = [set(_uncovered(found, allowed, names)) for found in matches(lexicon, text)]
        return next((found for category in policy.categories for held in views if (found := _found(category, held))), None)

    return judge


def _uncovered(found: Sequence[Match], allowed: set[int], names: Sequence[str]) -> Iterator[str]:
    """Yields the phrases that no phrase which is allowed covers."""
    reached = 0  # how far the phrases go that are allowed and began so far
    for one in sorted(found, key=lambda one: (one.start, one.phrase not in allowed)):
        if one.phrase in allowed:
            reached = max(reached, one.end)
        elif one.end > reached:
            yield names[one.phrase]


def _found(category: Category, held: set[str]) -> Finding | None:
    if one := next((term for term in category.terms if term in held), None):
        return Finding(category=category, terms=(one,))
    for groups in category.together:
        terms = tuple(next((term for term in group if term in held), "") for group in groups)
        if all(terms):
            return Finding(category=category, terms=terms)
    return None
