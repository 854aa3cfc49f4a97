"""When items of a dataset may no longer be used: a licence ends, a person objects. Pure rules:

1. A data scientist, ops or an admin withdraws items; an auditor does not, and a revoked identity does nothing.
2. There is a reason, of 1 to 2,000 characters. The ledger holds a commitment to it, so that it can be erased.
3. An item is the SHA-256 of its bytes, and is in the dataset that it is withdrawn from. Where nothing shows that any more,
   because the dataset's folder is gone, whoever withdraws says so, and the entry does.
4. An item is withdrawn wherever it is: from every recorded dataset that holds the same bytes, and from those recorded later.
5. Nothing is withdrawn twice from a dataset, and nothing is taken back.
6. A withdrawal reaches whatever was made from the dataset, whichever split the item was in: what is only held out is not learned
   from, but evaluations are made with it. What is reached is marked and not deleted; promotion refuses it.
7. Nothing new is made from the item: an import leaves it out, and a step that learns refuses a dataset, or latents, that hold it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from governance.errors import BadRecordError, RefusedError
from governance.identity import Identity, Role, require_role
from governance.ledger import MAX_ENTRY_BYTES

ACTION = "dataset.withdrawn"
MAX_REASON_CHARACTERS = 2_000
MAX_ITEMS_PER_ENTRY = (MAX_ENTRY_BYTES - 2_048) // 67  # an item is its 64 digits, two quotes and a comma
UNKNOWN_SPLIT = "unknown"

_WITHDRAW = frozenset({Role.DATA_SCIENTIST, Role.OPS, Role.ADMIN})
_ITEM = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_NUM_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """Items of one dataset that were withdrawn together.

    Attributes:
        dataset: The dataset's digest.
        created: When, RFC 3339 UTC.
        actor: Who withdrew them; ``system`` where a dataset was recorded that holds what was withdrawn before.
        num_items: How many.
        reason: Why; None where that was erased.
    """

    dataset: str
    created: str
    actor: str
    num_items: int
    reason: str | None


def check_withdraw(actor: Identity) -> None:
    """Checks that an identity may withdraw items.

    Raises:
        RefusedError: It may not.
    """
    require_role(actor, _WITHDRAW)


def parse_items(texts: Iterable[str]) -> tuple[str, ...]:
    """Returns the items that some texts name, sorted, each once; empty texts name none.

    Raises:
        BadRecordError: A text is no SHA-256 in hexadecimal, or there is no item at all.
    """
    items = {text.strip().lower() for text in texts} - {""}
    for item in sorted(items):
        if not _ITEM.fullmatch(item):
            raise BadRecordError(
                f"{item!r:.80} is no item",
                hint="an item is named by the 64 hexadecimal digits of its SHA-256, as in the manifest",
            )
    if not items:
        raise BadRecordError("no item is named", hint="name one with --item SHA256, or a file of them with --items-from FILE")
    return tuple(sorted(items))


def checked_reason(text: str) -> str:
    """Returns a reason without white space around it.

    Raises:
        BadRecordError: It is empty, too long, or holds a control character.
    """
    reason = text.strip()
    if not reason or len(reason) > MAX_REASON_CHARACTERS or _CONTROL.search(reason):
        raise BadRecordError(
            f"{reason[:40]!r} is no reason",
            hint=f"1 to {MAX_REASON_CHARACTERS:,} characters that say why, none of them a control character",
        )
    return reason


def require_known(items: Sequence[str], known: Mapping[str, str], dataset: str) -> None:
    """Checks that items are in a dataset.

    Args:
        items: The items.
        known: What the dataset's manifest holds.
        dataset: What to call the dataset.

    Raises:
        BadRecordError: Some are not.
    """
    if strangers := [item for item in items if item not in known]:
        raise BadRecordError(
            f"{dataset} holds no item {named(strangers)}", hint="an item's SHA-256 stands in the dataset's manifest.parquet"
        )


def require_none_withdrawn(items: Mapping[str, str], withdrawn: Iterable[str], dataset: str) -> None:
    """Checks that a dataset from which something is to be learned holds nothing that was withdrawn.

    Args:
        items: What the dataset holds, with each item's split.
        withdrawn: Everything that was withdrawn.
        dataset: What to call the dataset.

    Raises:
        RefusedError: It holds some of it.
    """
    found = sorted(items.keys() & set(withdrawn))
    if found:
        raise RefusedError(
            f"{dataset} holds {items_text(len(found), 'withdrawn item')}: {named(found)}",
            hint="import the source again into another folder (`groundswell data import`): withdrawn items are left out",
        )


def items_text(num_items: int, noun: str = "item") -> str:
    """Returns a number of items in words: ``1 item``, ``1,200 items``."""
    return f"1 {noun}" if num_items == 1 else f"{num_items:,} {noun}s"


def named(items: Sequence[str]) -> str:
    """Returns items as a line names them: a few of them, in full."""
    left = len(items) - _NUM_NAMED
    return ", ".join(items[:_NUM_NAMED]) + (f" and {left:,} more" if left > 0 else "")


def entry_details(items: Sequence[str], *, created: str, reason_commitment: str, has_manifest: bool) -> Iterator[dict[str, Any]]:
    """Yields the details of the entries that a withdrawal from one dataset takes; one, unless there are very many items.

    Args:
        items: The items, sorted.
        created: When they are withdrawn, as the rows say.
        reason_commitment: What stands for the reason.
        has_manifest: Whether the dataset's manifest showed that it holds them.
    """
    for start in range(0, len(items), MAX_ITEMS_PER_ENTRY):
        chunk = list(items[start : start + MAX_ITEMS_PER_ENTRY])
        details = {"created": created, "items": chunk, "num_items": len(chunk), "reason_commitment": reason_commitment}
        yield details if has_manifest else {**details, "manifest": "missing"}
