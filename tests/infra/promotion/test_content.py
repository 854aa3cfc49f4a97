"""A file of a champion says who let the model into production, and so does the ledger."""

from governance.credentials.verdict import Outcome
from infra.content_credentials import read_manifest
from infra.content_keys import content_trust
from infra.content_verification import verify_content
from infra.media_reading import read_file
from tests.content_world import drawing, encoded, publish_files


def test_a_champions_file_names_its_promotion_and_its_approvers_by_id(world, tmp_path):
    promotion = world.promote(1)
    files = {"image.png": encoded(drawing(1), "PNG")}
    made = publish_files(world.home, tmp_path, files, version=world.version(1))
    world.promote(2)  # who approved what made the file is not changed by what comes later
    file = read_file(made.path)
    claim = read_manifest(file.kind, file.data, root_pem=content_trust(world.home).root_pem).claim
    (promoted,) = claim.promotions
    assert (promoted.environment, promoted.promotion_id) == ("production", promotion.promotion_id)
    assert set(promoted.approvers) == {world.people["Olga"], world.people["Admin"]}
    for name in ("Olga", "Omar", "Ada"):
        assert name.encode() not in file.data
    found = verify_content(made.path, home=world.home)
    assert {check.outcome for check in found.verdict.checks} == {Outcome.HELD}
    (approved,) = found.approved
    assert {one.identity_id for one in approved.approvers} == set(promoted.approvers)
    assert "Olga" in {one.name for one in approved.approvers}
    assert world.problems() == ()


def test_a_version_that_is_no_champion_says_so(world, tmp_path):
    world.promote(1)
    made = publish_files(world.home, tmp_path, {"image.png": encoded(drawing(1), "PNG")}, version=world.version(2))
    assert verify_content(made.path, home=world.home).approved == ()
