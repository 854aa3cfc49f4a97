"""Reads YAML that came from outside: one mapping, no aliases, no deep nesting, no key twice."""

import re
from typing import Any

import yaml

from governance.errors import BadRecordError

_MAX_DEPTH = 12


def load_mapping(text: str, *, noun: str, max_bytes: int, hint: str) -> dict[Any, Any]:
    """Parses a mapping.

    Args:
        text: YAML, or JSON, which is YAML too.
        noun: What it is, with its article, for errors: ``a policy``.
        max_bytes: The most it may be, in UTF-8.
        hint: What errors advise.

    Raises:
        BadRecordError: It is too long, no YAML, or no mapping.
    """
    the = f"the {noun.partition(' ')[2]}"
    if len(text.encode(errors="surrogatepass")) > max_bytes:
        raise BadRecordError(f"{noun} of more than {max_bytes >> 10} KiB is none", hint=hint)
    try:
        _check_events(text, noun, the, hint)
        value = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadRecordError(f"{the} is no YAML: {one_line(error)}", hint=hint) from error
    if not isinstance(value, dict):
        raise BadRecordError(f"{the} is no mapping", hint=hint)
    return value


def one_line(error: object) -> str:
    """Returns an error's text in one line of at most 200 characters."""
    return re.sub(r"\s+", " ", str(error))[:200]


def _check_events(text: str, noun: str, the: str, hint: str) -> None:
    """Refuses, before anything is built, what a short text makes large or slow: aliases, and nesting, which costs its square."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise BadRecordError(f"{noun} has no YAML aliases", hint="write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise BadRecordError(f"{the} is nested more than {_MAX_DEPTH} deep", hint=hint)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping in which a key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        texts = list(map(str, keys))
        if repeated := next((text for text in texts if texts.count(text) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"{repeated!r:.80} stands twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)
