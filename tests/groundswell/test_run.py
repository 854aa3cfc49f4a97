import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundswell.cli.main import main
from infra.errors import BadSettingError
from infra.home import Home
from model_core.sampling.options import SamplingOptions
from pipelines.generation import GeneratedFile, GenerateOutcome, GenerateRequest
from pipelines.memorisation import MemorisationCheck
from pipelines.views import RunOutcome, RunView, StepView
from tests.groundswell.conftest import Cli

RUN = "11111111-0000-4000-8000-000000000000"
STEP = StepView(name="train_dit", status="completed", elapsed_s=3.0, summary="loss 0.4")
CHECKED = MemorisationCheck(mode="withhold", state="checked", reason="", near_copies=())
GOOD = RunOutcome(
    run_id=RUN,
    pipeline="training",
    status="completed",
    metrics={"kid": 0.5, "kid_low": 0.25, "kid_high": 1.0},
    model_version="emoji-dit/1",
    report=Path("report.html"),
    pictures={"sample grid": Path("samples.png")},
    steps=(STEP,),
    overhead_s=1.0,
    wall_s=4.0,
)


def returning(outcome: RunOutcome) -> Callable[..., RunOutcome]:
    """Stands for a pipeline that runs, tells how far it is, and comes to an outcome."""

    def run_pipeline(home: Home, pipeline: str, params: Any, *, on_view: Callable[[RunView], None], **_: Any) -> RunOutcome:
        on_view(RunView(run_id=RUN, pipeline=pipeline, elapsed_s=0.5, steps=(StepView(name="train_dit", status="running"),)))
        on_view(RunView(run_id=RUN, pipeline=pipeline, elapsed_s=4.0, steps=outcome.steps))
        return outcome

    return run_pipeline


def test_a_run_ends_with_what_it_made_and_where_to_look(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.local.run_pipeline", returning(GOOD))
    called = cli("--home", home.path, "run", "training")
    assert called.exit_code == 0
    for expected in (RUN, "emoji-dit/1", "0.25 to 1", "1.0 s of it overhead", "report.html", "samples.png", "mlflow"):
        assert expected in called.stdout
    assert "train_dit: completed in 3.0 s" in called.stderr


def test_under_json_a_run_is_one_document(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.local.run_pipeline", returning(GOOD))
    document = cli("--home", home.path, "--json", "run", "training").document
    assert (document["run_id"], document["model_version"], document["report"]) == (RUN, "emoji-dit/1", "report.html")
    assert document["metrics"]["kid"] == 0.5


def test_a_run_that_had_nothing_to_do_says_so(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = RunOutcome(run_id=RUN, pipeline="training", status="completed", steps=(STEP, STEP), reused_all=True)
    monkeypatch.setattr("pipelines.local.run_pipeline", returning(outcome))
    assert "nothing to do: all 2 steps were verified and reused" in cli("--home", home.path, "run", "training").stdout


def test_a_failed_run_ends_with_its_own_error_and_code(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = RunOutcome(
        run_id=RUN, pipeline="training", status="failed", exit_code=3, error="bad picture", hint="mend it", steps=(STEP,)
    )
    monkeypatch.setattr("pipelines.local.run_pipeline", returning(outcome))
    called = cli("--home", home.path, "--json", "run", "training")
    assert called.exit_code == 3
    assert (called.document["error"], called.document["hint"], called.document["exit_code"]) == ("bad picture", "mend it", 3)
    assert called.stderr.splitlines()[-2:] == ["error: bad picture", "hint: mend it"]


def test_a_tampered_output_is_told_with_exit_code_four(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = RunOutcome(
        run_id=RUN, pipeline="training", status="completed", exit_code=4, steps=(STEP,), tampered=("latents: changed",)
    )
    monkeypatch.setattr("pipelines.local.run_pipeline", returning(outcome))
    called = cli("--home", home.path, "run", "training")
    assert called.exit_code == 4
    assert "latents: changed" in called.stderr


def test_an_interrupted_run_ends_with_130(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> RunOutcome:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.local.run_pipeline", interrupted)
    called = cli("--home", home.path, "run", "training")
    assert called.exit_code == 130
    assert called.stderr.splitlines()[-2:] == [
        "error: interrupted",
        "hint: run the same command again: finished steps are reused, and training resumes",
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["-S", "train_dit.num_stepss=3"], "unknown parameter 'train_dit.num_stepss'", "did you mean 'train_dit.num_steps'?"),
        (["-S", "train_dit"], "-S 'train_dit' is no key=value", "write -S train_dit.num_steps=100"),
        (["--params", "nowhere.yaml"], "nowhere.yaml cannot be read", ""),
    ],
)
def test_wrong_parameters_are_bad_input_before_a_home_is_made(
    cli: Cli, tmp_path: Path, arguments: list[str], error: str, hint: str
) -> None:
    called = cli("--home", tmp_path / "none", "run", "training", *arguments)
    assert called.exit_code == 3
    assert called.stderr.startswith(f"error: {error}")
    assert hint in called.stderr
    assert not (tmp_path / "none").exists()


def test_compiling_writes_what_kubeflow_takes(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, Path]] = []
    monkeypatch.setattr(
        "pipelines.compiling.compile_pipeline", lambda pipeline, out, *, cluster, in_parts: written.append((pipeline, out))
    )
    document = cli("--json", "compile", "training", "-o", "training.yaml").document
    assert written == [("training", Path("training.yaml"))]
    assert document["file"] == str(Path.cwd() / "training.yaml")


def test_generated_pictures_are_listed_with_their_digests(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[GenerateRequest] = []

    def generate(home: Home, request: GenerateRequest, *, actor: str, on_view: Callable[[RunView], None]) -> GenerateOutcome:
        asked.append(request)
        digest = hashlib.sha256(b"a").hexdigest()
        file = GeneratedFile(path=Path("a.png"), sha256=digest, seed="7", pixels_sha256=digest, fingerprint="0" * 16)
        return GenerateOutcome(
            run_id=RUN, model_version="emoji-dit/1", files=(file,), grid=Path("grid.png"), wall_s=2.0, memorisation=CHECKED
        )

    monkeypatch.setattr("pipelines.generation.generate", generate)
    monkeypatch.setattr("groundswell.cli.generate.warn_of_withdrawals", lambda *_, **__: None)
    arguments = ("generate", "emoji-dit/1", "--prompt", "a flag", "-n", 1, "--seed", 7, "--out", "pictures")
    arguments = (*arguments, "--batch-size", 2, "--device", "cpu")
    document = cli("--home", home.path, "--json", *arguments).document
    digest = hashlib.sha256(b"a").hexdigest()
    assert document["files"] == [{"path": "a.png", "sha256": digest, "seed": "7", "watermark_id": None}]
    assert (asked[0].prompt, asked[0].seed, asked[0].num_images) == ("a flag", 7, 1)
    assert (asked[0].batch_size, asked[0].device) == (2, "cpu")
    shown = cli("--home", home.path, *arguments).stdout
    assert hashlib.sha256(b"a").hexdigest() in shown
    assert "a flag" not in shown


@pytest.mark.parametrize("handed_out", [0, 1])
def test_a_withheld_sample_is_told_and_the_exit_code_says_refused(
    cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch, handed_out: int
) -> None:
    digest = "a" * 64
    near = {"position": 0, "seed": 7, "nearest_sha256": "b" * 64, "distance": 0.01, "distance_threshold": 0.3}
    check = MemorisationCheck(mode="withhold", state="checked", reason="", near_copies=(near,))
    files = (GeneratedFile(path=Path("a.png"), sha256=digest, seed="8", pixels_sha256=digest, fingerprint="0" * 16),)
    outcome = GenerateOutcome(
        run_id=RUN, model_version="m/1", files=files[:handed_out], grid=Path("g.png"), wall_s=1.0, memorisation=check
    )
    monkeypatch.setattr("pipelines.generation.generate", lambda *_, **__: outcome)
    monkeypatch.setattr("groundswell.cli.generate.warn_of_withdrawals", lambda *_, **__: None)
    arguments = ("--home", home.path, "generate", "m/1", "--label", "a", "-n", 1 + handed_out, "--out", "x")
    shown = cli(*arguments)
    assert shown.exit_code == 5
    assert f"1 of {1 + handed_out} sample{'s' * handed_out} withheld" in shown.stderr
    document = cli(*arguments, "--json").document
    assert document["memorisation"]["near_copies"] == [near]
    assert len(document["files"]) == handed_out


def test_options_of_sampling_reach_the_request_where_they_are_given(
    cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GenerateRequest] = []

    def generate(home: Home, request: GenerateRequest, **_: Any) -> GenerateOutcome:
        asked.append(request)
        raise BadSettingError("enough")

    monkeypatch.setattr("pipelines.generation.generate", generate)
    monkeypatch.setattr("groundswell.cli.generate.warn_of_withdrawals", lambda *_, **__: None)
    given = ["--guidance-interval", 0.2, 0.8, "--guidance-rescale", 0.7, "--time-shift", 3, "--cache-interval", 2]
    cli("--home", home.path, "generate", "m/1", "--label", "a", "--out", "x", *given, "--eta", 0.5, "--ddpm-variance", "large")
    cli("--home", home.path, "generate", "m/1", "--label", "a", "--out", "x")
    assert SamplingOptions.model_validate(asked[0].options) == SamplingOptions(
        guidance_interval=(0.2, 0.8), guidance_rescale=0.7, time_shift=3.0, cache_interval=2, eta=0.5, ddpm_variance="large"
    )
    assert SamplingOptions.model_validate(asked[1].options) == SamplingOptions()


@pytest.mark.parametrize(
    "option", [["--eta", "2"], ["--cache-interval", "0"], ["--time-shift", "0"], ["--guidance-interval", "0"]]
)
def test_options_of_sampling_out_of_range_are_usage_errors(cli: Cli, option: list[str]) -> None:
    assert cli("generate", "m/1", "--label", "a", "--out", "x", *option).exit_code == 2


def test_main_returns_an_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("groundswell")
