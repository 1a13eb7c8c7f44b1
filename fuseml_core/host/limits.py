"""How much a plugin process may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Resource limits of a process; 0 means none.

    Attributes:
        memory: Bytes of address space.
        open_files: Descriptors at once.
        processes: Processes and threads of the same user.
        file_size: Bytes of one file.
    """

    memory: int = 0
    open_files: int = 0
    processes: int = 0
    file_size: int = 0
