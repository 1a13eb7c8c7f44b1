"""The environment variables that a plugin process gets: an allowlist, never the server's own environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Locale and search path.
_GENERAL = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
#: Package index, proxy and certificate authorities, for the plugin itself and for the uv and git it starts.
_NETWORK = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "PIP_CONFIG_FILE",
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS",
    "UV_CONFIG_FILE", "UV_OFFLINE", "UV_CACHE_DIR",
    "FUSEML_INDEX_URL", "FUSEML_PROXY", "FUSEML_CA_BUNDLE", "FUSEML_OFFLINE", "FUSEML_PYTHONS",
)


def child_environment(environ: Mapping[str, str], state_dir: Path) -> dict[str, str]:
    """Choose the variables of a plugin process.

    Args:
        environ: The server's variables.
        state_dir: Becomes HOME, so that dot files of tools stay private to the component.
    """
    chosen = {name: environ[name] for name in (*_GENERAL, *_NETWORK) if name in environ}
    return {**chosen, "HOME": str(state_dir)}
