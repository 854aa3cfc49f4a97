"""The tables of groundswell, beside MLflow's in the one database of a home.

Every table is prefixed ``gs_``. Times are RFC 3339 UTC strings with microseconds; digests are lowercase hex. A table that did not
belong to the first schema says in its ``info`` since which revision it does.
"""

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# The revision of these tables (see `infra.schema`), as alembic keeps it; MLflow's own is in `alembic_version`.
schema_version = Table("gs_alembic_version", metadata, Column("version_num", String(32), primary_key=True))

# The ledger. `head` has one row, whose lock serialises every unit of work on PostgreSQL.
ledger_head = Table(
    "gs_ledger_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("size", Integer, nullable=False),
)
ledger_entries = Table(
    "gs_ledger_entries",
    metadata,
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
    Column("action", String(64), nullable=False, index=True),
    Column("subject", String(512), nullable=False, index=True),
    Column("run_id", String(64), index=True),
)
# Complete subtrees only: the node at (level, position) covers entries [position << level, (position + 1) << level).
ledger_nodes = Table(
    "gs_ledger_nodes",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
)
ledger_checkpoints = Table(
    "gs_ledger_checkpoints",
    metadata,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("time", String(32), nullable=False),
)
# What the ledger only commits to; a row can be erased and the ledger still verifies.
commitments = Table(
    "gs_commitments",
    metadata,
    Column("commitment", String(64), primary_key=True),
    Column("salt", String(64), nullable=False),
    Column("value", Text, nullable=False),
)
identities = Table(
    "gs_identities",
    metadata,
    Column("identity_id", String(64), primary_key=True),
    Column("name_commitment", String(64), nullable=False),
    Column("role", String(32), nullable=False),
    Column("public_key_pem", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("revoked", String(32)),
)

# Runs and their steps.
runs = Table(
    "gs_runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("pipeline", String(64), nullable=False),
    Column("status", String(16), nullable=False),  # running, completed, failed, interrupted
    Column("runner", String(32), nullable=False),
    Column("params", Text, nullable=False),  # canonical JSON
    Column("actor", String(64), nullable=False),
    Column("started", String(32), nullable=False),
    Column("ended", String(32)),
    Column("error", Text),
    Column("pid", Integer),
    Column("host", String(255)),
    Column("mlflow_run_id", String(64)),
    Column("overhead_s", Float),
)
steps = Table(
    "gs_steps",
    metadata,
    Column("run_id", String(64), ForeignKey("gs_runs.run_id"), primary_key=True),
    Column("step", String(64), primary_key=True),
    Column("status", String(16), nullable=False),  # running, completed, reused, failed, interrupted
    Column("fingerprint", String(64), nullable=False),
    Column("started", String(32), nullable=False),
    Column("ended", String(32)),
    Column("work_s", Float),
    Column("record", Text),  # canonical JSON of the step's record: config, inputs, outputs, metrics, facts
    Column("error", Text),
    Column("mlflow_run_id", String(64)),
    Index("gs_steps_fingerprint", "fingerprint"),
)

# Things with a digest. `kind` is dataset, validation, latents, codec, model, evaluation, package, media.
artifacts = Table(
    "gs_artifacts",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("location", Text, nullable=False),
    Column("facts", Text, nullable=False),  # canonical JSON
    Column("created", String(32), nullable=False),
)
model_versions = Table(
    "gs_model_versions",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("root_digest", String(64), nullable=False),
    Column("location", Text, nullable=False),
    Column("run_id", String(64)),
    Column("metrics", Text, nullable=False),  # canonical JSON
    Column("inputs", Text, nullable=False),  # canonical JSON, digests by name
    Column("mlflow_model_id", String(64)),
    Column("created", String(32), nullable=False),
    UniqueConstraint("name", "root_digest"),
    Index("gs_model_versions_root_digest", "root_digest"),
)
# Generated media. The prompt is a commitment; the picture is found by its bytes.
assets = Table(
    "gs_assets",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("run_id", String(64), nullable=False, primary_key=True),
    Column("position", Integer, nullable=False, primary_key=True),
    Column("model_name", String(255), nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("root_digest", String(64), nullable=False),
    Column("seed", String(32), nullable=False),
    Column("condition_commitment", String(64), nullable=False),
    Column("file_name", String(255), nullable=False),
    Column("created", String(32), nullable=False),
    Column("pixels_sha256", String(64)),  # these two are null for what was made before they were kept
    Column("fingerprint", String(160)),
    Column("watermark_id", String(12)),  # six bytes in hex; null where the pixels bear none
    Column("source_sha256", String(64)),  # the file that was edited or continued; null for what a model made from nothing
    Index("gs_assets_pixels", "pixels_sha256"),
    Index("gs_assets_watermark", "watermark_id"),
    Index("gs_assets_source", "source_sha256"),
)

# Signed in-toto statements, as DSSE envelopes: the provenance of a run's package, a person's approval.
attestations = Table(
    "gs_attestations",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the envelope's bytes
    Column("kind", String(32), nullable=False),  # provenance, approval
    Column("subject", String(512), nullable=False, index=True),
    Column("run_id", String(64), index=True),
    Column("signer", String(64), nullable=False),  # the name of a key: package-signing, or an identity's id
    Column("envelope", Text, nullable=False),
    Column("created", String(32), nullable=False),
    info={"since": "0003"},
)
# Items of datasets that may no longer be used. The reason is a commitment.
withdrawals = Table(
    "gs_withdrawals",
    metadata,
    Column("dataset", String(64), primary_key=True),
    Column("item", String(64), primary_key=True, index=True),
    Column("reason_commitment", String(64), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("created", String(32), nullable=False),
    info={"since": "0003"},
)

# Promotion: policies by environment, the newest of which counts; requests; the champion of each environment, which MLflow's alias
# follows; and what is to be told to others about it.
policies = Table(
    "gs_policies",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("document", Text, nullable=False),  # canonical JSON
    Column("actor", String(64), nullable=False),
    Column("created", String(32), nullable=False),
    info={"since": "0005"},
)
promotions = Table(
    "gs_promotions",
    metadata,
    Column("promotion_id", String(32), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("root_digest", String(64), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("policy_digest", String(64), nullable=False),
    Column("evidence_root", String(64), nullable=False),
    Column("evidence", Text, nullable=False),  # canonical JSON of the gate results
    Column("requester", String(64), nullable=False),
    Column("trainers", Text, nullable=False),  # identities, with spaces between
    Column("reason_commitment", String(64)),
    Column("expected_version", Integer),
    Column("expected_digest", String(64)),
    Column("previous", String(32)),
    Column("state", String(32), nullable=False),
    Column("requested", String(32), nullable=False),
    Column("expires", String(32), nullable=False),
    Column("changed", String(32), nullable=False),
    Column("lapses", String(32)),  # until when it may be champion, once it was applied
    Index("gs_promotions_model", "name", "environment"),
    Index("gs_promotions_package", "root_digest"),
    info={"since": "0005"},
)
champions = Table(
    "gs_champions",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("environment", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("root_digest", String(64), nullable=False),
    Column("promotion_id", String(32), nullable=False),
    Column("since", String(32), nullable=False),
    Column("expires", String(32), nullable=False),
    Column("entry_index", Integer, ForeignKey("gs_ledger_entries.index"), nullable=False),  # the entry that put it in
    info={"since": "0005"},
)
outbox = Table(
    "gs_outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("payload", Text, nullable=False),  # canonical JSON
    Column("created", String(32), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", String(32), nullable=False),
    Column("delivered_to", Text, nullable=False),  # canonical JSON, ids of the webhooks that have it
    Column("delivered", String(32)),  # when the last of them had; null where it waits
    Index("gs_outbox_waiting", "delivered", "next_attempt"),
    info={"since": "0005"},
)

# Lineage: OpenLineage events as received, and the edges they state.
lineage_events = Table(
    "gs_lineage_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", String(64), nullable=False, index=True),
    Column("job", String(255), nullable=False),
    Column("event_type", String(16), nullable=False),
    Column("time", String(32), nullable=False),
    Column("event", Text, nullable=False),
    Column("imported", String(64)),  # SHA-256 of the file that another producer's event came in; null for our own
)
lineage_edges = Table(
    "gs_lineage_edges",
    metadata,
    Column("source", String(512), primary_key=True),
    Column("target", String(512), primary_key=True),
    Column("event_id", Integer, ForeignKey("gs_lineage_events.id"), nullable=False),
    Index("gs_lineage_edges_target", "target"),
)
