"""Backups of a home: one file that any engine can be restored from."""
