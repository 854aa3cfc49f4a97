"""A whole server for a team: database, object store, MLflow, and the platform that keeps the ledger signed."""
