"""Whether what the ledger says of keys follows the rules, and what of it was signed by a key that was revoked."""

from collections.abc import Collection, Iterator, Mapping

from governance.dsse import key_id
from governance.errors import IntegrityError
from governance.ledger import LedgerEntry
from governance.platform_keys import SHOWN_DIGITS, KeyHistory, fingerprint_of
from infra.keys import PACKAGE_KEY, PLATFORM_KEYS

_NUM_NAMED = 3


class KeyChecker:
    """Takes in the ledger's entries, in order; judges as `governance.bundle.verify` does.

    Attributes:
        known: Every key that the entries name, of people too: PEM by its id.
        owners: Whose each of them is, ``key:<name>`` or ``identity:<id>``, by its id: who named it first.
        revoked_before: Ids of the keys that were revoked before a signed statement was recorded, by the statement's digest;
            a person's key is revoked with the person.
    """

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        self.revoked_before: dict[str, frozenset[str]] = {}
        self._histories = {f"key:{name}": KeyHistory(name) for name in PLATFORM_KEYS}
        self._revoked: frozenset[str] = frozenset()
        self._revoked_people: frozenset[str] = frozenset()
        self._signers: dict[str, str] = {}

    def note(self, entry: LedgerEntry) -> Iterator[str]:
        """Takes in an entry; yields what is wrong with it by itself."""
        pem = entry.details.get("public_key_pem")
        if entry.subject.startswith(("key:", "identity:")) and isinstance(pem, str):
            self.known[key_id(pem)] = pem
            self.owners.setdefault(key_id(pem), entry.subject)
        history = self._histories.get(entry.subject)
        if history is not None:
            try:
                history.note(entry)
            except IntegrityError as error:
                yield error.diagnosis
            self._revoked = self._revoked_people | {
                key.pem_digest for one in self._histories.values() for key in one.keys if key.revoked is not None
            }
        elif entry.action == "identity.revoked":
            self._revoked_people |= {key for key, owner in self.owners.items() if owner == entry.subject}
            self._revoked |= self._revoked_people
        elif entry.action == "attestation.signed" and self._revoked:
            self.revoked_before[entry.subject.partition(":")[2]] = self._revoked
        elif entry.action in {"model.registered", "model.signed"}:
            yield from self._note_signer(entry.subject, entry.details)

    def late_signer(self, statement: str, signers: Collection[str]) -> str:
        """Returns what is wrong with the signers of a statement, "" where nothing is.

        Args:
            statement: Its digest.
            signers: Ids of the keys whose signatures it bears.
        """
        late = sorted(self.revoked_before.get(statement, frozenset()).intersection(signers))
        return f"it is {signed_late(fingerprint_of(self.known[late[0]]), self.owners[late[0]])}" if late else ""

    def notices(self) -> Iterator[str]:
        """Yields a line for each revoked key; to be asked at the end."""
        for history in self._histories.values():
            for key in (key for key in history.keys if key.revoked is not None):
                signed = [subject.partition(":")[2] for subject, signer in self._signers.items() if signer == key.fingerprint]
                said = f"the {key.name} key {key.fingerprint[:SHOWN_DIGITS]} was revoked on {key.revoked}"
                yield f"{said}: {_refused(signed)}" if signed else said

    def _note_signer(self, subject: str, details: Mapping[str, object]) -> Iterator[str]:
        """Keeps which key signed a version's package; an entry that does not say means the current one, and proves nothing."""
        keys = self._histories[f"key:{PACKAGE_KEY}"].keys
        signer = details.get("public_key_sha256", keys[-1].fingerprint if keys else None)
        if isinstance(signer, str):
            self._signers[subject] = signer
            if "public_key_sha256" in details and any(key.fingerprint == signer and key.revoked for key in keys):
                yield f"{subject} is {signed_late(signer, f'key:{PACKAGE_KEY}')}"


def signed_late(fingerprint: str, owner: str) -> str:
    """Returns that something was signed by a key which had been revoked."""
    return f"signed by key {fingerprint[:SHOWN_DIGITS]} of {owner}, which was revoked before"


def _refused(versions: list[str]) -> str:
    named = ", ".join(versions[:_NUM_NAMED]) + (f" and {len(versions) - _NUM_NAMED} more" if len(versions) > _NUM_NAMED else "")
    return f"what it signed is refused until it is signed again (registered while it was current: {named})"
