"""One whole run, as a user starts it."""

import pytest

from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]


def test_a_run_ends_with_one_document_that_says_all(trained: Trained) -> None:
    print(trained.called.stdout, trained.called.stderr)
    assert 0
