"""Start the Python server of Seldon Core; the arguments start the process with the model."""

from __future__ import annotations

import sys
from pathlib import Path

#: A wheel can be imported from; byte code of it is written nowhere, because contents never change.
sys.path[:0] = [str(path) for path in (Path(__file__).parent.parent / "wheels").glob("fuseml_seldon-*.whl")]

from fuseml_seldon.main import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
