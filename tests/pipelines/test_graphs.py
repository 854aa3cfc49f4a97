"""The same graph in Kubeflow, in DVC and in the steps' own words."""

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.specs import STEPS
from pipelines.compiling import compile_pipeline
from pipelines.graph import PIPELINES
from pipelines.params import resolve_params

ROOT = Path(__file__).parents[2]

Edge = tuple[str, str, str]
"""A producing step, a consuming step, and the input's name."""


def compiled(pipeline: str, folder: Path) -> dict[str, Any]:
    compile_pipeline(pipeline, folder / "pipeline.yaml")
    found: dict[str, Any] = next(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))
    return found


def kubeflow_edges(document: dict[str, Any]) -> set[Edge]:
    edges = set()
    for name, task in document["root"]["dag"]["tasks"].items():
        for given, source in task.get("inputs", {}).get("artifacts", {}).items():
            producer = source["taskOutputArtifact"]["producerTask"].replace("-", "_")
            edges.add(("import_data" if producer.startswith("importer") else producer, name.replace("-", "_"), given))
    return edges


def dvc_edges() -> set[Edge]:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made, edges = {}, set()
    for name, stage in stages.items():
        words = shlex.split(stage["cmd"])
        for flag, value in pairwise(words):
            if flag == "--output":
                made[value.partition("=")[2]] = name
    for name, stage in stages.items():
        words = shlex.split(stage["cmd"])
        given = dict(value.split("=") for flag, value in pairwise(words) if flag == "--input")
        assert sorted(given.values()) == sorted(stage.get("deps", []))
        assert sorted(path for path, by in made.items() if by == name) == sorted(stage["outs"])
        edges |= {(made[path], name, given_name) for given_name, path in given.items()}
        if "codec" in STEPS[name].inputs if name in STEPS else False:
            assert "codec" in stage["params"]
            edges.add(("import_data", name, "codec"))
    return edges


def test_dvc_and_kubeflow_have_the_same_graph(tmp_path: Path) -> None:
    assert dvc_edges() == kubeflow_edges(compiled("training", tmp_path))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_compiled_pipeline_runs_our_steps_in_our_images_and_installs_nothing(pipeline: str, tmp_path: Path) -> None:
    document = compiled(pipeline, tmp_path)
    tasks = [name.replace("-", "_") for name in document["root"]["dag"]["tasks"] if not name.startswith("importer")]
    assert sorted(tasks) == sorted(PIPELINES[pipeline])
    for executor in document["deploymentSpec"]["executors"].values():
        if "container" in executor:
            assert executor["container"]["image"].startswith("localhost/groundswell/")
            assert "pip install" not in " ".join(executor["container"]["command"])


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_step_gets_and_makes_what_it_declares(pipeline: str, tmp_path: Path) -> None:
    document = compiled(pipeline, tmp_path)
    for step in PIPELINES[pipeline]:
        component = document["components"][f"comp-{step.replace('_', '-')}"]
        assert set(component["inputDefinitions"].get("artifacts", {})) == set(STEPS[step].inputs)
        assert set(component["outputDefinitions"]["artifacts"]) == set(STEPS[step].outputs)


def test_the_file_of_parameters_holds_the_defaults_and_dvc_watches_all_of_them() -> None:
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    defaults = resolve_params("training").model_dump(mode="json")
    assert resolve_params("training", params_file=ROOT / "params.yaml").model_dump(mode="json") == defaults
    assert set(written) == set(defaults)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {name for stage in stages.values() for name in stage["params"]} == set(defaults)
