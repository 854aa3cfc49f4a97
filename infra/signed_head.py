"""How much of the ledger the newest signed checkpoint covers, once that has been verified."""

from sqlalchemy import Connection, select

from governance.errors import IntegrityError
from governance.log_keys import handovers
from infra.keys import Keys
from infra.ledger import root_hash
from infra.log_keys import log_keys
from infra.tables import ledger_checkpoints

HINT = "`groundswell audit verify` says more; restore the database from a backup"


def signed_size(connection: Connection, keys: Keys) -> int | None:
    """Returns how many entries the newest signed checkpoint covers, None where there is none yet.

    Raises:
        IntegrityError: The checkpoint, or one at which the log's key was handed over, does not hold.
        BadSettingError: The log's public key cannot be read.
    """
    columns = ledger_checkpoints.c
    note = connection.execute(select(columns.note).order_by(columns.size.desc()).limit(1)).scalar()
    if note is None:
        return None
    known = keys.log_public_key()
    log = log_keys(connection, known)
    for problem in log.problems(known):
        raise IntegrityError(problem, hint=HINT)
    checkpoint = log.verify(note)
    fixed = {**handovers(log.keys), checkpoint.size: checkpoint}
    if any(root_hash(connection, size) != each.root_hash for size, each in fixed.items()):
        raise IntegrityError("the ledger does not hash to its newest signed checkpoint", hint=HINT)
    return checkpoint.size
