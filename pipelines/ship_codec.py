"""Puts a trained codec, with the evidence of its training, where it ships from: ``python -m pipelines.ship_codec HOME``."""

import shutil
import sys
from pathlib import Path

from sqlalchemy import select

from governance.errors import UnknownSubjectError
from infra.home import Home
from infra.keys import LOG_KEY
from infra.ledger import sign_checkpoint
from infra.runs import get_steps
from infra.settings import Settings
from infra.shipped_codec import SHIPPED_FOLDER, write_evidence
from infra.tables import runs


def ship_codec(home: Home, target: Path) -> None:
    """Copies the codec of the newest completed codec run, and writes its evidence.

    Args:
        home: The home in which it was trained.
        target: The folder to write, replaced.

    Raises:
        UnknownSubjectError: No codec was trained in this home.
    """
    with home.database.read() as connection:
        query = (
            select(runs.c.run_id).where(runs.c.pipeline == "codec", runs.c.status == "completed").order_by(runs.c.ended.desc())
        )
        run_id = connection.execute(query.limit(1)).scalar()
        if run_id is None:
            raise UnknownSubjectError(f"no codec was trained in {home.path}", hint="run `groundswell run codec` there first")
        trained = next(step for step in get_steps(connection, run_id) if step.step == "train_codec")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(trained.record["outputs"]["codec"]["location"], target / "codec")
    write_evidence(
        home.database,
        run_id,
        checkpoint=sign_checkpoint(home.database, home.keys),
        public_key_pem=home.keys.public_path(LOG_KEY).read_text(encoding="utf-8"),
        out=target / "evidence.json",
    )


if __name__ == "__main__":
    ship_codec(Home.open(Settings.load(Path(sys.argv[1])), create=False), SHIPPED_FOLDER)
