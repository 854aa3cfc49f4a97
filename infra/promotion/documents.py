"""The documents that approvals are bound to by digest, as files of an evidence bundle."""

from collections.abc import Collection

from sqlalchemy import Connection, select

from infra.tables import policies, promotions


def promotion_documents(connection: Connection, subjects: Collection[str]) -> tuple[dict[str, bytes], set[str]]:
    """Returns the gate results of the requests for some model versions, and the policies that they were judged by.

    The SHA-256 of a file is what an approval calls ``evidenceRoot`` or ``policyDigest``.

    Args:
        connection: An open connection.
        subjects: Subject strings; those of model versions count.

    Returns:
        The files by name, and the subjects of the policies in the ledger.
    """
    columns = promotions.c
    query = select(
        columns.promotion_id, columns.name, columns.version, columns.environment, columns.policy_digest, columns.evidence
    )
    found = [row for row in connection.execute(query) if f"model-version:{row.name}/{row.version}" in subjects]
    files = {f"promotion/{row.promotion_id}.json": row.evidence.encode() for row in found}
    wanted = {row.policy_digest for row in found}
    for digest, document in connection.execute(select(policies.c.digest, policies.c.document)):
        if digest in wanted:
            files[f"promotion/policy-{digest[:16]}.json"] = document.encode()
    return files, {f"policy:{row.environment}" for row in found}
