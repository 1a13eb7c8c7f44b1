"""Entry point: `python -I -S …/shim/__main__.py <work directory> <import path>…`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path[:0] = sys.argv[2:]  # started without site-packages, which cost milliseconds
    from fuseml_process.shim.life import main

    sys.exit(main(sys.argv[1]))
