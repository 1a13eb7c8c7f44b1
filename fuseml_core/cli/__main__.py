"""`python -m fuseml_core.cli`: the command `fuseml` where its script is not on PATH."""

from __future__ import annotations

import sys

from fuseml_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
