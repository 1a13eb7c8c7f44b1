"""Routes of a served plugin: what it is, whether it is well, and its hooks."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import pluggy

from fuseml_sdk import __version__, calls, contract, loading, problems
from fuseml_sdk.errors import Cancelled, InvalidInput, NotFound, PluginError, Unsupported
from fuseml_sdk.hookspecs import PROTOCOL
from fuseml_sdk.serve import faults
from fuseml_sdk.serve.configuration import Configuration
from fuseml_sdk.serve.wire import BadRequest, Request, Response


class Application:
    """Answers requests for one plugin.

    Loading the plugin is part of construction; if it fails the application still answers, and every answer that
    needs the plugin is the reason, so that the host learns it by the ordinary way.

    Args:
        address: `module:attribute` of the plugin object.
        configuration: What the plugin is configured with.
    """

    def __init__(self, address: str, configuration: Configuration) -> None:
        self._operations = contract.operations()
        self._routes = {each.route: each for each in self._operations.values()}
        self._pages: dict[str, Callable[[], dict[str, Any]]] = {
            "/healthz": lambda: {"status": "alive"}, "/readyz": self._ready, f"/v{PROTOCOL}/describe": self._describe}
        self._manager: pluggy.PluginManager = loading.empty_manager()
        self._callers: dict[str, Callable[..., Any]] = {}
        self.failure: PluginError | None = None
        try:
            self._manager = loading.manager_for(loading.load(address))
            self._configure(configuration)
        except Exception as error:
            self.failure = faults.at_start(error)

    def _configure(self, configuration: Configuration) -> None:
        if self._manager.hook.fuseml_configure.get_hookimpls():
            loading.call(self._manager, "fuseml_configure",
                         {"config": configuration.config, "state_dir": configuration.state_dir})

    def respond(self, request: Request, started: Callable[[calls.Call], None] | None = None) -> Response:
        """Answer one request; whatever goes wrong becomes a problem document.

        Args:
            request: Read whole.
            started: Told the call before its hook runs, so that a runtime can cancel it when the caller goes away.
        """
        try:
            return self._route(request, started)
        except Exception as error:
            return problem(faults.classified(error))

    def close(self) -> None:
        """Call the plugin's `fuseml_shutdown`; a failure is written to stderr and otherwise ignored."""
        if self._manager.hook.fuseml_shutdown.get_hookimpls():
            try:
                loading.call(self._manager, "fuseml_shutdown", {})
            except (Exception, SystemExit):
                traceback.print_exc(file=sys.stderr)

    def _route(self, request: Request, started: Callable[[calls.Call], None] | None) -> Response:
        operation = self._routes.get(request.path)
        if operation is not None:
            return self._call(operation, request, started) if request.method == "POST" else _method_not_allowed("POST")
        page = self._pages.get(request.path)
        if page is None:
            raise NotFound(f"there is no {request.path}", hint=f"See /v{PROTOCOL}/describe for the hooks.")
        if request.method != "GET":
            return _method_not_allowed("GET")
        return Response(200, json.dumps(page(), default=str).encode())

    def _call(self, operation: contract.Operation, request: Request,
              started: Callable[[calls.Call], None] | None) -> Response:
        if self.failure is not None:
            raise self.failure
        if operation.hook in ("fuseml_configure", "fuseml_shutdown"):
            raise Unsupported(f"{operation.hook} is called by the runtime alone")
        with calls.serving(_call_of(request)) as call:
            if started is not None:
                started(call)
            if call.expired:
                raise Cancelled(f"the deadline of {operation.hook} had passed when the call arrived")
            arguments = operation.decode_arguments(request.body)
            result = self._caller(operation.hook)(**arguments)
            return Response(200, operation.encode_result(result), headers={"fuseml-call-id": call.id})

    def _caller(self, hook: str) -> Callable[..., Any]:
        found = self._callers.get(hook)
        if found is None:
            found = self._callers[hook] = loading.caller(self._manager, hook)
        return found

    def _describe(self) -> dict[str, Any]:
        return {
            "protocols": [PROTOCOL],
            "contract_digest": contract.frozen()["digest"],
            "sdk_version": __version__,
            "hooks": {name: {"idempotent": self._operations[name].idempotent}
                      for name in loading.implemented(self._manager)},
            "deprecations": [notice.as_dict() for notice in loading.deprecated(self._manager)],
            "failure": problems.to_problem(self.failure) if self.failure else None,
        }

    def _ready(self) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        facts: dict[str, Any] = {}
        if self._manager.hook.fuseml_health.get_hookimpls():
            facts = loading.call(self._manager, "fuseml_health", {})
        return {"status": "ready", "facts": facts}


def problem(error: BaseException) -> Response:
    """The response that tells an error."""
    document = problems.to_problem(error)
    return Response(int(document["status"]), json.dumps(document).encode(), problems.MEDIA_TYPE)


def refusal(error: BadRequest) -> Response:
    """The response to a request that could not be read."""
    document = {**problems.to_problem(InvalidInput(error.message)), "status": error.status}
    return Response(error.status, json.dumps(document).encode(), problems.MEDIA_TYPE)


def _method_not_allowed(allowed: str) -> Response:
    document = {**problems.to_problem(InvalidInput(f"only {allowed} is allowed here")), "status": 405}
    return Response(405, json.dumps(document).encode(), problems.MEDIA_TYPE, {"allow": allowed})


def _call_of(request: Request) -> calls.Call:
    deadline = None
    milliseconds = request.headers.get("fuseml-deadline-ms", "")
    if milliseconds:
        if not (milliseconds.isascii() and milliseconds.isdigit()):
            raise InvalidInput("the header fuseml-deadline-ms is not a whole number of milliseconds")
        deadline = time.monotonic() + int(milliseconds) / 1000
    traceparent = request.headers.get("traceparent", "")
    identifier = request.headers.get("fuseml-call-id", "")
    if identifier.isascii() and identifier.isprintable() and 0 < len(identifier) <= 64:
        return calls.Call(deadline, identifier, traceparent)
    return calls.Call(deadline, traceparent=traceparent)
