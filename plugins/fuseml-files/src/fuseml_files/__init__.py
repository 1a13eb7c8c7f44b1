"""The built-in model and dataset store: content-addressed files."""
