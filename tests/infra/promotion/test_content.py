"""A file of a champion says who let the model into production, and so does the ledger."""

import numpy as np
from PIL import Image

from governance.credentials.verdict import Basis, Outcome
from infra.content_credentials import read_manifest
from infra.content_keys import content_trust
from infra.content_verification import verify_content
from infra.media_reading import read_file
from infra.watermark import open_watermarker
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
    assert {check.outcome for check in found.verdict.checks if check.name != "watermark"} == {Outcome.HELD}
    (approved,) = found.approved
    assert {one.identity_id for one in approved.approvers} == set(promoted.approvers)
    assert "Olga" in {one.name for one in approved.approvers}
    assert world.problems() == ()


def test_a_champions_copy_names_the_approvers_by_its_watermark_alone(world, tmp_path):
    world.promote(1)
    version = world.version(1)
    marked, watermark_id = open_watermarker(world.home, version.root_digest).mark(np.asarray(drawing(1, size=256))[None])
    files = {"image.png": encoded(Image.fromarray(marked[0]), "PNG")}
    publish_files(world.home, tmp_path, files, version=version, watermark_ids={"image.png": watermark_id})
    Image.fromarray(marked[0]).save(tmp_path / "copy.jpg", quality=50)
    found = verify_content(tmp_path / "copy.jpg", home=world.home)
    assert (found.verdict.basis, found.verdict.origin.model) == (Basis.WATERMARK, "emoji-dit/1")
    (approved,) = found.approved
    assert {one.identity_id for one in approved.approvers} == {world.people["Olga"], world.people["Admin"]}
    outcomes = {check.name: check.outcome for check in found.verdict.checks}
    assert outcomes["fingerprint"] is Outcome.HELD, "the looks agree"
    assert world.problems() == ()


def test_a_version_that_is_no_champion_says_so(world, tmp_path):
    world.promote(1)
    made = publish_files(world.home, tmp_path, {"image.png": encoded(drawing(1), "PNG")}, version=world.version(2))
    assert verify_content(made.path, home=world.home).approved == ()
