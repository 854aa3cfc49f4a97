"""The platform service: read-only pages, health and metrics, and an endpoint for lineage events. It imports no torch."""
