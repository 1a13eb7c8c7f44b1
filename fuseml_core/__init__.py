"""FuseML: an extension marketplace and plugin host that turns machine-learning tools into exchangeable parts."""

from __future__ import annotations

#: Version of the distribution `fuseml`; kept here so that `fuseml --version` imports nothing else.
__version__ = "0.1.0"
