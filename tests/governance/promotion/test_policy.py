"""Policies: what is one, what is refused, and what its gates make of a candidate."""

from importlib.resources import files

import pytest

from governance.errors import BadRecordError
from governance.promotion.gates import Difference, Evidence, Judgement, judge, judged_about, run_example
from governance.promotion.policy import parse_policy

BASE = """
policy: groundswell-policy/1
name: plain
environment: production
approvals: {count: 1}
gates: {}
"""


def gates(text: str):
    return parse_policy(BASE.replace("gates: {}", f"gates: {text}")).gates


def refusing(text: str, **evidence: object) -> list[str]:
    known = {"metrics": {}, "validation": {"digest": "ab"}} | evidence
    return [result.gate for result in judge(gates(text), Evidence(**known)) if not result.passed]


@pytest.mark.parametrize("name", ["production", "staging"])
def test_the_shipped_policies_hold_their_own_examples(name):
    policy = parse_policy(files("governance.promotion").joinpath("policies", f"{name}.yaml").read_text())
    assert policy.environment == name
    assert policy.examples
    assert {example.name: run_example(policy, example) for example in policy.examples} == {
        example.name: example.refused_by for example in policy.examples
    }


def test_the_digest_is_of_what_it_says_not_of_how_it_is_written():
    one = parse_policy(BASE)
    other = parse_policy("# a comment\n" + BASE.replace("name: plain", 'name: "plain"'))
    assert one.digest == other.digest == parse_policy(one.document).digest
    assert one.digest != parse_policy(BASE.replace("count: 1", "count: 2")).digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no mapping"),
        ("[1, 2]", "no mapping"),
        ("a: [", "no YAML"),
        ("a: &x [1]\nb: *x", "aliases"),
        (BASE + "name: twice", "stands twice"),
        (BASE + "extra: 1", "extra"),
        (BASE.replace("count: 1", "count: 0"), "approvals.count"),
        (BASE.replace("count: 1", "count: 2, at_least: {ops: 3}"), "at_least"),
        (BASE.replace("count: 1", "count: 2, roles: [king]"), "approvals.roles"),
        (BASE.replace("environment: production", "environment: ../x"), "environment"),
        (BASE.replace("gates: {}", "gates: {thresholds: [{metric: kid}]}"), "min or max"),
        (BASE.replace("gates: {}", "gates: {thresholds: [{metric: kid, max: .nan}]}"), "thresholds"),
        (BASE.replace("gates: {}", "gates: {non_inferiority: [{metric: kid, better: lower, margin: -1}]}"), "margin"),
        ("a: !!python/object/apply:os.system ['true']", "no YAML"),
        ("x" * 70_000, "64 KiB"),
        ("{" * 60_000, "nested"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_line(text, says):
    with pytest.raises(BadRecordError, match=says) as caught:
        parse_policy(text)
    assert "\n" not in caught.value.diagnosis


def test_what_is_unknown_does_not_pass():
    assert refusing("{}", validation=None) == ["validation"]
    assert refusing("{licences: [MIT]}", licences=None) == ["licences"]
    assert refusing("{evidence_max_age_days: 3}", age_s=None) == ["age"]
    assert refusing("{memorisation: {max_share: 0.5}}") == ["memorisation"]
    assert refusing("{thresholds: [{metric: kid, max: 1}]}") == ["threshold.kid"]
    rule = "{non_inferiority: [{metric: kid, better: lower, margin: 0.1}]}"
    assert refusing(rule, differences={}) == ["non-inferior.kid"]
    assert refusing(rule, differences={"kid": Difference(problem="on different holdouts")}) == ["non-inferior.kid"]
    assert refusing(rule, differences=None) == []


@pytest.mark.parametrize(
    ("better", "low", "high", "passes"),
    [
        ("lower", -0.2, 0.1, True),
        ("lower", -0.2, 0.100001, False),
        ("higher", -0.1, 0.3, True),
        ("higher", -0.100001, 0.3, False),
    ],
)
def test_the_worse_end_of_the_interval_is_held_against_the_margin(better, low, high, passes):
    rule = f"{{non_inferiority: [{{metric: a, better: {better}, margin: 0.1}}]}}"
    found = Difference(candidate=1.0, champion=1.0, difference=0.0, low=low, high=high)
    assert refusing(rule, differences={"a": found}) == ([] if passes else ["non-inferior.a"])


def test_bounds_are_inclusive():
    assert refusing("{thresholds: [{metric: a, min: 0.5, max: 0.5}]}", metrics={"a": 0.5}) == []
    assert refusing("{evidence_max_age_days: 1}", age_s=86_400.0) == []
    assert refusing("{evidence_max_age_days: 1}", age_s=86_401.0) == ["age"]


def test_the_evidence_root_is_of_every_value_that_a_gate_saw():
    from datetime import UTC, datetime

    about = judged_about(
        name="m",
        version=1,
        root_digest="ab" * 32,
        environment="production",
        policy_digest="cd" * 32,
        champion=None,
        judged=datetime(2026, 1, 1, tzinfo=UTC),
    )

    def root(value: float) -> str:
        results = judge(gates("{thresholds: [{metric: a, max: 1}]}"), Evidence(metrics={"a": value}, validation={}))
        return Judgement(results=results, about=about).root

    assert root(0.25) == root(0.25) != root(0.25000001)
