"""The launcher: one process that starts control and data, watches them and stops them.

`start`, `stop` and `status` are what the command line uses; `python -m fuseml_core.launcher` is the process itself.
"""

from __future__ import annotations

from fuseml_core.launcher.starting import start
from fuseml_core.launcher.state import ServerState, status
from fuseml_core.launcher.stopping import stop

__all__ = ["ServerState", "start", "status", "stop"]
