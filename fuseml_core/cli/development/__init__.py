"""`fuseml plugin dev`: a plugin that runs from its source, and starts again whenever that changes."""
