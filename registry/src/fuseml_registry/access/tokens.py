"""Bearer tokens: JWTs (RFC 7519) signed with a local ES256 key (RFC 7518, 3.4) and verified without asking anybody.

The claims are those of the docker token specification: `access` lists what was granted. A refresh token has the
type `refresh` and names, by a fingerprint, the password that it was given for: a new password ends it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput

#: Longest token that is looked at, in characters.
MAX_TOKEN = 32_768
#: Seconds that clocks may differ; there is one clock here, but it may be set back.
LEEWAY = 30.0
_P256_BYTES = 32


class InvalidToken(Exception):
    """A token that is malformed, forged, expired or meant for somebody else."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a verified token says.

    Attributes:
        subject: User; empty is anonymous.
        grants: Repository -> actions.
        catalog: Whether the list of repositories may be read.
        fingerprint: Of the password, in refresh tokens.
    """

    subject: str
    grants: Mapping[str, frozenset[str]]
    catalog: bool = False
    fingerprint: str = ""


class Tokens:
    """Signs and verifies tokens of one registry.

    Args:
        key: Its private key.
        service: Its name: issuer and audience.
        clock: Unix time in seconds.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, service: str, clock: Callable[[], float] = time.time) -> None:
        self._key, self._public, self._service, self._clock = key, key.public_key(), service, clock
        point = self._public.public_bytes(serialization.Encoding.DER,
                                          serialization.PublicFormat.SubjectPublicKeyInfo)
        self._key_id = hashlib.sha256(point).hexdigest()[:32]

    def issue(self, subject: str, grants: Mapping[str, frozenset[str]], lifetime: float, *,
              catalog: bool = False) -> str:
        """Sign an access token that is good for `lifetime` seconds."""
        access = [{"type": "repository", "name": name, "actions": sorted(actions)}
                  for name, actions in grants.items() if actions]
        if catalog:
            access.append({"type": "registry", "name": "catalog", "actions": ["*"]})
        return self._sign("JWT", {"sub": subject, "access": access}, lifetime)

    def issue_refresh(self, subject: str, fingerprint: str, lifetime: float) -> str:
        """Sign a refresh token for a user with a password of this fingerprint."""
        return self._sign("refresh", {"sub": subject, "pw": fingerprint}, lifetime)

    def verify(self, text: str, kind: str = "JWT") -> Token:
        """Return what a token says.

        Args:
            text: The token.
            kind: `JWT` for access, `refresh` for refresh tokens.

        Raises:
            InvalidToken: It cannot be trusted; the message says why.
        """
        claims = self._claims(text, kind)
        grants: dict[str, frozenset[str]] = {}
        catalog = False
        for entry in claims.get("access", []):
            if entry["type"] == "repository":
                grants[entry["name"]] = frozenset(entry["actions"]) | grants.get(entry["name"], frozenset())
            elif (entry["type"], entry["name"]) == ("registry", "catalog"):
                catalog = True
        return Token(claims["sub"], grants, catalog, claims.get("pw", ""))

    def _sign(self, kind: str, claims: dict[str, Any], lifetime: float) -> str:
        now = int(self._clock())
        header = {"alg": "ES256", "kid": self._key_id, "typ": kind}
        claims = {"iss": self._service, "aud": self._service, **claims, "iat": now, "nbf": now,
                  "exp": now + int(lifetime), "jti": secrets.token_hex(8)}
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(_P256_BYTES) + s.to_bytes(_P256_BYTES))}"

    def _claims(self, text: str, kind: str) -> dict[str, Any]:
        if len(text) > MAX_TOKEN or text.count(".") != 2:
            raise InvalidToken("it is not a token of this registry")
        signed, _, last = text.rpartition(".")
        try:
            header, claims = (json.loads(_decode(part)) for part in signed.split("."))
            signature = _decode(last)
        except (ValueError, RecursionError):
            raise InvalidToken("it is malformed") from None
        if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "ES256":
            raise InvalidToken("it is not signed in the way this registry signs")
        if len(signature) != 2 * _P256_BYTES:
            raise InvalidToken("its signature is malformed")
        r, s = (int.from_bytes(part) for part in (signature[:_P256_BYTES], signature[_P256_BYTES:]))
        try:
            self._public.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise InvalidToken("its signature is wrong") from None
        # What follows was signed by this registry and has its form.
        now = self._clock()
        if header.get("typ") != kind:
            raise InvalidToken("it is a token of another kind")
        if claims["aud"] != self._service or claims["iss"] != self._service:
            raise InvalidToken("it is meant for another registry")
        if now >= claims["exp"] or now < claims["nbf"] - LEEWAY:
            raise InvalidToken("it has expired")
        return claims


def fingerprint(password_hash: str) -> str:
    """Return a fingerprint of a password's hash, which tells nothing about the password."""
    return hashlib.sha256(b"refresh\0" + password_hash.encode()).hexdigest()[:32]


def signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key in a PEM file; make it, readable for its owner only, if the file is missing.

    Raises:
        InvalidInput: The file holds no ES256 key, or others may read it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        write_durably(path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))
        return key
    if path.stat().st_mode & 0o077:
        raise InvalidInput(f"{path} signs tokens and can be read by others", hint=f"chmod 600 {os.fspath(path)}")
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is not an unencrypted private key in PEM form: {error}") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey) or not isinstance(found.curve, ec.SECP256R1):
        raise InvalidInput(f"{path} is not a key for ES256 (P-256)",
                           hint="remove the file; a key is made at the next start")
    return found


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
