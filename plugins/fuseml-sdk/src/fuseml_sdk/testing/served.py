"""A plugin that is being served, in whatever host, as rules and tests see it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuseml_sdk import problems
from fuseml_sdk.contract import operations
from fuseml_sdk.errors import Internal
from fuseml_sdk.hookspecs import PROTOCOL
from fuseml_sdk.testing.exchanges import Answer, Exchange
from fuseml_sdk.testing.processes import PluginProcess

#: Seconds after which a call counts as hanging.
CALL_SECONDS = 60.0
#: Seconds for what did not answer before, so that a plugin that hangs in one hook is told of within minutes.
AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Observed:
    """One request and its answer, kept for the rules about the wire."""

    method: str
    path: str
    answer: Answer


@dataclass
class ServedPlugin:
    """A plugin that answers; made by :func:`fuseml_sdk.testing.serving` and by hosts.

    Attributes:
        host: Name of the host, such as `subprocess`.
        exchange: How requests reach it.
        state: Its state directory; an empty one of no meaning for a plugin at an address.
        log: File with everything that it writes; None where its output is not its own.
        process: Its process; None where it has none of its own.
        observed: Every exchange so far.
    """

    host: str
    exchange: Exchange
    state: Path
    log: Path | None = None
    process: PluginProcess | None = None
    close: Callable[[], None] = lambda: None
    observed: list[Observed] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _hanging: set[str] = field(default_factory=set)

    def describe(self) -> dict[str, Any]:
        """What `/v1/describe` answers."""
        return self.document("GET", f"/v{PROTOCOL}/describe")

    def document(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        """The JSON object that a request is answered with.

        Raises:
            PluginError: It is answered with a problem document, or with no JSON object, or not at all.
        """
        answer = self.ask(method, path, body)
        if answer.status != 200:
            raise _error(answer)
        try:
            document = json.loads(answer.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Internal(f"{method} {path} is answered with {answer.body[:200]!r}, not with a JSON object")
        return document

    def call(self, hook: str, /, *, seconds: float = CALL_SECONDS, deadline: float | None = None,
             **arguments: Any) -> Any:
        """Call a hook and return its result as the type in the hookspec.

        Args:
            hook: Name of the hook.
            seconds: How long to wait for the answer.
            deadline: Seconds that the plugin is told to have; None tells nothing.
            arguments: As the hookspec names them.

        Raises:
            PluginError: What the plugin raised, as a server would see it.
        """
        operation = operations()[hook]
        body = operation.encode_arguments(operation.check_arguments(arguments))
        headers = {} if deadline is None else {"fuseml-deadline-ms": str(int(deadline * 1000))}
        answer = self.ask("POST", operation.route, body, headers, seconds)
        if answer.status != 200:
            raise _error(answer)
        return operation.decode_result(answer.body)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None,
            seconds: float = CALL_SECONDS) -> Answer:
        """Send any request.

        Raises:
            Internal: There is no answer; the details hold the end of the log.
        """
        sent = {"content-type": "application/json", **(headers or {})} if body is not None else dict(headers or {})
        if self.process is not None and self.process.poll() is not None:
            # The kit holds the listening socket too, so nobody would refuse the connection.
            raise Internal(f"the plugin went away: exit code {self.process.returncode}", details=self._facts())
        if path in self._hanging:
            seconds = min(seconds, AGAIN_SECONDS)
        try:
            answer = self.exchange(method, path, body, sent, seconds)
        except TimeoutError:
            if seconds >= CALL_SECONDS:
                self._hanging.add(path)
            raise Internal(f"{method} {path} was not answered in {seconds:g} s", details=self._facts()) from None
        except OSError as error:
            raise Internal(f"the plugin went away: {error}", details=self._facts()) from None
        with self._lock:
            self.observed.append(Observed(method, path, answer))
        return answer

    def written(self) -> str:
        """Everything in its log."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""

    def _facts(self) -> dict[str, Any]:
        return {"log": self.written()[-4000:]} if self.log else {}


def _error(answer: Answer) -> Exception:
    try:
        document = json.loads(answer.body)
    except ValueError:
        return Internal(f"status {answer.status} without a problem document: {answer.body[:200]!r}")
    return problems.from_problem(document)
