"""Guardrails beside promotion: champions may be used where others may not, and no environment is made by them."""

import pytest

from governance.guardrails.judging import GuardrailError
from governance.guardrails.policy import parse_guardrails
from infra.guardrails import Asked, admit, set_guardrails
from tests.infra.package_inputs import NAME
from tests.infra.promotion.world import World

CHAMPIONS_ALONE = """
guardrails: groundswell-guardrails/1
name: champions alone
models: {champions_of: [production]}
"""
ASKED = Asked(prompt="a red fox", label=None, num_images=1, num_frames=None)


def test_a_champion_is_let_through_and_another_version_is_not(world: World) -> None:
    set_guardrails(world.db, parse_guardrails(CHAMPIONS_ALONE), actor=world.people["Admin"])
    world.promote(1)
    assert admit(world.db, world.version(1), ASKED, actor=world.people["Ada"])
    with pytest.raises(GuardrailError, match="not the champion of production"):
        admit(world.db, world.version(2), ASKED, actor=world.people["Ada"])
    world.promote(2)
    with pytest.raises(GuardrailError):
        admit(world.db, world.version(1), ASKED, actor=world.people["Ada"])
    assert world.problems() == ()


def test_an_alias_called_guardrails_is_as_free_as_before(world: World) -> None:
    set_guardrails(world.db, parse_guardrails(CHAMPIONS_ALONE), actor=world.people["Admin"])
    world.mlflow().set_registered_model_alias(NAME, "guardrails", "2")
    assert world.alias("guardrails") == 2
    world.mlflow().delete_registered_model_alias(NAME, "guardrails")
    assert world.problems() == ()
