"""What may be asked of `groundswell generate` about given pictures and clips; refused before any home is opened."""

import pytest

from tests.groundswell.conftest import Cli


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--strength 0.5 --label food", "name what to start from: --from FILE"),
        ("--keep-frames 0 --label food", "name what to start from: --from FILE"),
        ("--from a.png", "say how far to leave it with --strength X"),
        ("--from a.png --strength 1.5", "1.5 is not in the range"),
        ("--from a.png --strength 0.5 --prompt a --label b", "name what to make"),
        ("--from a.png --strength 0.5 --num-passes 3", "passes are for frames that stay"),
        ("--from a.mp4 --keep-frames 0 --continue-frames 4", "says itself which frames stay"),
        ("--from a.mp4 --keep-frames 3-1", "names no frames"),
        ("--from a.mp4 --keep-frames 1,x", "names no frames"),
        ("--from a.mp4 --keep-frames -1", "names no frames"),
        ("--from a.mp4 --keep-frames 0-9999999", "names no frames"),
        ("--from a.png --strength 0.5 --requests", "a column `from` for what to start from"),
    ],
)
def test_options_that_make_no_sense_together_are_a_matter_of_usage(cli: Cli, tmp_path, options: str, words: str) -> None:
    table = tmp_path / "requests.csv"
    table.write_text("request_id,prompt\na,b\n")
    arguments = [*options.split(), *([table] if options.endswith("--requests") else [])]
    refused = cli("--home", tmp_path / "home", "generate", "model/1", *arguments, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert words in refused.stderr
    assert not (tmp_path / "home").exists()


def test_the_help_names_what_a_given_file_is_good_for(cli: Cli) -> None:
    told = cli("generate", "--help").stdout
    for words in ("--from", "--strength", "--keep-frames", "--continue-frames", "reconstruct", "denoise", "restyle"):
        assert words in told
