"""Artifacts in folders and object stores."""
