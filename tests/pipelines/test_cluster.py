"""What steps get on a cluster: the example of the guide, compiled; and files that are refused with one line."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from governance.errors import IntegrityError
from groundswell.cli.main import main
from infra.errors import BadSettingError
from infra.train_jobs.plan import read_plan
from pipelines.cluster import Cluster, read_cluster
from pipelines.compiling import compile_pipeline, read_compiled
from pipelines.graph import PIPELINES
from tests.pipelines.calling import call_here

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
ENCODING = ("plan-encoding", "encode-part", "encode-latents")


def shown() -> list[str]:
    """What the guide shows: a cluster's file, what is added to it for TrainJobs, and the Role for these."""
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "KUBEFLOW.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "cluster.yaml"
    path.write_text(shown()[0])
    return path


@pytest.fixture(scope="module")
def with_train_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's file, with what it adds for TrainJobs in place of the step's own accelerator."""
    values, added = map(yaml.safe_load, shown()[:2])
    path = tmp_path_factory.mktemp("cluster") / "cluster.yaml"
    path.write_text(yaml.safe_dump({**values, **added, "steps": {**values["steps"], **added["steps"]}}))
    return path


def compiled(pipeline: str, cluster: Cluster, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The executors, and what Kubernetes is told of each."""
    compile_pipeline(pipeline, folder / "pipeline.yaml", cluster=cluster)
    spec, platforms = yaml.safe_load_all((folder / "pipeline.yaml").read_text())
    return spec, platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_what_the_guide_shows_compiles_to_what_was_looked_at(pipeline: str, example: Path, tmp_path: Path) -> None:
    compile_pipeline(pipeline, tmp_path / "pipeline.yaml", cluster=read_cluster(example))
    found, golden = (tmp_path / "pipeline.yaml").read_text(), GOLDEN / f"{pipeline}-cluster.yaml"
    if os.environ.get("GROUNDSWELL_UPDATE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()


def test_with_a_train_job_the_training_step_is_told_to_launch_it_and_asks_for_no_accelerator(
    with_train_job: Path, tmp_path: Path
) -> None:
    compile_pipeline("training", tmp_path / "pipeline.yaml", cluster=read_cluster(with_train_job))
    found, golden = (tmp_path / "pipeline.yaml").read_text(), GOLDEN / "training-train-job.yaml"
    if os.environ.get("GROUNDSWELL_UPDATE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()
    spec, _ = yaml.safe_load_all(found)
    executors = {name: one["container"] for name, one in spec["deploymentSpec"]["executors"].items() if "container" in one}
    told = {name: {each["name"]: each["value"] for each in one.get("env", ())} for name, one in executors.items()}
    assert {name for name, one in told.items() if "GROUNDSWELL_TRAIN_JOB" in one} == {"exec-train-dit", "exec-record-end"}
    assert "accelerator" not in executors["exec-train-dit"]["resources"]
    plan = read_plan(told["exec-train-dit"]["GROUNDSWELL_TRAIN_JOB"])
    assert (plan.job.num_nodes, plan.job.num_processes, plan.claim, plan.deadline_s) == (4, 32, "groundswell-home", 3 * 86_400)
    assert plan.image == executors["exec-train-dit"]["image"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"home": None}, "train_job: its machines share the volume with the home, and none is named"),
        ({"steps": {"train_dit": {"accelerator": {"type": "nvidia.com/gpu"}}}}, "the step only watches"),
        ({"train_job": {"num_nodes": 0}}, "train_job.num_nodes: Input should be greater than or equal to 1"),
        ({"train_job": {"num_nodes": 2, "podSpecOverrides": []}}, "train_job.podSpecOverrides: Extra inputs"),
        ({"train_job": {"num_nodes": 2, "environment": {"PET_NNODES": "3"}}}, "PET_NNODES is what the training runtime tells"),
        ({"train_job": {"num_nodes": 2, "environment": {"HF_TOKEN": "hunter2"}}}, "HF_TOKEN is a secret"),
        (
            {"train_job": {"num_nodes": 2, "processes_per_node": 8, "accelerator": {"type": "nvidia.com/gpu", "count": 4}}},
            "8 processes_per_node share 4 accelerators",
        ),
        ({"images": {}}, "the image of train_dit is not named"),
    ],
)
def test_a_train_job_that_cannot_be_is_refused_when_it_is_compiled(
    change: dict[str, Any], words: str, with_train_job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "cluster.yaml", tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(with_train_job.read_text()), **change}))
    assert main(["compile", "training", "--cluster", str(path), "-o", str(out)]) == 3
    told = capsys.readouterr().err
    assert words in told
    assert "hunter2" not in told
    assert [line.partition(":")[0] for line in told.splitlines()] == ["error", "hint"]
    assert [*tmp_path.iterdir()] == [path]


def test_the_guides_role_is_what_the_client_asks_for() -> None:
    role = yaml.safe_load(shown()[2])
    (trainer, core) = role["rules"]
    assert (trainer["apiGroups"], trainer["resources"]) == (["trainer.kubeflow.org"], ["trainjobs"])
    assert {*trainer["verbs"]} == {"create", "get", "list", "delete"}
    assert ({*core["resources"]}, {*core["verbs"]}) == ({"pods", "events"}, {"get", "list"})


def test_a_step_gets_its_resources_its_nodes_and_further_attempts(example: Path, tmp_path: Path) -> None:
    spec, kubernetes = compiled("training", read_cluster(example), tmp_path)
    executors = spec["deploymentSpec"]["executors"]
    trains = executors["exec-train-dit"]["container"]
    assert trains["image"].startswith("registry.example/groundswell/train-dit@sha256:1111")
    resources = trains["resources"]
    assert (resources["resourceCpuLimit"], resources["resourceMemoryLimit"]) == ("8", "64Gi")
    assert (resources["accelerator"]["resourceCount"], resources["accelerator"]["resourceType"]) == ("1", "nvidia.com/gpu")
    assert kubernetes["exec-train-dit"]["nodeSelector"]["labels"] == {"pool": "gpu"}
    assert kubernetes["exec-train-dit"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert kubernetes["exec-train-dit"]["activeDeadlineSeconds"] == str(3 * 86_400)
    assert "accelerator" not in executors["exec-evaluate"]["container"]["resources"]
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert tasks["train-dit"]["retryPolicy"] == {
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "600s",
        "maxRetryCount": 2,
    }
    assert not any(task.get("cachingOptions") for task in tasks.values())


def test_parts_of_a_dataset_get_what_the_step_gets_in_its_image_and_their_plan_no_accelerator(
    example: Path, tmp_path: Path
) -> None:
    values = yaml.safe_load(example.read_text())
    gpu = {"cpu": "8", "accelerator": {"type": "nvidia.com/gpu", "count": 1}, "node_selector": {"pool": "gpu"}, "timeout": "2d"}
    image = f"registry.example/groundswell/encode-latents@sha256:{'2' * 64}"
    values |= {"steps": {"encode_latents": gpu}, "images": {"encode_latents": image}}
    compile_pipeline("training", tmp_path / "pipeline.yaml", cluster=Cluster.model_validate(values), in_parts=True)
    spec, platforms = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    kubernetes = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = {name: spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"] for name in ENCODING}
    assert {one["image"] for one in executors.values()} == {image}
    assert {name for name, one in executors.items() if "accelerator" in one["resources"]} == {"encode-part", "encode-latents"}
    assert executors["encode-part"]["resources"] == executors["encode-latents"]["resources"]
    assert kubernetes["exec-encode-part"] == kubernetes["exec-encode-latents"]
    assert kubernetes["exec-encode-part"]["activeDeadlineSeconds"] == str(2 * 86_400)
    assert executors["plan-encoding"]["resources"]["resourceCpuLimit"] == "2"
    assert kubernetes["exec-plan-encoding"]["pvcMount"] == kubernetes["exec-encode-part"]["pvcMount"]
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert tasks["for-loop-2"]["iteratorPolicy"]["parallelismLimit"] == 8
    assert spec["components"]["comp-for-loop-2"]["dag"]["tasks"]["encode-part"]["retryPolicy"]["maxRetryCount"] == 2
    own = Cluster.model_validate({**values, "steps": {"encode_latents": gpu, "encode_part": {"cpu": "3"}}})
    assert (own.resources("encode_part").cpu, own.resources("encode_part").node_selector) == ("3", {"pool": "gpu"})


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_step_mounts_the_home_and_gets_secrets_by_name_alone(pipeline: str, example: Path, tmp_path: Path) -> None:
    spec, kubernetes = compiled(pipeline, read_cluster(example), tmp_path)
    steps = {name for name, one in spec["deploymentSpec"]["executors"].items() if "container" in one}
    assert steps == set(kubernetes)
    for one in kubernetes.values():
        (volume,) = one["pvcMount"]
        assert (volume["constant"], volume["mountPath"]) == ("groundswell-home", "/groundswell")
        variables = {entry["envVar"] for secret in one["secretAsEnv"] for entry in secret["keyToEnv"]}
        assert variables == {"GROUNDSWELL_DATABASE_URL", "PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        assert one["activeDeadlineSeconds"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("home: {claim: home}\nstep: {}\n", "step: Extra inputs"),
        ("home: {claim: home}\nsteps: {trian_dit: {cpu: 1}}\n", "there is no step 'trian_dit'"),
        ("home: {claim: home}\nsteps: {train_dit: {cpu: many}}\n", "steps.train_dit.cpu: String should match"),
        ("home: {claim: home}\nsteps: {train_dit: {memory: 8 GB}}\n", "steps.train_dit.memory: String should match"),
        ("home: {claim: home}\nsteps: {train_dit: {timeout: forever}}\n", "steps.train_dit.timeout"),
        (
            "home: {claim: home}\nimages: {train_dit: registry.example/train-dit:latest}\n",
            "images.train_dit: String should match",
        ),
        ("home: {claim: home}\nenvironment: {PGPASSWORD: hunter2}\n", "PGPASSWORD is a secret"),
        ("home: {claim: home, mount: /groundswell/../etc}\n", "home.mount: it has to be an absolute path"),
        ("home: {claim: home, sub_path: ../other}\n", "home.sub_path"),
        ("steps: {}\n", "home: Field required"),
        ("- a\n", "Input should be a valid dictionary"),
        ("a: [\n", "cannot be read"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(BadSettingError, match=re.escape(words)) as caught:
        read_cluster(path)
    assert "\n" not in caught.value.diagnosis
    assert "hunter2" not in caught.value.diagnosis


def test_a_compiled_file_is_known_again_and_one_that_was_edited_is_refused(example: Path, tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    assert main(["compile", "training", "--cluster", str(example), "-o", str(path)]) == 0
    assert read_compiled(path) == "training"
    text = path.read_text()
    path.write_text(text.replace("64Gi", "65Gi"))
    with pytest.raises(IntegrityError, match="was changed after it was compiled"):
        read_compiled(path)
    path.write_text(text.partition("\n")[2])
    with pytest.raises(BadSettingError, match="no pipeline that groundswell has compiled"):
        read_compiled(path)


def test_steps_whose_images_a_tag_decides_are_named(tmp_path: Path) -> None:
    digest = "registry.example/groundswell/step@sha256:" + "1" * 64
    path, out = tmp_path / "cluster.yaml", tmp_path / "codec.yaml"
    home = "home: {claim: groundswell-home, mount: /groundswell}\n"
    path.write_text(f"{home}images: {{train_codec: '{digest}'}}\n")
    warned = call_here(tmp_path / "home", "compile", "codec", "--cluster", path, "-o", out)
    assert warned.exit_code == 0
    assert "the images of these steps are named by tag, which can move: validate_data, record_end; name digests" in warned.stderr
    path.write_text(f"{home}images: {{train_codec: '{digest}', validate_data: '{digest}', record_end: '{digest}'}}\n")
    silent = call_here(tmp_path / "home", "compile", "codec", "--cluster", path, "-o", out)
    assert (silent.exit_code, silent.stderr) == (0, "")
