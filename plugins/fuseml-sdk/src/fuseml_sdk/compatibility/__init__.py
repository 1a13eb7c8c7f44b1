"""What a change of the contract means for those who built on it: compare two contracts, rule by rule.

The direction decides. Arguments are written by the server and read by plugins; results are written by plugins and
read by the server; files are written by authors and read by the server. Whoever reads has to understand whatever the
other side, of another version, may write.
"""

from __future__ import annotations

from fuseml_sdk.compatibility.contracts import Change, compare, worst
from fuseml_sdk.compatibility.documents import baseline, current, read, releases
from fuseml_sdk.compatibility.rules import RULES, VERDICTS, Rule, Verdict

__all__ = ["RULES", "VERDICTS", "Change", "Rule", "Verdict", "baseline", "compare", "current", "read", "releases",
           "worst"]
