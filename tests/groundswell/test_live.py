import io

from rich.console import Console

from groundswell.cli.live import LiveDisplay, PlainDisplay, TimeLeft, describe_figures
from pipelines.views import RunView, StepView

RUN = "0198aaaa-0000-4000-8000-000000000000"


def view(elapsed_s: float, *steps: StepView) -> RunView:
    return RunView(run_id=RUN, pipeline="training", elapsed_s=elapsed_s, steps=steps)


def plain(*views: RunView) -> list[str]:
    stream = io.StringIO()
    display = PlainDisplay(stream)
    for item in views:
        display(item)
    return stream.getvalue().splitlines()


def test_plain_lines_tell_each_change_of_state_once() -> None:
    waiting = StepView(name="train_dit")
    running = StepView(name="train_dit", status="running", completed=1, total=10, elapsed_s=1)
    done = StepView(name="train_dit", status="completed", elapsed_s=4, summary="loss 0.4")
    lines = plain(view(0, waiting), view(1, running), view(1.2, running), view(5, done), view(6, done))
    assert [line.partition("] ")[2] for line in lines] == [
        f"run {RUN} · pipeline training · 1 step",
        "train_dit: started",
        "train_dit: completed in 4.0 s · loss 0.4",
    ]


def test_plain_lines_tell_progress_about_every_ten_seconds() -> None:
    views = [
        view(second / 5, StepView(name="train_dit", status="running", completed=second, total=500, elapsed_s=second / 5))
        for second in range(155)
    ]
    assert sum("left" in line for line in plain(*views)) == 3


def test_time_left_of_a_resumed_step_counts_only_what_was_seen() -> None:
    estimate = TimeLeft()
    assert estimate.estimate(StepView(name="t", status="running", completed=900, total=1000, elapsed_s=0.0)) is None
    assert estimate.estimate(StepView(name="t", status="running", completed=910, total=1000, elapsed_s=10.0)) == 90.0


def test_time_left_of_a_new_phase_starts_anew() -> None:
    estimate = TimeLeft()
    estimate.estimate(StepView(name="t", status="running", completed=0, total=10, elapsed_s=0.0, description="a"))
    assert estimate.estimate(StepView(name="t", status="running", completed=5, total=10, elapsed_s=9.0, description="b")) is None


def test_a_step_that_knows_its_time_left_is_believed() -> None:
    step = StepView(
        name="t", status="running", completed=1, total=10, fields={"time_left_s": 33.0, "loss": 0.1234567, "steps_per_s": 4.0}
    )
    assert describe_figures(step, TimeLeft().estimate(step)) == "33 s left · loss 0.1235 · 4 steps/s · 1/10"


def test_figures_cannot_steer_the_terminal() -> None:
    step = StepView(name="t", status="running", description="\x1b[2J", fields={"note": "\n"})
    assert "\x1b" not in describe_figures(step, None)
    assert "\n" not in describe_figures(step, None)


def drawn(width: int, *steps: StepView, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding), width=width, force_terminal=True, color_system=None)
    console.print(LiveDisplay(console).draw(view(75, *steps)))
    console.file.flush()
    return raw.getvalue().decode(encoding).splitlines()


STEPS = (
    StepView(name="import_data", status="reused", summary="dataset at hand"),
    StepView(name="validate_data", status="completed", completed=9, total=9, elapsed_s=12.0, summary="718 items, all fine " * 5),
    StepView(
        name="train_dit",
        status="running",
        completed=120,
        total=1470,
        elapsed_s=61.0,
        fields={"loss": 0.4, "steps_per_s": 4.0},
        description="training the codec on a very long description that has to be cut somewhere",
    ),
    StepView(name="evaluate", status="failed", elapsed_s=2.0, summary="no"),
    StepView(name="register_model"),
)


def test_the_table_fits_eighty_columns_one_line_a_step() -> None:
    lines = drawn(80, *STEPS)
    assert len(lines) == 1 + len(STEPS)
    assert max(map(len, lines)) <= 80
    assert "1:15" in lines[0]
    assert "loss 0.4" in lines[3]
    assert [line[2:].split()[0] for line in lines[1:]] == [step.name for step in STEPS]
    assert [line[0] for line in lines[1:]] == ["↺", "✓", "⠴", "✗", "·"]


def test_the_table_is_ascii_where_the_terminal_is() -> None:
    step = StepView(name="train_dit", status="reused")
    assert drawn(80, step, encoding="ascii")[1].startswith("=")
