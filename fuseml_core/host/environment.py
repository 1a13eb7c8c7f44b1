"""The environment variables that a plugin process gets: an allowlist, never the server's own environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

#: Locale and search path.
_GENERAL = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
#: Package index, proxy and certificate authorities, for the plugin itself and for the uv and git it starts. Addresses
#: of indexes and proxies may hold passwords, so they come with the permission to use the network.
_NETWORK = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "PIP_CONFIG_FILE",
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS",
    "UV_CONFIG_FILE", "UV_OFFLINE",
    "FUSEML_INDEX_URL", "FUSEML_PROXY", "FUSEML_CA_BUNDLE", "FUSEML_OFFLINE", "FUSEML_PYTHONS",
)
_KUBERNETES = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")


def child_environment(environ: Mapping[str, str], state_dir: Path, temporary: Path,
                      forms: Iterable[str] = ()) -> dict[str, str]:
    """Choose the variables of a plugin process.

    Args:
        environ: The server's variables.
        state_dir: Becomes HOME, so that dot files of tools stay private to the extension.
        temporary: Becomes TMPDIR.
        forms: Kinds of permissions that are declared, as :data:`fuseml_sdk.permissions.KINDS` writes them.

    Returns:
        All variables of the process.
    """
    declared = set(forms)
    names = [*_GENERAL]
    if declared & {"network", "network:PORT", "kubernetes"}:
        names += _NETWORK
    if "kubernetes" in declared:
        names += _KUBERNETES
    chosen = {name: environ[name] for name in names if name in environ}
    return {**chosen, "HOME": str(state_dir), "TMPDIR": str(temporary)}
