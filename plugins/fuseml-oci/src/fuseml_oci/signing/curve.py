"""From bytes to keys: only ECDSA on P-256 is taken, everything else is refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuseml_sdk.errors import InvalidInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey


def public_of(spki: bytes, where: str) -> EllipticCurvePublicKey:
    """Read a public key; `where` is for errors.

    Raises:
        InvalidInput: It is damaged or of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(f"{where} is not a public key: its content is damaged") from None
    if not isinstance(key, EllipticCurvePublicKey):
        raise _other_kind(key, where)
    _check_curve(key, where)
    return key


def private_of(pem: bytes, password: bytes | None, where: str) -> EllipticCurvePrivateKey:
    """Read a private key from PEM.

    Raises:
        InvalidInput: It is damaged, of another kind, or the password is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password)
    except TypeError:
        raise InvalidInput(f"the key {where} is encrypted, and no password was given") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(f"{where} is not a private key, or the password is wrong") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise _other_kind(key, where)
    _check_curve(key, where)
    return key


def _check_curve(key: EllipticCurvePublicKey | EllipticCurvePrivateKey, where: str) -> None:
    if key.curve.name != "secp256r1":
        raise InvalidInput(f"{where} is a key on the curve {key.curve.name}",
                           hint="Use ECDSA on P-256, which cosign makes by default: fuseml key generate NAME")


def _other_kind(key: Any, where: str) -> InvalidInput:
    kind = type(key).__name__.strip("_").removesuffix("PublicKey").removesuffix("PrivateKey")
    return InvalidInput(f"{where} is a key of the kind {kind}",
                        hint="Use ECDSA on P-256, which cosign makes by default: fuseml key generate NAME")
