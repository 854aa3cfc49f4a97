"""What keeps the digest of a table of requests, which lineage shows, from being guessed back to its prompts.

The salt follows from the private key of ``content-root`` and from the table itself, so that the same table has the same digest in
one home, and work on it is found again, while nobody without the home's keys can try out what a table may have said.
"""

import hashlib
import hmac
from pathlib import Path
from typing import TYPE_CHECKING

from governance.digest import tree_digest
from infra.content_keys import signing_keys
from infra.derived_secret import derived_secret

if TYPE_CHECKING:
    from infra.home import Home

SALT_NAME = ".salt"
_USE = b"groundswell request salt 1"


def write_salt(home: "Home", folder: Path) -> None:
    """Writes the salt of a finished folder of requests into it.

    Args:
        home: The home.
        folder: The folder; it has no salt yet.

    Raises:
        BadSettingError: The private key of ``content-root`` is missing, unreadable, or not the one that the ledger names.
        RefusedError: The key that signs files was revoked.
        IntegrityError: What the ledger says of the keys breaks a rule.
    """
    signing_keys(home)  # makes them where there are none yet
    code = hmac.new(derived_secret(home, _USE), tree_digest(folder).encode(), hashlib.sha256)
    (folder / SALT_NAME).write_text(code.hexdigest(), encoding="ascii")
