"""Python environments, built by the `uv` executable: found, locked, content-addressed and immutable.

Nothing here imports pydantic, so that the supervisor of a workload starts fast.
"""

from __future__ import annotations

from fuseml_sdk.environments.folders import Environment, ensure_environment, hold, remove_unused, users_of
from fuseml_sdk.environments.index import IndexSettings, trusted_authorities
from fuseml_sdk.environments.locks import compile_lock
from fuseml_sdk.environments.pythons import Interpreter, find_python, inspect_python
from fuseml_sdk.environments.tool import find_uv

__all__ = ["Environment", "IndexSettings", "Interpreter", "compile_lock", "ensure_environment", "find_python",
           "find_uv", "hold", "inspect_python", "remove_unused", "trusted_authorities", "users_of"]
