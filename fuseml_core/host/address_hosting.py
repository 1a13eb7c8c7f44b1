"""Talks to a component that somebody else runs: anything that speaks the contract over HTTP, in any language.

It is neither started, restarted, confined nor stopped from here; what is left of supervision is to notice that it
is away, to say so at once, and to be there when it is back.
"""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

import pluggy
import structlog

from fuseml_core import __version__
from fuseml_core.host import handshake
from fuseml_core.host.backoff import RestartPolicy
from fuseml_core.host.components import Component, ComponentInfo, State
from fuseml_core.host.endpoints import Endpoint, endpoint
from fuseml_core.host.grounds import Grounds
from fuseml_core.host.handover import Handover
from fuseml_core.host.proxy import make_proxy
from fuseml_core.host.transport import Answer, ConnectionPool, Lost, Unsent
from fuseml_sdk import calls, loading, problems
from fuseml_sdk.contract import Operation
from fuseml_sdk.errors import Cancelled, Internal, NotReady, Permanent, PluginError, Retryable
from fuseml_sdk.negotiation import Agreement

log = structlog.get_logger(__name__)

#: Seconds for the first answer of an endpoint.
ANSWER_TIMEOUT = 30.0
#: Waits longer than this are told to the caller instead of being slept through.
_LONGEST_SILENT_WAIT = 2.0
_AWAY_HINT = "It is tried again by itself. Start it, or correct its address."
_UNTRUSTED_HINT = ("The certificate must be in force, for the host of the address, and signed by an authority of the "
                   "system or in the file FUSEML_CA_BUNDLE of the server.")
#: What intermediaries answer by themselves when the plugin behind them is not there or has enough to do.
_AWAY = frozenset({429, 502, 503, 504})


class AddressHosting:
    """Connects at the first call, and again with backoff after the endpoint was away.

    Args:
        component: Where to find it, and what to send along.
        ca_bundle: File with the certificate authorities for `https:`; empty takes those of the system.
        policy: When an endpoint that was away is tried again.
        answer_timeout: Seconds for its first answer.
        grounds: Say which files are the server's and other components'; None: there are none.
    """

    def __init__(self, component: Component, *, ca_bundle: str = "", policy: RestartPolicy | None = None,
                 answer_timeout: float = ANSWER_TIMEOUT, grounds: Grounds | None = None) -> None:
        self.component = component
        self._handover = Handover(component, grounds or Grounds())
        self._ca_bundle = ca_bundle
        self._policy = policy or RestartPolicy(first=0.25, threshold=6, pause=5.0)
        self._answer_timeout = answer_timeout
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._stopped = threading.Event()
        self._endpoint: Endpoint | None = None
        self._pool: ConnectionPool | None = None
        self._manager: pluggy.PluginManager | None = None
        self._agreement: Agreement | None = None
        self._ready_since: float | None = None
        self._connects = 0
        self._unanswered_at = 0.0
        self._why_away, self._remedy = "", _AWAY_HINT

    def invoke(self, operation: Operation, arguments: dict[str, Any], call: calls.Call) -> Any:
        """Call a hook through pluggy and the proxy, connecting if need be.

        Raises:
            PluginError: What the plugin raised, or why it could not be reached.
        """
        manager = self._connected(call)
        with calls.serving(call):
            result = loading.call(manager, operation.hook, arguments)
        return self._handover.check(operation.hook, result)

    def info(self) -> ComponentInfo:
        """The state as the last call found it: nobody is asked for it."""
        with self._lock:
            return ComponentInfo(self.component, self._state(), None, max(0, self._connects - 1), self._why_away,
                                 agreement=self._agreement)

    def stop(self, drain: float) -> None:  # noqa: ARG002  calls in flight were waited for at the gate
        """Close the connections and refuse calls from now on; whoever runs the plugin goes on running it."""
        self._stopped.set()
        with self._lock:
            pool, self._pool, self._ready_since = self._pool, None, None
        if pool is not None:
            pool.close()

    # -- calls -----------------------------------------------------------------------------------------------------

    def _exchange(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """What the proxy's hooks do: send, and once more if the connection was lost and that is safe."""
        body = operation.encode_arguments(arguments)
        call = calls.current()
        for last in (False, True):
            self._connected(call)
            left = call.remaining()
            if left == 0.0:
                # A caller without time says nothing about the plugin, and no socket takes a timeout of zero seconds.
                raise self._late(operation.hook, call)
            try:
                answer = self._request("POST", operation.route, body, handshake.headers(call), left)
            except TimeoutError:
                raise self._late(operation.hook, call) from None
            except (Unsent, Lost) as error:
                self._note_away(str(error))
                # What never arrived may be sent again whatever it is; what may have been acted upon only if that
                # does no harm.
                if not last and (isinstance(error, Unsent) or operation.idempotent):
                    continue
                raise self._broken(operation, error) from None
            if answer.status == 200:
                return operation.decode_result(answer.body)
            raise self._problem(answer, operation.idempotent)
        raise AssertionError("unreachable")  # pragma: no cover

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str],
                 timeout: float | None) -> Answer:
        with self._lock:
            pool, place = self._pool, self._endpoint
        if pool is None or place is None:
            raise Unsent("the connections were closed")
        sent = {**headers, "user-agent": f"fuseml/{__version__}", "accept": "application/json"}
        if self.component.token:
            sent["authorization"] = f"Bearer {self.component.token}"
        return pool.request(method, place.prefix + path, body, sent, timeout)

    def _problem(self, answer: Answer, idempotent: bool) -> PluginError:
        """The error that an answer other than 200 stands for, also when an intermediary gave it."""
        title, place, extension = self.component.title, self.component.address, self.component.extension
        if 300 <= answer.status < 400:
            return Permanent(f"{title} answered with a redirect ({answer.status}), which is never followed",
                             hint=f"Correct the address {place}.")
        if answer.status in (401, 403):
            return Permanent(f"{title} at {place} refuses the request ({answer.status})",
                             hint=f"Set its token with: fuseml extension configure {extension} --secret KEY")
        if answer.media_type.partition(";")[0].strip().lower() == problems.MEDIA_TYPE:
            return handshake.problem_of(answer)
        if answer.status in _AWAY:
            message = f"{title} cannot be reached behind {place}: the answer was {answer.status}"
            if answer.status in (429, 503):
                return NotReady(message, hint="Call again later.")
            return Retryable(message) if idempotent else Permanent(
                message, hint="The call was not repeated, because it may have taken effect.")
        return Internal(f"{title} answered with {answer.status} and no problem document ({answer.media_type!r})",
                        hint=f"Something else than a plugin may answer at {place}.")

    def _late(self, hook: str, call: calls.Call) -> Cancelled:
        return Cancelled(f"{self.component.title} did not answer {hook} before the deadline",
                         details={"call_id": call.id})

    def _broken(self, operation: Operation, error: Exception) -> PluginError:
        title, place = self.component.title, self.component.address
        if isinstance(error, Unsent):
            return self._away(error)
        message = f"{title} closed the connection during {operation.hook}: {error}"
        if operation.idempotent:
            return Retryable(message, hint=f"See the log of what runs at {place}.")
        return Permanent(message, hint="The call was not repeated, because it may have taken effect.")

    def _away(self, error: Exception) -> NotReady:
        untrusted = isinstance(error.__context__, ssl.SSLCertVerificationError)
        return NotReady(f"{self.component.title} is away: {self.component.address} cannot be reached: {error}",
                        hint=_UNTRUSTED_HINT if untrusted else _AWAY_HINT)

    # -- life ------------------------------------------------------------------------------------------------------

    def _connected(self, call: calls.Call) -> pluggy.PluginManager:
        """The proxy of a plugin that has answered. Raises why there is none."""
        with self._lock:
            if self._manager is not None and self._ready_since is not None:
                return self._manager
        began = time.monotonic()
        if not self._connecting.acquire(timeout=-1 if call.remaining() is None else call.remaining() or 0.0):
            raise NotReady(f"{self.component.title} has not answered yet", hint="Call again shortly.")
        try:
            with self._lock:
                if self._manager is not None and self._ready_since is not None:
                    return self._manager
                if self._unanswered_at > began:
                    # Another call has just waited in vain; to do so one after the other would help nobody.
                    raise NotReady(self._why_away, hint=self._remedy)
            return self._connect(call)
        finally:
            self._connecting.release()

    def _connect(self, call: calls.Call) -> pluggy.PluginManager:
        """One round trip that shows what the plugin speaks. Needs the lock for connecting."""
        remaining = call.remaining()
        delay = self._policy.delay
        if delay > (_LONGEST_SILENT_WAIT if remaining is None else min(_LONGEST_SILENT_WAIT, remaining)):
            # The same words as when it was tried, so that who waits for it need not note each time that it waits.
            raise NotReady(self._why_away, hint=self._remedy, details={"retry_after": delay})
        if self._stopped.wait(delay) or self._stopped.is_set():
            raise NotReady(f"{self.component.title} is stopped")
        remaining = call.remaining()
        limit = self._answer_timeout if remaining is None else min(self._answer_timeout, remaining)
        if limit == 0.0:
            raise self._late("the first request", call)
        try:
            manager = self._handshake(limit)
        except Exception as error:
            known = error if isinstance(error, PluginError) else problems.unexpected(error)
            reason = self.component.masking.error(known)
            self._note_failure(reason.message, 0.0, reason.hint)
            raise reason from None
        with self._lock:
            self._manager, self._ready_since, self._why_away = manager, time.monotonic(), ""
            self._connects += 1
        return manager

    def _handshake(self, limit: float) -> pluggy.PluginManager:
        title, place = self.component.title, self.component.address
        self._open()
        try:
            answer = self._request("GET", handshake.DESCRIBE, None, {}, limit)
        except TimeoutError:
            self._unanswered_at = time.monotonic()
            raise NotReady(f"{title} is away: {place} did not answer within {limit:g} s", hint=_AWAY_HINT) from None
        except (Unsent, Lost) as error:
            raise self._away(error) from None
        if answer.status != 200:
            raise self._problem(answer, idempotent=True)
        self._agreement = agreement = handshake.agreement_of(title, answer, self.component.family)
        if not agreement.accepted:
            raise agreement.refusal()
        if f"{self.component.family}_describe" not in agreement.hooks:
            raise Permanent(f"what answers at {place} is no {self.component.family}: it does not offer "
                            f"{self.component.family}_describe", hint="Correct the address, or the plugin.")
        return loading.manager_for(make_proxy(agreement.hooks, self._exchange))

    def _open(self) -> None:
        with self._lock:
            if self._pool is not None:
                return
            self._endpoint = endpoint(self.component.address, extension=self.component.extension,
                                      token=self.component.token, ca_bundle=self._ca_bundle)
            self._pool = ConnectionPool(self._endpoint.connect)

    def _note_away(self, reason: str) -> None:
        """Remember that the endpoint is gone, once for all calls that find it out; the next one connects again."""
        with self._lock:
            if self._ready_since is None:
                return
            ran_for, self._ready_since = time.monotonic() - self._ready_since, None
        self._note_failure(reason, ran_for, _AWAY_HINT)

    def _note_failure(self, reason: str, ran_for: float, remedy: str) -> None:
        with self._lock:
            is_news, self._why_away, self._remedy = self._why_away != reason, reason, remedy
            self._policy.failed(ran_for)
        if is_news:
            log.warning("plugin at an address is away", component=self.component.title, cause=reason)

    def _state(self) -> State:
        if self._stopped.is_set():
            return "stopped"
        if self._ready_since is not None:
            return "ready"
        return "failed" if self._why_away else "idle"
