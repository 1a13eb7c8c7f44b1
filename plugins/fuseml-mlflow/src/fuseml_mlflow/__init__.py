"""MLflow for FuseML: a builder for MLflow projects and their trainer."""
