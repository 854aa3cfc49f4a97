"""The platform's keys as the ledger names them."""

from sqlalchemy import Connection, select

from governance.errors import IntegrityError
from governance.ledger import LedgerEntry, parse_entry
from governance.platform_keys import KeyHistory
from infra.tables import ledger_entries


def key_history(connection: Connection, name: str) -> KeyHistory:
    """Returns the keys of a name as the ledger's entries have them; whether the ledger holds is not asked.

    Raises:
        IntegrityError: An entry is malformed, or breaks a rule.
    """
    return KeyHistory(name, key_entries(connection, name))


def key_entries(connection: Connection, name: str) -> list[LedgerEntry]:
    """Returns the ledger's entries about the keys of a name, in order.

    Raises:
        IntegrityError: One is malformed, or not stored as bytes.
    """
    columns = ledger_entries.c
    query = select(columns.entry).where(columns.subject == f"key:{name}").order_by(columns.index)
    found = connection.execute(query).scalars().all()
    if not all(isinstance(data, bytes | memoryview) for data in found):
        raise IntegrityError(f"an entry about key {name} is not stored as bytes")
    return [parse_entry(bytes(data)) for data in found]
