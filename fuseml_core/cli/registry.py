"""`fuseml registry`: credentials for OCI registries, and a registry of one's own."""

from __future__ import annotations

import click


@click.group()
def registry() -> None:
    """Log in to OCI registries, or serve one."""
