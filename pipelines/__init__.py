"""Kubeflow pipelines: defined once, run on one machine or on a cluster."""
