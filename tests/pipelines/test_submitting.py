"""Runs on a Kubeflow cluster: on record from beginning to end, shown with the others; and one line where none can be had."""

import json
import platform
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.home import Home
from infra.identities import first_identity
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.locking import try_lock
from infra.run_records import begin_run, end_dead_runs, lock_path
from infra.runs import RunRow, list_runs
from pipelines.ending import record_run_end
from tests.console_server import serving
from tests.kubeflow_server import KubeflowPipelines, kubeflow_pipelines
from tests.pipelines.calling import Called, call_here, flags

CLUSTER = "home: {claim: groundswell-home, mount: /groundswell}\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeflowPipelines]:
    monkeypatch.setattr("pipelines.submitting.follow.__kwdefaults__", {"poll_s": 0.01, "patience_s": 1.0})
    with kubeflow_pipelines() as served:
        yield served


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER)
    return path


def submit(home: Home, source: Path, server: KubeflowPipelines, *options: object, pipeline: object = "codec") -> Called:
    data = flags([f"data.source={source}", "data.size=16", "data.categories=[cat, dog]"])
    return call_here(home.path, "--json", "submit", pipeline, "--host", server.url, *data, *options)


def the_run(home: Home) -> RunRow:
    with home.database.read() as connection:
        (run,) = list_runs(connection)
    return run


def actions(home: Home) -> list[str]:
    return [entry.action for entry in iter_entries(home.database) if entry.subject == f"run:{the_run(home).run_id}"]


def exit_handler(home: Home, server: KubeflowPipelines) -> None:
    """Has the server call what a cluster's exit handler calls."""

    def at_end(run: dict[str, Any], state: str) -> None:
        run_id = run["runtime_config"]["parameters"]["run_id"]
        record_run_end(str(home.path), run_id, state=state, message=server.error)

    server.at_end = at_end


def test_a_run_is_on_record_from_beginning_to_end_and_shown_with_the_others(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path
) -> None:
    exit_handler(home, server)
    called = submit(home, source, server, "--cluster", cluster, "--namespace", "team-a", "--wait")
    assert called.exit_code == 0, called.stderr
    assert (called.document["status"], called.document["error"]) == ("completed", None)
    assert actions(home) == ["run.started", "run.submitted", "run.completed"]
    (remote,) = server.runs.values()
    assert remote["run_id"] == called.document["kubeflow_run_id"]
    (experiment,) = server.experiments.values()
    assert (experiment["display_name"], experiment["namespace"]) == ("groundswell-codec", "team-a")
    assert "train_codec: completed" in called.stderr
    listed = call_here(home.path, "--json", "runs", "list").document["runs"]
    assert [(one["run_id"], one["status"]) for one in listed] == [(called.document["run_id"], "completed")]
    assert "on 127.0.0.1" in call_here(home.path, "runs", "list").stdout
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()


def test_runs_here_and_there_stand_in_one_list_each_with_where_it_is_and_how_it_goes(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path
) -> None:
    exit_handler(home, server)
    local, remote, ended = str(uuid.uuid4()), "", ""
    begin_run(home, run_id=local, pipeline="training", runner="subprocess", params={}, actor=first_identity(home.database))
    remote = submit(home, source, server, "--cluster", cluster).document["run_id"]
    ended = submit(home, source, server, "--cluster", cluster, "--wait").document["run_id"]
    here = platform.node()
    with try_lock(lock_path(home, local)):
        listed = call_here(home.path, "--json", "runs", "list").document["runs"]
        table = call_here(home.path, "runs", "list").stdout.splitlines()[1:]
        with serving(home) as console:
            page = console.get("/runs").text
            shown = console.get(f"/runs/{remote}").text
    assert [(one["run_id"], one["runner"], one["host"], one["status"]) for one in listed] == [
        (ended, "kubeflow", "127.0.0.1", "completed"),
        (remote, "kubeflow", "127.0.0.1", "running"),
        (local, "subprocess", here, "running"),
    ]
    places = ["kubeflow on 127.0.0.1", "kubeflow on 127.0.0.1", f"subprocess on {here}"]
    assert [(line.split()[:3], place in line) for line, place in zip(table, places, strict=True)] == [
        ([ended[:8], "codec", "completed"], True),
        ([remote[:8], "codec", "running"], True),
        ([local[:8], "training", "running"], True),
    ]
    assert "its process is gone" not in "".join(table)
    rows = re.findall(r"<tr><td.*?</tr>", page, re.DOTALL)
    assert [(run_id in row, place in row) for run_id, place, row in zip((ended, remote, local), places, rows, strict=True)] == [
        (True, True)
    ] * 3
    assert 'http-equiv="refresh"' in shown  # it goes on
    assert "kubeflow on 127.0.0.1" in shown
    assert "kubeflow on 127.0.0.1" in call_here(home.path, "runs", "show", remote).stdout


def test_the_cluster_is_given_places_as_they_are_called_where_the_home_is_mounted(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path
) -> None:
    assert submit(home, source, server, "--cluster", cluster).exit_code == 0
    (remote,) = server.runs.values()
    given = remote["runtime_config"]["parameters"]
    assert given["home"] == "/groundswell"
    dataset = Path(given["dataset"])
    assert dataset.is_relative_to("/groundswell/datasets")
    assert (home.path / dataset.relative_to("/groundswell") / "manifest.parquet").is_file()
    assert json.loads(given["params"])["validate_data"]
    spec = remote["pipeline_spec"]
    assert spec["pipeline_spec"]["pipelineInfo"]["name"] == "groundswell-codec"
    assert spec["platform_spec"]["platforms"]["kubernetes"]
    assert the_run(home).status == "running"


def test_a_run_elsewhere_is_not_taken_for_one_that_died_here(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path
) -> None:
    submit(home, source, server, "--cluster", cluster)
    assert end_dead_runs(home) == []
    assert the_run(home).status == "running"


@pytest.mark.parametrize("handled", [True, False], ids=["by-the-handler", "by-whoever-waits"])
def test_a_run_that_fails_there_ends_with_the_cause(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path, handled: bool
) -> None:
    server.states, server.error = ["RUNNING", "FAILED"], "OOMKilled"
    if handled:
        exit_handler(home, server)
    called = submit(home, source, server, "--cluster", cluster, "--wait")
    assert called.exit_code == 1
    assert "error: the cluster ended the run as failed: OOMKilled" in called.stderr
    assert actions(home) == ["run.started", "run.submitted", "run.failed"]


def test_a_compiled_file_is_submitted_as_it_is_and_one_that_was_edited_is_not(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path, tmp_path: Path
) -> None:
    path = tmp_path / "codec.yaml"
    assert call_here(home.path, "compile", "codec", "--cluster", cluster, "-o", path).exit_code == 0
    assert submit(home, source, server, pipeline=path).exit_code == 0
    assert len(server.runs) == 1
    path.write_text(path.read_text().replace("groundswell-home", "other-home"))
    refused = submit(home, source, server, pipeline=path)
    assert (refused.exit_code, "was changed after it was compiled" in refused.stderr) == (4, True)
    assert len(server.runs) == 1
    with home.database.read() as connection:
        assert len(list_runs(connection)) == 1


def test_a_token_that_is_not_accepted_is_one_line_and_the_run_is_on_record_as_failed(
    home: Home, source: Path, server: KubeflowPipelines, tmp_path: Path
) -> None:
    server.token = "right"
    token = tmp_path / "token"
    token.write_text("expired-token-of-mine\n")
    token.chmod(0o600)
    refused = submit(home, source, server, "--token-file", token)
    assert refused.exit_code == 5
    assert "does not accept the token (HTTP 401): Unauthenticated: the token has expired" in refused.stderr
    assert "expired-token-of-mine" not in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr
    assert actions(home) == ["run.started", "run.failed"]
    token.write_text("right\n")
    assert submit(home, source, server, "--token-file", token).exit_code == 0
    assert b"right" not in json.dumps([entry.to_bytes().decode() for entry in iter_entries(home.database)]).encode()


@pytest.mark.parametrize(
    ("broken", "code", "words"),
    [
        ((500, b'{"message": "database is gone"}'), 6, "answers HTTP 500: database is gone"),
        ((403, b'{"message": "no access to namespace"}'), 5, "refuses it (HTTP 403): no access to namespace"),
        ((400, b'{"message": "Invalid input"}'), 3, "does not accept it (HTTP 400): Invalid input"),
        ((404, b"<html>nothing here</html>"), 6, "answers HTTP 404"),
        ((200, b"<html>please log in</html>"), 6, "is no Kubeflow Pipelines"),
        ((200, b"[1, 2]"), 6, "is no Kubeflow Pipelines"),
        ((200, b"{}"), 6, "is no Kubeflow Pipelines"),
    ],
)
def test_what_a_server_refuses_is_one_line(
    home: Home, source: Path, server: KubeflowPipelines, broken: tuple[int, bytes], code: int, words: str
) -> None:
    server.broken = broken
    refused = submit(home, source, server)
    assert (refused.exit_code, words in refused.stderr) == (code, True), refused.stderr
    assert "html" not in refused.stderr
    assert the_run(home).status == "failed"


def test_a_server_that_is_not_there_is_one_line(home: Home, source: Path) -> None:
    refused = submit(home, source, KubeflowPipelines(url="http://127.0.0.1:9/pipeline"))
    assert (refused.exit_code, "no Kubeflow Pipelines answers at http://127.0.0.1:9" in refused.stderr) == (6, True)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--host", "ftp://kubeflow.example"], 3, "is no URL of a server"),
        (["--host", "https://user:secret@kubeflow.example"], 3, "is no URL of a server"),
        (["--token-file", "/nowhere/token"], 3, "cannot be read"),
        (["--cluster", "/nowhere/cluster.yaml"], 3, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_said_before_a_run_begins(
    home: Home, source: Path, server: KubeflowPipelines, options: list[str], code: int, words: str
) -> None:
    refused = submit(home, source, server, *options)
    assert (refused.exit_code, words in refused.stderr) == (code, True), refused.stderr
    with home.database.read() as connection:
        assert list_runs(connection) == []


def test_a_token_that_others_can_read_is_refused(home: Home, source: Path, server: KubeflowPipelines, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    token.chmod(0o644)
    refused = submit(home, source, server, "--token-file", token)
    assert (refused.exit_code, "is readable by others" in refused.stderr) == (3, True)


def test_a_file_that_encodes_in_one_task_is_not_submitted_where_parts_are_asked_for(
    home: Home, source: Path, tiny_codec: Path, server: KubeflowPipelines, cluster: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole.yaml", tmp_path / "parts.yaml"
    asked = flags([f"codec={tiny_codec}", "encode_latents.parts=4"])
    assert call_here(home.path, "compile", "training", "-o", whole).exit_code == 0
    assert call_here(home.path, "compile", "training", "--cluster", cluster, "--encode-in-parts", "-o", parts).exit_code == 0
    refused = submit(home, source, server, *asked, pipeline=whole)
    assert (refused.exit_code, "hint: compile it again with --encode-in-parts" in refused.stderr) == (3, True)
    with home.database.read() as connection:
        assert list_runs(connection) == []
    assert submit(home, source, server, *asked, pipeline=parts).exit_code == 0
    assert submit(home, source, server, *asked, pipeline="training").exit_code == 0  # compiled now, as it is asked for
    specs = [one["pipeline_spec"].get("pipeline_spec", one["pipeline_spec"]) for one in server.runs.values()]
    assert ["comp-encode-part" in spec["components"] for spec in specs] == [True, True]


EXPIRED = (401, b'{"code": 16, "message": "Unauthenticated: the token has expired"}')


def watch(home: Home, run_id: str, host: str) -> Called:
    return call_here(home.path, "runs", "watch", run_id, "--host", host)


def test_a_server_that_fails_for_a_while_is_waited_for(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path
) -> None:
    exit_handler(home, server)
    server.faults = [(503, b"{}"), (0, b""), EXPIRED, (500, b'{"message": "database is gone"}')]
    called = submit(home, source, server, "--cluster", cluster, "--wait")
    assert (called.exit_code, called.document["status"], server.faults) == (0, "completed", [])
    assert "train_codec: started" in called.stderr  # it was seen going on, and not at its end alone


@pytest.mark.parametrize(("fault", "code"), [(EXPIRED, 5), ((503, b"{}"), 6)], ids=["expired-token", "unreachable"])
def test_a_run_whose_server_is_lost_is_followed_again_and_its_end_recorded(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path, fault: tuple[int, bytes], code: int
) -> None:
    server.faults = [fault] * 10_000
    lost = submit(home, source, server, "--cluster", cluster, "--wait")
    assert (lost.exit_code, "; the run may go on" in lost.stderr) == (code, True), lost.stderr
    run = the_run(home)
    assert f"`groundswell runs watch {run.run_id[:8]} --host {server.url}` follows it again" in lost.stderr
    assert run.status == "running"
    server.faults = []
    again = watch(home, run.run_id, server.url)
    assert (again.exit_code, f"run {run.run_id} completed" in again.stdout) == (0, True), again.stderr
    assert actions(home) == ["run.started", "run.submitted", "run.completed"]
    assert watch(home, run.run_id, server.url).exit_code == 0  # nothing is recorded twice
    assert len(actions(home)) == 3


def test_a_run_that_its_cluster_does_not_know_any_more_ends_as_failed(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path
) -> None:
    submit(home, source, server, "--cluster", cluster)
    server.runs.clear()
    gone = watch(home, the_run(home).run_id, server.url)
    assert (gone.exit_code, "error: the run is gone from its cluster: run not found" in gone.stderr) == (1, True), gone.stderr
    assert actions(home) == ["run.started", "run.submitted", "run.failed"]


def test_a_run_is_looked_for_on_the_host_that_has_it(home: Home, source: Path, server: KubeflowPipelines, cluster: Path) -> None:
    local = str(uuid.uuid4())
    submit(home, source, server, "--cluster", cluster)
    remote = the_run(home).run_id
    elsewhere = watch(home, remote, server.url.replace("127.0.0.1", "localhost"))
    assert (elsewhere.exit_code, "is on 127.0.0.1, not on localhost" in elsewhere.stderr) == (3, True)
    page = watch(home, remote, f"{server.url}/elsewhere")
    assert (page.exit_code, the_run(home).status) == (6, "running")  # a page that is not found is no run that is gone
    begin_run(home, run_id=local, pipeline="training", runner="subprocess", params={}, actor=first_identity(home.database))
    here = watch(home, local, server.url)
    assert (here.exit_code, "was not submitted to a cluster" in here.stderr) == (3, True)


def test_a_run_on_a_cluster_that_is_gone_for_good_can_be_given_up_and_no_other(
    home: Home, source: Path, server: KubeflowPipelines, cluster: Path
) -> None:
    local = str(uuid.uuid4())
    submit(home, source, server, "--cluster", cluster)
    remote = the_run(home).run_id
    ended = call_here(home.path, "--json", "runs", "end", remote)
    assert (ended.exit_code, ended.document) == (0, {"run_id": remote, "status": "failed"})
    error = the_run(home).error
    assert error is not None
    assert error.diagnosis.startswith("the run is gone from its cluster: given up by ")
    again = call_here(home.path, "runs", "end", remote)
    assert (again.exit_code, "cannot be given up: it is failed" in again.stderr) == (3, True)
    begin_run(home, run_id=local, pipeline="training", runner="subprocess", params={}, actor=first_identity(home.database))
    other = call_here(home.path, "runs", "end", local)
    assert (other.exit_code, "it runs on no cluster" in other.stderr) == (3, True)
