"""A policy of what may be generated: how it is written, what is refused, and that the shipped one keeps its word."""

import re
import time

import pytest
import yaml

from governance.errors import BadRecordError
from governance.guardrails.judging import (
    BadPromptError,
    GuardrailError,
    Size,
    failed_example,
    find_refusal,
    require_allowed,
    require_model,
    require_pixels,
    require_rate,
    require_size,
    require_text,
)
from governance.guardrails.policy import Guardrails, parse_document, parse_guardrails, shipped_guardrails

POLICY = """
guardrails: groundswell-guardrails/1
name: mine
models: {champions_of: [production, canary]}
limits:
  {max_prompt_characters: 50, max_images: 8, max_frames: 16, max_pixels: 4096,
   max_images_per_hour: {per_identity: 10, in_all: 20}}
categories:
  - {name: violence, reason: no violence please, terms: [kill]}
examples:
  - {prompt: kill him, refused_as: violence}
  - {prompt: skill}
"""


@pytest.fixture
def policy() -> Guardrails:
    return parse_guardrails(POLICY)


def test_a_policy_survives_its_document_and_comments_do_not_count(policy: Guardrails) -> None:
    assert parse_guardrails(policy.document) == parse_document(policy.document) == policy
    assert parse_guardrails(f"# mine\n{POLICY}").digest == policy.digest
    assert parse_guardrails(POLICY.replace("kill]", "murder]")).digest != policy.digest


def test_its_own_examples_are_judged(policy: Guardrails) -> None:
    assert [failed_example(policy, one) for one in policy.examples] == [None, None]
    changed = parse_guardrails(POLICY.replace("[kill]", "[murder, skill]"))
    assert [failed_example(changed, one) for one in changed.examples] == [
        "refused as nothing, not as violence",
        "refused as violence, not as nothing",
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("terms: [kill]", "terms: []", "needs terms"),
        ("terms: [kill]", "terms: ['...']", "holds no word"),
        ("terms: [kill]", "terms: [k]", "one letter"),
        ("terms: [kill]", "terms: [a b c d e f g h i]", "more than 8 words"),
        ("terms: [kill]", "together: [[[kill]]]", "together"),
        ("refused_as: violence", "refused_as: hate", "which there is none of"),
        ("reason: no violence please", 'reason: "a\\nb"', "reason"),
        ("max_images: 8", "max_images: 0", "max_images"),
        ("max_prompt_characters: 50", "max_prompt_characters: 1000000", "max_prompt_characters"),
        ("champions_of: [production, canary]", "champions_of: []", "models"),
        ("name: mine", "name: mine\nname: yours", "stands twice"),
        ("name: mine", "name: mine\ncolour: red", "colour"),
        ("groundswell-guardrails/1", "groundswell-guardrails/2", "guardrails"),
        ("[kill]", "*kill", "alias"),
    ],
)
def test_a_bad_policy_is_refused_naming_the_place(old: str, new: str, problem: str) -> None:
    with pytest.raises(BadRecordError, match=re.escape(problem)):
        parse_guardrails(POLICY.replace(old, new))


def test_two_categories_of_one_name_are_refused() -> None:
    twice = POLICY.replace("examples:", "  - {name: violence, reason: neither, terms: [stab]}\nexamples:")
    with pytest.raises(BadRecordError, match="two categories are called violence"):
        parse_guardrails(twice)


def test_a_refusal_names_rule_and_category_and_never_the_prompt(policy: Guardrails) -> None:
    with pytest.raises(GuardrailError) as refused:
        require_allowed(policy, "kill my neighbour Zebedee")
    error = refused.value
    assert (error.rule, error.category, error.exit_code) == ("prompt", "violence", 5)
    assert "no violence please" in error.diagnosis
    assert "Zebedee" not in f"{error.diagnosis} {error.hint} {error}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        (" \n\t ", "is empty"),
        ("x" * 51, "has 51 characters, at most 50"),
        ("a\x1b[31mb", "character 2 is U+001B"),
        ("a\x00", "character 2 is U+0000"),
        ("\udcff", "U+DCFF"),
    ],
)
def test_what_is_no_prompt_is_bad_input(policy: Guardrails, text: str, problem: str) -> None:
    with pytest.raises(BadPromptError, match=re.escape(problem)) as refused:
        require_text(policy, text)
    assert refused.value.exit_code == 3
    assert "\n" not in refused.value.diagnosis


def test_a_prompt_may_have_lines_and_any_script(policy: Guardrails) -> None:
    require_text(policy, "a fox\n\tin the snow, 猫 🦊 👩‍🚒 e\u0301")


def test_a_million_characters_are_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(BadPromptError):
        require_text(shipped_guardrails(), "k i l l " * 125_000)
    assert time.process_time() - began < 1


def test_limits_hold_up_to_their_number(policy: Guardrails) -> None:
    require_size(policy, Size(num_images=8, num_frames=16))
    require_pixels(policy, 4096)
    require_rate(policy, Size(num_images=2), by_identity=8, in_all=18)
    for size, rule in ((Size(num_images=9), "max_images"), (Size(num_frames=17), "max_frames")):
        with pytest.raises(GuardrailError, match=rule):
            require_size(policy, size)
    with pytest.raises(GuardrailError, match="max_pixels"):
        require_pixels(policy, 4097)
    with pytest.raises(GuardrailError, match="one identity"):
        require_rate(policy, Size(num_images=2), by_identity=9, in_all=9)
    with pytest.raises(GuardrailError, match="all together"):
        require_rate(policy, Size(num_images=2), by_identity=0, in_all=19)


def test_only_champions_of_the_named_environments_may_be_used(policy: Guardrails) -> None:
    require_model(policy, "m/1", ["canary"])
    require_model(parse_guardrails(POLICY.replace("{champions_of: [production, canary]}", "any")), "m/1", [])
    for environments in ([], ["staging"]):
        with pytest.raises(GuardrailError, match="not the champion of production or canary"):
            require_model(policy, "m/1", environments)


def test_the_shipped_policy_keeps_its_examples_and_can_be_written_out_and_read_again() -> None:
    policy = shipped_guardrails()
    assert [failed_example(policy, one) for one in policy.examples] == [None] * len(policy.examples)
    assert len({one.refused_as for one in policy.examples} - {None}) == len(policy.categories)
    written = yaml.safe_dump(policy.model_dump(mode="json", exclude_none=True), allow_unicode=True)
    assert parse_guardrails(written).digest == policy.digest


def test_the_shipped_policy_lets_its_own_reasons_and_names_through_or_refuses_them_for_what_they_are() -> None:
    policy = shipped_guardrails()
    for category in policy.categories:
        for term in category.terms:
            found = find_refusal(policy, term)
            assert found is not None, term


def test_a_policy_from_before_there_was_a_memorisation_check_keeps_its_digest_and_gets_the_default() -> None:
    old = parse_guardrails("{guardrails: groundswell-guardrails/1, name: mine}")
    assert "memorisation" not in old.document
    assert parse_document(old.document) == old
    assert (old.memorisation.samples, old.memorisation.unchecked) == ("withhold", "generate")
    spelt_out = parse_guardrails("{guardrails: groundswell-guardrails/1, name: mine, memorisation: {samples: withhold}}")
    assert spelt_out.digest == old.digest
    flagging = parse_guardrails("{guardrails: groundswell-guardrails/1, name: mine, memorisation: {samples: flag}}")
    assert flagging.digest != old.digest
    assert parse_document(flagging.document) == flagging
