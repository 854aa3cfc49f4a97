"""The outside world: settings, the database, MLflow, model packages, the file system."""
