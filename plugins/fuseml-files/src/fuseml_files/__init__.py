"""The built-in store for models and datasets: content-addressed directories on this machine."""
