"""Makes one part of a table of requests, each request on record as any other is."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from components.collect_results.results import BAD, MADE, REFUSED, Result
from components.generate_batch.config import Config
from components.ports import Ports, StepReport
from components.store import hand_over
from model_core.errors import BadDataError

RESULTS_NAME: Final = "results.json"


def run(config: Config, inputs: Mapping[str, Path], outputs: Mapping[str, Path], ports: Ports) -> StepReport:
    """Makes the requests of one part.

    What is done stands in the scratch folder, request by request, so that a killed part goes on after the last whole one.

    Args:
        config: What holds for rows that do not say otherwise.
        inputs: ``requests``: a folder with requests.csv, each row with its seed, and the files that rows are made from;
            ``package``, the model's, by which the work is told from other work.
        outputs: ``made``: results.json, a result a row in the table's order, and a folder for each request that was made.
        ports: What makes requests, and where progress goes.

    Raises:
        BadDataError: There is nothing that makes requests.
    """
    if ports.maker is None:
        raise BadDataError("nothing here makes requests", hint="the pipeline `generation` brings it")
    options = config.model_dump(exclude={"guardrails", "made_by", "watermark"}, exclude_none=True)
    results = [Result(**one) for one in ports.maker.make(inputs["requests"], options, ports.scratch, ports.progress)]
    for result in results:
        for name in (result.file, str(result.grid)) if result.file else ():
            hand_over(ports.scratch / name, outputs["made"] / name)
    text = json.dumps([asdict(one) for one in results], indent=1)
    (outputs["made"] / RESULTS_NAME).write_text(text, encoding="utf-8")
    counts = Counter(one.status for one in results)
    told = [f"{counts[status]:,} {status}" for status in (MADE, BAD, REFUSED) if counts[status] or status == MADE]
    return StepReport(
        metrics={f"num_{status}": float(counts[status]) for status in (MADE, BAD, REFUSED)},
        summary=", ".join(told),
        facts={"final": not any(one.may_come_out_otherwise for one in results)},
    )
