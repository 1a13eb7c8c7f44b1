"""The command `fuseml`. This module imports nothing, so that `fuseml --version` costs no more than Python itself."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        The exit code: 0, or that of the error (`fuseml_core.domain.errors`).
    """
    import sys

    arguments = sys.argv[1:] if argv is None else argv
    if arguments == ["--version"]:
        from fuseml_core import __version__

        sys.stdout.write(f"fuseml {__version__}\n")
        return 0
    try:
        from fuseml_core.cli.errors import guarded
        from fuseml_core.cli.root import fuseml
    except KeyboardInterrupt:  # imports take a tenth of a second, and longer the first time
        sys.stderr.write("Stopped.\n")
        return 130  # fuseml_core.cli.errors.INTERRUPTED

    return guarded(fuseml, arguments or ["--help"])
