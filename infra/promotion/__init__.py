"""Promotion in the database: requests, approvals, champions, and the guards around MLflow's aliases."""
