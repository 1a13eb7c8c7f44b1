"""Which bundles may be installed: the policy file, and what it decides about one bundle."""

from __future__ import annotations

from fuseml_oci.trust.decision import Decision, decide
from fuseml_oci.trust.endorsement import EndorsedKeys
from fuseml_oci.trust.policy import Policy, Rule, default_policy, read_policy
from fuseml_oci.trust.scope import subject_of

__all__ = ["Decision", "EndorsedKeys", "Policy", "Rule", "decide", "default_policy", "read_policy", "subject_of"]
