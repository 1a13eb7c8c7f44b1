"""One setting each for package index, proxy and CA, in the words of every tool that needs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

#: Variables of the caller that tools may see when the setting is not made here: how this machine reaches the network.
_INHERITED = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy",
    "no_proxy", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
    "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST", "UV_INDEX_STRATEGY", "UV_HTTP_TIMEOUT", "UV_CACHE_DIR",
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST", "NETRC",
)
#: Where systems keep the certificate authorities they trust.
_SYSTEM_STORES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
                  "/etc/ssl/ca-bundle.pem")


def trusted_authorities(ca_bundle: str = "", environ: Mapping[str, str] | None = None) -> str:
    """The certificate authorities to trust: those given, those of the environment, or those of the system.

    Args:
        ca_bundle: Path of a PEM file; empty if nothing is set.
        environ: Variables to look at; the process environment by default.

    Returns:
        Path of a PEM file; empty where the system keeps none that is known.
    """
    source = os.environ if environ is None else environ
    given = [ca_bundle, *(source.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))]
    return next(filter(None, given), "") or next(filter(os.path.exists, _SYSTEM_STORES), "")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How to reach a package index. Empty fields leave it to the environment of the process.

    Attributes:
        index_url: Base URL of a PEP 503 index.
        proxy: URL of an HTTP proxy.
        ca_bundle: Path of a PEM file with the CAs to trust.
        offline: Never ask an index; only what is cached or at hand.
        find_links: Folder with wheels that are at hand, such as those that came with an archive; need not exist.
    """

    index_url: str = ""
    proxy: str = ""
    ca_bundle: str = ""
    offline: bool = False
    find_links: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> IndexSettings:
        """Read the settings from a JSON object; missing keys are empty."""
        return cls(index_url=str(values.get("index_url") or ""), proxy=str(values.get("proxy") or ""),
                   ca_bundle=str(values.get("ca_bundle") or ""), offline=bool(values.get("offline")),
                   find_links=str(values.get("find_links") or ""))

    def to_dict(self) -> dict[str, object]:
        """The settings as a JSON object."""
        return {"index_url": self.index_url, "proxy": self.proxy, "ca_bundle": self.ca_bundle, "offline": self.offline,
                "find_links": self.find_links}

    def variables(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment variables for uv, pip, git and HTTP clients.

        Args:
            environ: Where network variables are inherited from; the process environment by default.
        """
        source = os.environ if environ is None else environ
        found = {name: source[name] for name in _INHERITED if source.get(name)}
        if not {"UV_SYSTEM_CERTS", "UV_NATIVE_TLS"} & found.keys() and any(map(os.path.exists, _SYSTEM_STORES)):
            found["UV_SYSTEM_CERTS"] = "1"  # uv trusts a list of its own otherwise, git and Debian's pip the system's
        if self.index_url:
            for name in ("UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
                found.pop(name, None)
            found |= {"UV_DEFAULT_INDEX": self.index_url, "PIP_INDEX_URL": self.index_url}
        if self.proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                found |= {name: self.proxy, name.lower(): self.proxy}
        if self.ca_bundle:
            for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO",
                         "AWS_CA_BUNDLE"):
                found[name] = self.ca_bundle
            found.pop("SSL_CERT_DIR", None)
        if self.find_links and os.path.isdir(self.find_links):  # noqa: PTH112 - pathlib costs supervisors a start
            found["UV_FIND_LINKS"] = ",".join(filter(None, (self.find_links, found.get("UV_FIND_LINKS"))))
            found["PIP_FIND_LINKS"] = " ".join(filter(None, (self.find_links, found.get("PIP_FIND_LINKS"))))
        if self.offline:
            found |= {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1"}
        return found
