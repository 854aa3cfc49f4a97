"""Builds the container images: their locks, their wheels, their base, their digests and their bills of materials."""
