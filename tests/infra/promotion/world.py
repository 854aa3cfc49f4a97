"""A home with three registered versions of a model and people to promote them, on either database."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from governance.identity import Role
from governance.promotion.policy import Policy, parse_policy
from governance.promotion.state import Promotion
from infra.home import Home
from infra.identities import create_identity, list_identities
from infra.ledger_verification import verify_ledger
from infra.mlflow_client import connect
from infra.mlflow_registry import MlflowRegistry
from infra.model_versions import ModelVersion, find_version
from infra.promotion.approvals import approve
from infra.promotion.policies import set_policy
from infra.promotion.requests import request_promotion
from infra.run_records import begin_run
from infra.settings import Settings
from tests.infra.package_inputs import NAME, make_package

RUN = "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11"
POLICY = """
policy: groundswell-policy/1
name: of the tests
environment: production
approvals: {count: 2, roles: [ops, admin], at_least: {ops: 1}}
gates:
  licences: [CC-BY-SA-4.0]
  lineage_complete: false
  validation_passed: false
  thresholds: [{metric: kid, max: 0.2}]
"""
PEOPLE = {"Ada": Role.DATA_SCIENTIST, "Olga": Role.OPS, "Omar": Role.OPS, "Alan": Role.AUDITOR}

ATTEMPTS: dict[str, Callable[[Any], Any]] = {
    "set": lambda client: client.set_registered_model_alias(NAME, "production", "2"),
    "other-case": lambda client: client.set_registered_model_alias(NAME, "Production", "2"),
    "other-environment": lambda client: client.set_registered_model_alias(NAME, "staging", "2"),
    "delete-alias": lambda client: client.delete_registered_model_alias(NAME, "production"),
    "delete-version": lambda client: client.delete_model_version(NAME, "1"),
    "stage": lambda client: client.transition_model_version_stage(NAME, "2", "Production"),
    "rename": lambda client: client.rename_registered_model(NAME, "mine"),
    "delete-model": lambda client: client.delete_registered_model(NAME),
}
"""What MLflow's client offers to get around a promotion, where version 1 is in production."""


def policy(**changes: Any) -> Policy:
    """Returns the tests' policy with some of it changed; a mapping is merged into the one that is there."""
    value = json.loads(parse_policy(POLICY).document)
    for name, change in changes.items():
        value[name] = value[name] | change if isinstance(change, dict) else change
    return parse_policy(json.dumps(value))


@dataclass
class World:
    """A home, and who is in it, by name."""

    home: Home
    people: dict[str, str]

    @property
    def db(self) -> Any:
        return self.home.database

    def version(self, number: int) -> ModelVersion:
        return find_version(self.db, f"{NAME}/{number}")

    def request(self, number: int = 1, *, by: str = "Ada", to: str = "production") -> Promotion:
        return request_promotion(self.home, self.version(number), to, actor=self.people[by], reason="a better one").promotion

    def approve(self, promotion: Promotion, *names: str) -> Promotion:
        for name in names:
            promotion = approve(self.home, promotion.promotion_id, actor=self.people[name])
        return promotion

    def promote(self, number: int, *, to: str = "production") -> Promotion:
        return self.approve(self.request(number, to=to), "Olga", "Admin")

    def alias(self, environment: str = "production") -> int | None:
        """Returns the version that MLflow's own client finds behind an alias."""
        from mlflow.exceptions import MlflowException

        try:
            return int(self.mlflow().get_model_version_by_alias(NAME, environment).version)
        except MlflowException:
            return None

    def mlflow(self) -> Any:
        return connect(self.home.settings.mlflow_tracking_uri, self.home.settings.artifact_root)

    def problems(self) -> tuple[str, ...]:
        return verify_ledger(self.db, self.home.keys.log_public_key()).problems

    def entries(self, prefix: str = "promotion.") -> list[tuple[str, str]]:
        from infra.ledger import iter_entries

        return [(entry.action, entry.actor) for entry in iter_entries(self.db) if entry.action.startswith(prefix)]


def settings_of(folder: Path, url: str) -> Settings:
    return Settings(home=folder, database_url=url, mlflow_tracking_uri=url, artifact_root=str(folder / "mlartifacts"))


def fill(home: Home, scratch: Path, *, versions: int = 3, width: int = 16) -> None:
    """Makes the people, a run of Ada's, and the versions that it registered, of width x width weights each."""
    admin = list_identities(home.database)[0].identity_id
    made = {
        name: create_identity(home.database, home.keys, name=name, role=role, actor=admin).identity_id
        for name, role in PEOPLE.items()
    }
    begin_run(home, run_id=RUN, pipeline="training", runner="subprocess", params={}, actor=made["Ada"])
    for number in range(1, versions + 1):
        package = make_package(scratch / str(number), weight=number / 8, width=width)
        registry = MlflowRegistry(
            home.database,
            home.settings.mlflow_tracking_uri,
            home.settings.artifact_root,
            home.package_signing_key,
            "system",
            RUN,
            lambda: None,
        )
        evaluation = json.loads((package / "evaluation" / "report.json").read_text())
        registry.register(package, name=NAME, metrics=evaluation["metrics"], inputs={"model": f"{number:064x}"})
    set_policy(home.database, policy(), actor=admin)


def open_world(template: Path, folder: Path, url: str) -> World:
    """Opens a copy of a filled home, on a copy of its database."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    home = Home.open(settings_of(folder, url))
    people = {identity.name or "": identity.identity_id for identity in list_identities(home.database)}
    first = list_identities(home.database)[0]
    return World(home=home, people=people | {"Admin": first.identity_id})
