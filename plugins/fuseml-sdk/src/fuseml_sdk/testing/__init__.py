"""For plugin authors: run a plugin as a server would, and check that it keeps to the contract.

```python
from fuseml_sdk.testing import conformance
from my_store import MyStore

TestMyStore = conformance(MyStore, config={"endpoint": "http://127.0.0.1:9000"})
```

`conformance()` needs pytest, which `fuseml-sdk[testing]` brings; everything else, and `python -m fuseml_sdk.testing`,
does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseml_sdk.testing.bench import Bench
    from fuseml_sdk.testing.classes import conformance
    from fuseml_sdk.testing.exemptions import Exemptions, read_baseline
    from fuseml_sdk.testing.hosts import AddressHost, InProcessHost, SubprocessHost
    from fuseml_sdk.testing.own_process import serving
    from fuseml_sdk.testing.rules import Rule, Rulebook, all_rules
    from fuseml_sdk.testing.samples import Samples
    from fuseml_sdk.testing.served import ServedPlugin
    from fuseml_sdk.testing.suite import Outcome, Suite

#: Where each name is; imported when it is first used, because pytest loads this package in every project.
_PLACES = {
    "AddressHost": "hosts", "Bench": "bench", "Exemptions": "exemptions", "InProcessHost": "hosts", "Outcome": "suite",
    "Rule": "rules", "Rulebook": "rules", "Samples": "samples", "ServedPlugin": "served", "SubprocessHost": "hosts",
    "Suite": "suite", "all_rules": "rules", "conformance": "classes", "read_baseline": "exemptions",
    "serving": "own_process",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    return value


__all__ = ["AddressHost", "Bench", "Exemptions", "InProcessHost", "Outcome", "Rule", "Rulebook", "Samples",
           "ServedPlugin", "SubprocessHost", "Suite", "all_rules", "conformance", "read_baseline", "serving"]
