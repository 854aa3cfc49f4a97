from groundswell.cli.comparing import compare, flatten, show_value
from groundswell.cli.metrics import metric_rows, without_bounds


def test_comparison_marks_what_differs_and_the_change() -> None:
    found = compare(["a", "b"], [{"kid": 0.5, "same": 1}, {"kid": 0.25, "same": 1, "new": True}])
    assert found.rows() == [("kid", "0.5", "0.25", "-0.25"), ("same", "1", "1", ""), ("new", "-", "yes", "")]
    assert list(found.differing) == ["kid", "new"]
    assert found.to_dict()["kid"] == {"a": 0.5, "b": 0.25}


def test_three_are_compared_without_a_change() -> None:
    assert compare(["a", "b", "c"], [{"x": 1}, {"x": 2}, {}]).rows() == [("x", "1", "2", "-")]


def test_nested_keys_are_dotted() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": [1, 2]}) == {"a.b.c": 1, "d": [1, 2]}
    assert show_value([1, "x"]) == "1, x"


def test_bounds_stand_beside_their_estimate() -> None:
    metrics = {"kid": 0.01, "kid_low": 0.005, "kid_high": 0.02, "loss": 1.0, "pass_low": 3.0}
    assert without_bounds(metrics) == ["kid", "loss", "pass_low"]
    assert metric_rows(metrics)[0] == ("kid", "0.01", "0.005 to 0.02")
