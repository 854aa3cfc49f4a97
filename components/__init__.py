"""The steps of the pipelines, one folder a step."""
