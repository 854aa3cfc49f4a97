"""Writes docs/METRICS.md from the catalogue and the alert rules: ``python -m infra.monitoring.reference docs/METRICS.md``."""

import sys
from pathlib import Path
from typing import Any

import yaml

from infra.monitoring.catalogue import METRICS

FOLDER = Path(__file__).parent
_INTRODUCTION = """\
# Metrics and alerts

<!-- Written by `python -m infra.monitoring.reference docs/METRICS.md`; edit infra/monitoring, not this file. -->

The console ([CONSOLE.md](CONSOLE.md)) answers `/metrics` from the database each time, so what it says survives restarts and
covers every process of the home. While the database is away it answers 503 with one line.

```
prometheus --config.file=infra/monitoring/prometheus.yaml  # scrapes 127.0.0.1:8080, evaluates infra/monitoring/alerts.yaml
promtool test rules infra/monitoring/alerts_test.yaml      # each alert fires when it should, and not next to that
```

Grafana: copy `infra/monitoring/grafana/provisioning` to `/etc/grafana/provisioning`, and
`infra/monitoring/grafana/dashboards/groundswell.json` to `/etc/grafana/dashboards/groundswell`. What its panels ask, and what a
Prometheus answered: [DASHBOARD.md](DASHBOARD.md).

- Labels `pipeline`, `run`, `step`, `model`, `environment`, `version` name what they say; `gpu` is the index on the step's
  machine; where a TrainJob trains, the machine's number comes before it: `1:0`. Series with the label `run` are there only
  while the run goes on.
- Counters count since the home was made. Ages are `time()` less a metric that ends with `_timestamp_seconds`.
- GPUs are asked of `nvidia-smi` by the step itself, four times a minute; where it is missing there are no such series. Where
  a TrainJob trains, its machines ask, and the step passes on what they say of GPUs and of how far they have come. While it
  waits for them it says so anew at each look.
- Files `HOME/metrics/*.prom` are for a node exporter's textfile collector, where no console runs
  ([OPERATIONS.md](OPERATIONS.md)); what both have has the same name.
"""


def render() -> str:
    """Returns the page."""
    metrics = "".join(
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |\n"
        for one in sorted(METRICS, key=lambda one: one.name)
    )
    alerts = "".join(
        f"| `{rule['alert']}` | {rule['labels']['severity']} | `{rule['expr']}` | {rule.get('for', 'at once')} | "
        f"{rule['annotations']['action']} |\n"
        for rule in alert_rules()
    )
    return (
        f"{_INTRODUCTION}\n## Metrics\n| name | type | labels | meaning |\n|---|---|---|---|\n{metrics}"
        f"\n## Alerts\n| alert | severity | when | for | what to do |\n|---|---|---|---|---|\n{alerts}"
    )


def alert_rules() -> list[dict[str, Any]]:
    """Returns the alert rules in order."""
    document = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
