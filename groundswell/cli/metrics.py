"""Figures as rows: an estimate and the interval around it belong in one."""

from collections.abc import Mapping

from groundswell.cli.output import format_number

_BOUNDS = (("_low", "_high"), ("_lower", "_upper"), (".low", ".high"), (".lower", ".upper"), ("_ci_low", "_ci_high"))


def interval_of(metrics: Mapping[str, float], name: str) -> tuple[float, float] | None:
    """Returns the interval of a metric, where its bounds are among the metrics."""
    for low, high in _BOUNDS:
        if name + low in metrics and name + high in metrics:
            return metrics[name + low], metrics[name + high]
    return None


def without_bounds(metrics: Mapping[str, float]) -> list[str]:
    """Returns the names of the metrics that are not the bound of another."""
    bounds = {name + bound for name in metrics if interval_of(metrics, name) for pair in _BOUNDS for bound in pair}
    return [name for name in metrics if name not in bounds]


def metric_rows(metrics: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Returns name, value and interval of each metric."""
    rows = []
    for name in without_bounds(metrics):
        interval = interval_of(metrics, name)
        shown = f"{format_number(interval[0])} to {format_number(interval[1])}" if interval else ""
        rows.append((name, format_number(metrics[name]), shown))
    return rows
