"""Signatures and attestations as cosign makes them, with local keys.

Both layouts are written and read: the Sigstore bundle v0.3 as a referrer, which cosign 3 makes, and the older
`sha256-<hex>.sig` tag, which every version verifies.
"""

from __future__ import annotations

from fuseml_oci.signing.findings import Attestation, Fault, Signature
from fuseml_oci.signing.keys import PrivateKey, PublicKey, generate, is_encrypted, load_private, load_public
from fuseml_oci.signing.sign import LAYOUTS, attach, attest, sign
from fuseml_oci.signing.verify import attestations, verify

__all__ = ["LAYOUTS", "Attestation", "Fault", "PrivateKey", "PublicKey", "Signature", "attach", "attest",
           "attestations", "generate", "is_encrypted", "load_private", "load_public", "sign", "verify"]
