"""The one place through which every request to a registry goes.

`SafeRegistry` replaces `do_request` of `oras.provider.Registry`, which has no timeouts, retries wrong passwords for
two minutes and sends credentials wherever it is led.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NoReturn

import requests
import requests.utils
from oras.provider import Registry  # type: ignore[import-untyped]

from fuseml_oci.bodies import read_body
from fuseml_oci.connections import Adapter
from fuseml_oci.credentials import Credentials, find_credentials
from fuseml_oci.origin import check_redirect, joined, origin_of, registry_origin
from fuseml_oci.reference import check_registry
from fuseml_oci.retries import RETRY_STATUSES, Patience, RetryPolicy
from fuseml_oci.tokens import Authorizer
from fuseml_sdk.environments import trusted_authorities
from fuseml_sdk.errors import Permanent, Retryable, Unsupported

#: Largest body that is ever held in memory: manifests and lists (distribution-spec: at least 4 MiB).
MAX_DOCUMENT = 4 << 20
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAFE = frozenset({"GET", "HEAD"})
#: Headers that may follow a redirect to another origin.
_HARMLESS = frozenset({"Accept", "Range"})


_LOG = logging.getLogger(__name__)


class _QueryHider(logging.Filter):
    """Cuts queries off the URLs that urllib3 logs: they hold signatures of storage and keys of upload sessions."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; let it pass."""
        if isinstance(record.args, tuple):
            record.args = tuple(a.partition("?")[0] if isinstance(a, str) else a for a in record.args)
        return True


for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_QueryHider())


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, and for the next bytes."""

    connect: float = 10.0
    read: float = 60.0


@dataclass(frozen=True, slots=True)
class _Call:
    """One request."""

    method: str
    url: str
    data: Any
    headers: dict[str, str]
    json: Any
    repository: str
    action: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.method} {_shown(self.url)}"


class SafeRegistry(Registry):  # type: ignore[misc]
    """Sends requests to one registry with one set of credentials; thread-safe.

    Args:
        registry: `host[:port]`.
        insecure: True for plain http, False for https, None for http on loopback hosts only.
        timeout: How long to wait for connections and bytes.
        credentials: User name and password; by default those that Docker, Podman or the environment have for this
            registry or parts of it.
        retries: Patience with passing faults.
        proxy: URL of an HTTP proxy; by default as the environment says. Never used for loopback hosts.
        ca_bundle: File with certificate authorities; by default those of the environment, else the system's.
        trusted_realms: Further hosts of token servers that may see the credentials.

    Raises:
        InvalidInput: `registry` is not `host[:port]`.
    """

    def __init__(self, registry: str, *, insecure: bool | None = None, timeout: Timeouts | None = None,
                 credentials: Credentials | None = None, retries: RetryPolicy | None = None, proxy: str = "",
                 ca_bundle: str = "", trusted_realms: tuple[str, ...] = ()) -> None:
        self.registry = check_registry(registry)
        self.origin = registry_origin(self.registry, insecure=insecure)
        self.timeout = timeout or Timeouts()
        self.retries = retries or RetryPolicy()
        authorities = trusted_authorities(ca_bundle) or True
        super().__init__(self.registry, insecure=self.origin.scheme == "http", tls_verify=authorities)
        self._prepare_session(proxy)
        self._authorizer = Authorizer(
            self.origin, lambda repository: credentials or find_credentials(self.registry, repository=repository),
            self._fetch_token, trusted_realms)

    def _prepare_session(self, proxy: str) -> None:
        self.session = _PlainSession()
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.session.trust_env = False  # else ~/.netrc would add credentials to any host
        adapter = Adapter(pool_connections=8, pool_maxsize=16, max_retries=0)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, adapter)
        self.session.headers.update({"Accept-Encoding": "identity", "User-Agent": "fuseml-oci"})
        if not self.origin.loopback:
            environment = requests.utils.get_environ_proxies(str(self.origin))
            self.session.proxies = {"http": proxy, "https": proxy} if proxy else environment

    def do_request(self, url: str, method: str = "GET", data: Any = None,
                   headers: Mapping[str, str] | None = None, json: Any = None, stream: bool = False, *,
                   repository: str = "", retry: bool = True, action: str = "", source: str = "") -> requests.Response:
        """Send one request, with authorization, redirects and retries.

        Args:
            url: Of this registry.
            method: Redirects are followed for GET and HEAD only.
            data: Body: bytes, or a file that can seek.
            headers: Further headers.
            json: Body as JSON; instead of `data`.
            stream: Leave the body to the caller, who must close the response.
            repository: For the scope of the token.
            retry: Try again after passing faults. Only for requests that may be repeated.
            action: `pull`, `push` or `delete`: what the token is kept for; by default as the method says.
            source: Another repository, of which the request reads.

        Returns:
            The response, whatever its status.

        Raises:
            Retryable: No answer after all tries.
            Permanent: The certificate is wrong, or the server leads somewhere it must not.
        """
        if origin_of(url) != self.origin:
            raise Permanent(f"registry {self.origin} sends the client to {origin_of(url)}",
                            hint="uploads and lists must stay on the registry's own origin")
        action = action or ("pull" if method in _SAFE else "delete" if method == "DELETE" else "push")
        call = _Call(method, url, data, dict(headers or {}), json, repository, action, source)
        patience = Patience(self.retries if retry else RetryPolicy(attempts=1))
        while True:
            try:
                response = self._authorized(call)
                if response.status_code not in RETRY_STATUSES or not patience.again(
                        response.headers.get("Retry-After")):
                    return response if stream else self._finish(response, url)
                response.close()
            except Retryable:
                if not patience.again():
                    raise

    def _authorized(self, call: _Call) -> requests.Response:
        purpose = f"{call.action} from {call.source}" if call.source else call.action
        scope = f"repository:{call.source}:pull" if call.source else ""
        for attempt in (1, 2):
            if authorization := self._authorizer.header(call.repository, purpose):
                call = replace(call, headers={**call.headers, "Authorization": authorization})
            if hasattr(call.data, "seek"):
                call.data.seek(0)
            response = self._follow(call)
            if response.status_code != 401 or attempt == 2 or origin_of(response.url) != self.origin:
                break  # a stranger, to whom the registry redirected, has nothing to ask for
            challenge = response.headers.get("WWW-Authenticate", "")
            if not self._authorizer.answer(challenge, call.repository, purpose, scope):
                break
            response.close()
        return response

    def _follow(self, call: _Call) -> requests.Response:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(call)
            if response.status_code not in _REDIRECTS:
                return response
            response.close()
            if call.method not in _SAFE:
                raise Permanent(f"{call} was redirected, which is followed for reading only")
            target = joined(call.url, response.headers.get("Location", ""))
            check_redirect(origin_of(call.url), origin_of(target))
            call = replace(call, url=target)
            if origin_of(target) != self.origin:
                call = replace(call, headers={k: v for k, v in call.headers.items() if k in _HARMLESS})
        raise Permanent(f"registry {self.origin} redirects more than {MAX_REDIRECTS} times")

    def _send(self, where: _Call) -> requests.Response:
        try:
            began = time.monotonic()
            response = self.session.request(
                where.method, where.url, data=where.data, json=where.json, headers=where.headers, stream=True,
                allow_redirects=False, verify=self._tls_verify, timeout=(self.timeout.connect, self.timeout.read))
            _LOG.debug("%s -> %d after %.0f ms", where, response.status_code, 1000 * (time.monotonic() - began))
            return response
        except requests.exceptions.SSLError as error:
            raise Permanent(f"{where}: the connection is not secure: {str(error)[:300]}") from None
        except requests.exceptions.Timeout:
            raise Retryable(f"{where}: no answer within {self.timeout.read:g} s "
                            f"(connecting: {self.timeout.connect:g} s)") from None
        except requests.exceptions.RequestException as error:
            raise Retryable(f"{where}: cannot be reached: {_cause(error)}",
                            hint="check the address and that the registry runs") from None

    def _finish(self, response: requests.Response, url: str) -> requests.Response:
        with response:
            # requests offers no bounded read; these two attributes are how it marks a body as read.
            response._content = read_body(response, MAX_DOCUMENT, self.timeout.read, _shown(url))
            response._content_consumed = True
        return response

    def _fetch_token(self, url: str, headers: Mapping[str, str],
                     form: Mapping[str, str] | None) -> tuple[int, bytes]:
        response = self._send(_Call("POST" if form else "GET", url, form, dict(headers), None, "", "pull"))
        return response.status_code, self._finish(response, url).content

    @property
    def asked_for_credentials(self) -> bool:
        """Whether the registry has wanted to know who asks; else nobody has checked the credentials."""
        return self._authorizer.asked

    def close(self) -> None:
        """Close all connections."""
        self.session.close()

    def __enter__(self) -> SafeRegistry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise Unsupported("this method of oras-py verifies or bounds nothing and is closed",
                          hint="use the methods of RegistryClient")

    pull = push = login = logout = set_header = get_blob = get_tags = blob_exists = delete_tags = _refuse
    download_blob = upload_blob = put_upload = chunked_upload = upload_manifest = _do_paginated_request = _refuse
    _download_blob = _upload_blob = _put_upload = _chunked_upload = _upload_manifest = _refuse


class _PlainSession(requests.Session):
    """A session that leaves redirects alone: requests would read their bodies, however large, even when told not to."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """See nothing to follow."""


def _shown(url: str) -> str:
    """The URL without its query, which may hold signatures or session keys."""
    return url.partition("?")[0][:300]


def _cause(error: Exception) -> str:
    reason = getattr(error.args[0], "reason", error) if error.args else error
    return str(reason).rpartition(": ")[2][:200] or type(error).__name__
