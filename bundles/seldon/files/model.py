"""Load the model in its own environment and answer what Seldon's server asks."""

from __future__ import annotations

import sys
from pathlib import Path

#: A wheel can be imported from; byte code of it is written nowhere, because contents never change.
sys.path[:0] = [str(path) for path in (Path(__file__).parent.parent / "wheels").glob("fuseml_kserve-*.whl")]

from fuseml_kserve.main import main  # noqa: E402

sys.exit(main([*sys.argv[1:], "--lifeline"]))
