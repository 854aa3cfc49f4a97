"""The same graph in Kubeflow, in DVC and in the steps' own words."""

import os
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.images import image
from components.specs import STEPS
from infra.errors import BadSettingError
from pipelines.compiling import compile_pipeline
from pipelines.graph import PIPELINES, in_order, shown_names
from pipelines.params import resolve_params

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"

Edge = tuple[str, str, str]
"""A producing step, a consuming step, and the input's name."""

SHARES = ("plan_encoding", "encode_part")


IN_PARTS = [pipeline for pipeline, steps in PIPELINES.items() if "encode_latents" in steps]


def compiled(pipeline: str, folder: Path, *, in_parts: bool = False) -> dict[str, Any]:
    compile_pipeline(pipeline, folder / "pipeline.yaml", in_parts=in_parts)
    found: dict[str, Any] = next(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))
    return found


def kubeflow_edges(document: dict[str, Any]) -> set[Edge]:
    """The edges between steps; a loop is the step that it holds."""
    tasks, edges = steps_in(document), set()
    loops = {name: document["components"][f"comp-{name}"]["dag"]["tasks"] for name in tasks if name.startswith("for-loop")}
    for name, task in tasks.items():
        given_to_task = task.get("inputs", {}).get("artifacts", {})
        for step, inner in loops.get(name, {name: None}).items():
            for given, source in given_to_task.items() if inner is None else inner["inputs"]["artifacts"].items():
                outer = source if inner is None else given_to_task[source["componentInputArtifact"]]
                producer = outer["taskOutputArtifact"]["producerTask"]
                (producer,) = loops.get(producer, (producer,))
                made_by = "import_data" if producer.startswith("importer") else producer.replace("-", "_")
                edges.add((made_by, step.replace("-", "_"), given))
    return edges


def contracted(edges: set[Edge]) -> set[Edge]:
    """The edges of a graph in which what plans a step's parts, makes one and joins them is one step."""
    found = set()
    for producer, consumer, given in edges:
        made_by, given_to = ("encode_latents" if name in SHARES else name for name in (producer, consumer))
        if made_by != given_to:
            found.add((made_by, given_to, given))
    return found


def steps_in(document: dict[str, Any]) -> dict[str, Any]:
    """The tasks whose end the exit handler waits for."""
    assert set(document["root"]["dag"]["tasks"]) == {"exit-handler-1", "record-end"}
    found: dict[str, Any] = document["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return found


def tasks_of(document: dict[str, Any]) -> set[str]:
    """The steps of a pipeline, those inside its loops too."""
    graphs = [document["root"]["dag"], *(one["dag"] for one in document["components"].values() if "dag" in one)]
    names = {name for graph in graphs for name in graph["tasks"] if not name.startswith(("importer", "for-loop", "exit-"))}
    return {name.replace("-", "_") for name in names}


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


def test_encoded_in_parts_it_is_the_same_graph_once_the_parts_are_taken_for_one_step(tmp_path: Path) -> None:
    document = compiled("training", tmp_path, in_parts=True)
    edges = kubeflow_edges(document)
    assert {("plan_encoding", "encode_part", "plan"), ("encode_part", "encode_latents", "encoded")} < edges
    assert dvc_edges() == contracted(edges)


@pytest.mark.parametrize("pipeline", IN_PARTS)
def test_a_dataset_is_encoded_part_by_part_so_many_at_a_time_and_joined_in_one_image(pipeline: str, tmp_path: Path) -> None:
    document = compiled(pipeline, tmp_path, in_parts=True)
    loop, items = steps_in(document)["for-loop-2"], document["components"]["comp-for-loop-2"]
    assert loop["parameterIterator"]["items"]["inputParameter"] == "pipelinechannel--plan-encoding-Output"
    assert loop["iteratorPolicy"]["parallelismLimit"] == 4
    assert set(items["dag"]["tasks"]) == {"encode-part"}
    assert (
        steps_in(document)["encode-latents"]["inputs"]["artifacts"]["encoded"]["taskOutputArtifact"]["producerTask"]
        == "for-loop-2"
    )
    assert document["components"]["comp-encode-latents"]["inputDefinitions"]["artifacts"]["encoded"]["isArtifactList"]
    executors = document["deploymentSpec"]["executors"]
    images = {executors[f"exec-{name}"]["container"]["image"] for name in ("plan-encoding", "encode-part", "encode-latents")}
    assert images == {image("encode_latents")}
    for step in (*SHARES, "encode_latents"):
        component = document["components"][f"comp-{step.replace('_', '-')}"]
        assert set(component["inputDefinitions"]["artifacts"]) == set(STEPS[step].inputs)
        assert set(component["outputDefinitions"]["artifacts"]) == set(STEPS[step].outputs)


@pytest.mark.parametrize("pipeline", IN_PARTS)
def test_what_is_compiled_to_encode_in_parts_was_looked_at_and_kubeflow_reads_it_back(pipeline: str, tmp_path: Path) -> None:
    from kfp import components

    compile_pipeline(pipeline, tmp_path / "pipeline.yaml", in_parts=True)
    found, golden = (tmp_path / "pipeline.yaml").read_text(), GOLDEN / f"{pipeline}-parts.yaml"
    if os.environ.get("GROUNDSWELL_UPDATE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()
    read = components.load_component_from_file(str(tmp_path / "pipeline.yaml"))
    assert read.pipeline_spec.pipeline_info.name == f"groundswell-{pipeline}"


def test_what_a_run_records_of_a_step_in_parts_stands_in_the_order_in_which_it_is_done() -> None:
    names = ["train_dit", "encode_latents", "encode_part-0001", "validate_data", "plan_encoding", "encode_part-0000"]
    encoding = ["plan_encoding", "encode_part-0000", "encode_part-0001", "encode_latents"]
    assert in_order("training", names) == ["validate_data", *encoding, "train_dit"]
    assert shown_names("encode_latents", encoding[2::-1]) == encoding  # they are still to be joined
    assert (shown_names("encode_latents", []), shown_names("encode_latents", ["encode_latents"])) == (encoding[3:],) * 2
    assert shown_names("generate_batch", ["generate_batch-0001", "generate_batch-0000"])[-1] == "generate_batch-0001"


@pytest.mark.parametrize("pipeline", sorted({*PIPELINES} - {*IN_PARTS}))
def test_a_pipeline_that_encodes_nothing_is_not_compiled_to_encode_in_parts(pipeline: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettingError, match="encodes no dataset"):
        compile_pipeline(pipeline, tmp_path / "pipeline.yaml", in_parts=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_compiled_pipeline_runs_our_steps_in_our_images_and_installs_nothing(pipeline: str, tmp_path: Path) -> None:
    document = compiled(pipeline, tmp_path)
    assert tasks_of(document) == {*PIPELINES[pipeline], "record_end"}
    for executor in document["deploymentSpec"]["executors"].values():
        if "container" in executor:
            assert executor["container"]["image"].startswith("localhost/groundswell/")
            assert "pip install" not in " ".join(executor["container"]["command"])


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_step_gets_and_makes_what_it_declares(pipeline: str, tmp_path: Path) -> None:
    document = compiled(pipeline, tmp_path)
    for step in PIPELINES[pipeline]:
        component = document["components"][f"comp-{step.replace('_', '-')}"]
        # A part's requests are cut out of the table, by the plan, in the part's own process: they are nowhere kept.
        whole = set(STEPS[step].inputs) - STEPS[step].optional
        expected = {"table", "plan", "package"} if step == "generate_batch" else whole
        assert set(component["inputDefinitions"].get("artifacts", {})) == expected
        assert set(component["outputDefinitions"]["artifacts"]) == set(STEPS[step].outputs)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_compiled_pipeline_is_the_one_that_was_looked_at(pipeline: str, tmp_path: Path) -> None:
    """GROUNDSWELL_UPDATE_GOLDEN=1 writes the files anew; look at the difference before you commit it."""
    compile_pipeline(pipeline, tmp_path / "pipeline.yaml")
    found, golden = (tmp_path / "pipeline.yaml").read_text(), GOLDEN / f"{pipeline}.yaml"
    if os.environ.get("GROUNDSWELL_UPDATE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()


def test_a_table_is_made_part_by_part_so_many_at_a_time_and_joined(tmp_path: Path) -> None:
    document = compiled("generation", tmp_path)
    loop = steps_in(document)["for-loop-2"]
    items = document["components"]["comp-for-loop-2"]
    assert loop["parameterIterator"]["items"]["inputParameter"] == "pipelinechannel--validate-requests-Output"
    assert loop["iteratorPolicy"]["parallelismLimit"] == 4
    assert set(items["dag"]["tasks"]) == {"generate-batch"}
    joined = steps_in(document)["collect-results"]["inputs"]["artifacts"]
    assert joined["made"]["taskOutputArtifact"]["producerTask"] == "for-loop-2"
    assert document["components"]["comp-collect-results"]["inputDefinitions"]["artifacts"]["made"]["isArtifactList"]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_whatever_becomes_of_a_run_its_end_is_recorded(pipeline: str, tmp_path: Path) -> None:
    task = compiled(pipeline, tmp_path)["root"]["dag"]["tasks"]["record-end"]
    assert task["dependentTasks"] == ["exit-handler-1"]
    assert task["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert task["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert {"home", "run_id"} <= task["inputs"]["parameters"].keys()


@pytest.mark.parametrize("golden", sorted(path.name for path in GOLDEN.glob("*.yaml")))
def test_kubeflow_reads_back_what_was_compiled(golden: str) -> None:
    from kfp import components

    read = components.load_component_from_file(str(GOLDEN / golden))
    assert read.pipeline_spec.pipeline_info.name == f"groundswell-{golden.partition('.')[0].partition('-')[0]}"


def test_the_file_of_parameters_holds_the_defaults_and_dvc_watches_all_of_them() -> None:
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    defaults = resolve_params("training").model_dump(mode="json")
    assert resolve_params("training", params_file=ROOT / "params.yaml").model_dump(mode="json") == defaults
    assert set(written) == set(defaults)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {name for stage in stages.values() for name in stage["params"]} == set(defaults)
