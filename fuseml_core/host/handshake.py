"""What hostings over HTTP say and hear in the same way: headers of a call, problems, and the first round trip."""

from __future__ import annotations

import json
from typing import Any

from fuseml_core.host.transport import Answer
from fuseml_sdk import calls, problems
from fuseml_sdk.errors import Internal, PluginError
from fuseml_sdk.hookspecs import PROTOCOL
from fuseml_sdk.negotiation import Agreement, negotiate

#: Path of the page that says what a plugin speaks.
DESCRIBE = f"/v{PROTOCOL}/describe"


def headers(call: calls.Call) -> dict[str, str]:
    """The headers that go with a call: its id, how many milliseconds its caller waits, and its trace."""
    made = {"content-type": "application/json", "fuseml-call-id": call.id}
    remaining = call.remaining()
    if remaining is not None:
        made["fuseml-deadline-ms"] = str(int(remaining * 1000))
    if call.traceparent:
        made["traceparent"] = call.traceparent
    return made


def object_of(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        Internal: It is none.
    """
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Internal(f"the plugin answered with {answer.status} and no JSON object")
    return document


def problem_of(answer: Answer) -> PluginError:
    """The error that an answer other than 200 stands for."""
    return problems.from_problem(object_of(answer))


def agreement_of(title: str, answer: Answer, family: str = "") -> Agreement:
    """Read the answer to the first request: what the plugin speaks and whether it could be loaded and configured.

    Args:
        title: How people know the component.
        answer: To `GET /v1/describe`.
        family: Of the component; empty takes every family of which it implements hooks.

    Returns:
        What both sides can use, with the hooks that may be called; or, not `accepted`, why there is nothing.

    Raises:
        PluginError: Why it cannot work.
    """
    if answer.status != 200:
        raise problem_of(answer)
    description = object_of(answer)
    agreement = negotiate(description, title=title, family=family)
    if not agreement.accepted:
        return agreement
    if description.get("failure"):
        raise problems.from_problem(description["failure"])
    if not isinstance(description.get("hooks"), dict):
        raise Internal(f"{title} does not say in `hooks` what it implements")
    return agreement
