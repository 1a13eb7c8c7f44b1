"""Whether the plugins of a bundle speak with this server, as far as its manifest tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fuseml_core.domain.errors import Invalid
from fuseml_sdk.negotiation import foresee

#: The wheel of the SDK that a bundle carries.
_SDK = re.compile(r"fuseml_sdk-([0-9][^-]*)-")


def foreseen(name: str, version: str, descriptor: Mapping[str, Any]) -> list[str]:
    """Judge the SDK that an extension brings along, before anything of it is fetched.

    Args:
        name: Of the extension.
        version: Of the extension.
        descriptor: With the manifest, which names the wheels in the bundle.

    Returns:
        What people should know, one sentence each.

    Raises:
        Invalid: It is too old for this server; what is installed stays as it is.
    """
    manifest = descriptor.get("manifest") or {}
    sdk = _sdk_version(manifest.get("environment") or {})
    if not sdk or not manifest.get("components"):
        return []
    agreement = foresee(sdk, title=f"{name} {version}")
    if not agreement.accepted:
        raise Invalid(agreement.reason, hint=agreement.fix, details={"agreement": agreement.as_dict()})
    if agreement.state != "newer":
        return []
    ours = agreement.ours.sdk_version
    said = f"{name} {version} was built with SDK {sdk}, which is newer than {ours} of this server"
    return [f"{said}: what is new is not used"]


def _sdk_version(environment: Mapping[str, Any]) -> str:
    wheels = [*(environment.get("wheels") or []), *(environment.get("vendored") or [])]
    return next((match[1] for wheel in wheels if (match := _SDK.match(str(wheel)))), "")
