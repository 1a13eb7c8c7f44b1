"""The mark of a specification of a hook."""

from __future__ import annotations

import pluggy

from fuseml_sdk import PROJECT

#: Marks a method as the specification of a FuseML hook.
hookspec = pluggy.HookspecMarker(PROJECT)
