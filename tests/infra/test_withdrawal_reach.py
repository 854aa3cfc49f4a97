"""What a withdrawal reaches, and what the lineage report says of it, over a synthetic home with recorded lineage events."""

from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from governance.digest import sha256_file
from governance.errors import RefusedError, UnknownSubjectError
from governance.lineage import ArtifactRef, StepIdentity, run_event
from governance.lineage_report.html import render_html
from governance.lineage_report.model import ReportContent, to_json
from infra.lineage import record_event
from infra.lineage_report import build_report
from infra.tables import artifacts, commitments
from infra.withdrawal_reach import (
    num_withdrawn,
    num_withdrawn_by_package,
    reached_from,
    require_none_behind,
    withdrawals_reaching,
)
from infra.withdrawals import WithdrawalRequest, withdraw
from tests.infra.traced_world import FAILED, GENERATION, PERSON, RERUN, RUN, World

REASON = "the licence ended <b>in October</b>"
ITEMS = ["a" * 64, "b" * 64]
CODEC_DATA = "c0" * 32


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> World:
    return World(tmp_path, url=database_url, num_media=2)


def take(world: World, *items: str, dataset: str | None = None, reason: str = REASON) -> None:
    request = WithdrawalRequest(
        dataset=f"dataset:{dataset or world.digests['dataset']}", items=items, reason=reason, without_manifest=True
    )
    withdraw(world.db, request, actor=PERSON, datasets=world.home / "datasets")


def add_codec_data(world: World) -> None:
    """Records which data the codec was trained on."""
    identity = StepIdentity(run_id=FAILED, pipeline="codec", step="train_codec")
    with world.db.unit_of_work() as uow:
        values = {"digest": CODEC_DATA, "kind": "dataset", "location": "", "facts": '{"name": "Codec pictures"}'}
        uow.connection.execute(insert(artifacts).values(**values, created=uow.time))
        used = ArtifactRef(kind="dataset", digest=CODEC_DATA)
        event = run_event("COMPLETE", identity, time=uow.time, inputs=[used], outputs=[world.ref("codec")])
        record_event(uow, event)


def words(content: ReportContent) -> str:
    return " ".join("".join(phrase.text for phrase in sentence) for sentence in content.summary)


def test_everything_made_from_the_data_is_reached(world: World) -> None:
    take(world, *ITEMS)
    with world.db.read() as connection:
        reach = reached_from(connection, [world.digests["dataset"]])
        assert reached_from(connection, [CODEC_DATA]).runs == ()
    assert [f"{model.name}/{model.version}" for model in reach.models] == ["emoji-small/1"]
    assert [(run.run_id, run.status) for run in reach.runs] == [
        (RUN, "completed"), (RERUN, "completed"), (FAILED, "failed"), (GENERATION, "completed"),
    ]  # fmt: skip
    assert {media.sha256 for media in reach.media} == {sha256_file(path) for path in world.media}
    assert {media.model for media in reach.media} == {"emoji-small/1"}


@pytest.mark.parametrize("kind", ["model-version", "package", "media", "run", "generation", "evaluation", "dataset"])
def test_whatever_goes_back_to_the_data_knows_of_the_withdrawal(world: World, kind: str) -> None:
    subject = {
        "model-version": "model-version:emoji-small/1",
        "media": f"media:{sha256_file(world.media[0])}",
        "run": f"run:{RUN}",
        "generation": f"run:{GENERATION}",
    }.get(kind) or f"{kind}:{world.digests[kind]}"
    with world.db.read() as connection:
        assert withdrawals_reaching(connection, subject) == ()
    take(world, *ITEMS)
    with world.db.read() as connection:
        (found,) = withdrawals_reaching(connection, subject)
        assert num_withdrawn(connection, [found]) == 2
    assert (found.dataset, found.actor, found.num_items, found.reason) == (world.digests["dataset"], PERSON, 2, REASON)


def test_a_model_that_is_not_registered_is_unknown(world: World) -> None:
    with world.db.read() as connection, pytest.raises(UnknownSubjectError):
        withdrawals_reaching(connection, "model-version:emoji-small/9")


def test_the_data_behind_a_codec_reach_a_model_but_do_not_stop_new_work(world: World) -> None:
    add_codec_data(world)
    take(world, *ITEMS, dataset=CODEC_DATA)
    latents = f"latents:{world.digests['latents']}"
    with world.db.read() as connection:
        assert withdrawals_reaching(connection, "model-version:emoji-small/1")
        assert num_withdrawn_by_package(connection) == {world.digests["package"]: 2}
    require_none_behind(world.db, latents, "input latents")
    take(world, ITEMS[0])
    with pytest.raises(RefusedError, match="input latents was made from data of which 1 item was withdrawn") as caught:
        require_none_behind(world.db, latents, "input latents")
    assert caught.value.exit_code == 5


def test_an_item_in_two_datasets_behind_a_model_counts_once(world: World) -> None:
    add_codec_data(world)
    take(world, *ITEMS, dataset=CODEC_DATA)
    take(world, ITEMS[0], "d" * 64)
    with world.db.read() as connection:
        found = withdrawals_reaching(connection, "model-version:emoji-small/1")
        assert [one.num_items for one in found] == [2, 2]
        assert num_withdrawn(connection, found) == 3
        assert num_withdrawn_by_package(connection) == {world.digests["package"]: 3}


def test_nothing_is_reached_before_something_is_withdrawn(world: World) -> None:
    with world.db.read() as connection:
        assert num_withdrawn_by_package(connection) == {}
    require_none_behind(world.db, f"latents:{world.digests['latents']}", "input latents")


@pytest.mark.parametrize("subject", ["model-version:emoji-small/1", f"run:{RUN}", "dataset", "media"])
def test_the_report_says_when_how_many_and_why(world: World, subject: str) -> None:
    subject = {"dataset": f"dataset:{world.digests['dataset']}", "media": f"media:{sha256_file(world.media[0])}"}.get(
        subject, subject
    )
    before = build_report(world.db, subject, home=world.home)
    assert "withdrawn" not in words(before)
    take(world, *ITEMS)
    content = build_report(world.db, subject, home=world.home)
    day = content.data[0].withdrawn[0].time[:10]
    assert f"2 items of OpenMoji 17.0.0 were withdrawn on {day}: {REASON}." in words(content)
    page = render_html(content)
    data = page[page.index('<h2 id="data">') : page.index('<h2 id="timeline">')]
    assert "<dt>Withdrawn</dt>" in data
    assert f"2 on {day}" in data
    assert "Ada Lovelace (data-scientist)" in data
    assert "the licence ended &lt;b&gt;in October&lt;/b&gt;" in data
    assert any(entry.what == "2 items of OpenMoji 17.0.0 withdrawn" for entry in content.timeline)
    assert any(line.action == "dataset.withdrawn" for line in content.ledger.entries)
    withdrawn = to_json(content)["data"][0]["withdrawn"]
    assert [(one["num_items"], one["reason"]) for one in withdrawn] == [(2, REASON)]


def test_the_report_says_that_a_reason_was_erased(world: World) -> None:
    take(world, ITEMS[0])
    with world.db.unit_of_work() as uow:
        uow.connection.execute(delete(commitments))
    content = build_report(world.db, "model-version:emoji-small/1", home=world.home)
    assert "1 item of OpenMoji 17.0.0 was withdrawn" in words(content)
    assert "the reason was erased" in words(content)
    assert "the reason was erased" in render_html(content)


def test_the_report_of_a_model_tells_of_its_codecs_data_too(world: World) -> None:
    add_codec_data(world)
    take(world, *ITEMS, dataset=CODEC_DATA)
    assert "2 items of Codec pictures were withdrawn" in words(
        build_report(world.db, "model-version:emoji-small/1", home=world.home)
    )
