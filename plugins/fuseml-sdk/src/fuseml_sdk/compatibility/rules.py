"""The rules: each kind of change, in each direction, with its verdict and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Which way data flows; `hook` is for what is true of a hook as a whole, `contract` for what is true of all of it.
Flow = Literal["arguments", "result", "file", "hook", "contract"]
#: `compatible`: nobody notices. `newer-server`: what is installed goes on working, but a plugin that uses what is new
#: needs a server that has it. `incompatible`: what is installed, or every plugin built from now on, may fail with a
#: server of another version; it needs a new protocol.
Verdict = Literal["compatible", "newer-server", "incompatible"]
#: From harmless to harmful.
VERDICTS: tuple[Verdict, ...] = ("compatible", "newer-server", "incompatible")


@dataclass(frozen=True, slots=True)
class Rule:
    """What one kind of change means in one direction.

    Attributes:
        kind: What happens, such as `widened`.
        flow: In which direction the data goes.
        verdict: What it means.
        reason: Why, in one sentence without a full stop.
    """

    kind: str
    flow: Flow
    verdict: Verdict
    reason: str


_TABLE: tuple[Rule, ...] = (
    Rule("hook-added", "hook", "compatible", "plugins of before do not implement it and are not asked to, servers of "
         "before never call it"),
    Rule("required-hook-added", "hook", "incompatible", "the server relies on it, installed plugins do not have it"),
    Rule("hook-removed", "hook", "incompatible", "installed plugins that implement it do not load any more"),
    Rule("hook-now-required", "hook", "incompatible", "installed plugins may do without it"),
    Rule("hook-now-optional", "hook", "newer-server", "servers of before rely on it"),
    Rule("now-idempotent", "hook", "incompatible", "a call is repeated after a lost answer, and installed plugins need "
         "not be ready for that"),
    Rule("no-longer-idempotent", "hook", "incompatible", "servers of before repeat the call"),
    Rule("moved", "hook", "incompatible", "the other side looks for it at the old place"),
    Rule("optional-added", "arguments", "compatible", "plugins of before ignore it, servers of before leave it out"),
    Rule("required-added", "arguments", "incompatible", "servers of before do not send it, so that every plugin built "
         "from now on fails there: give it a default"),
    Rule("removed", "arguments", "incompatible", "installed plugins read it"),
    Rule("now-required", "arguments", "incompatible", "servers of before may leave it out"),
    Rule("now-optional", "arguments", "incompatible", "installed plugins rely on it, and the server may leave it out"),
    Rule("widened", "arguments", "incompatible", "the server may send what installed plugins refuse or misunderstand"),
    Rule("narrowed", "arguments", "newer-server", "installed plugins get less than they accept; servers of before may "
         "send what a plugin built from now on refuses"),
    Rule("default", "arguments", "incompatible", "leaving it out means one thing to the server and another to the "
         "plugin"),
    Rule("optional-added", "result", "compatible", "servers of before ignore it, plugins of before leave it out"),
    Rule("required-added", "result", "incompatible", "installed plugins do not return it"),
    Rule("removed", "result", "incompatible", "what installed plugins return there is lost, and servers of before "
         "read it"),
    Rule("now-required", "result", "incompatible", "installed plugins may leave it out"),
    Rule("now-optional", "result", "newer-server", "servers of before rely on it"),
    Rule("widened", "result", "newer-server", "servers of before refuse the new values; installed plugins do not "
         "return them"),
    Rule("narrowed", "result", "incompatible", "installed plugins may return what the server refuses now"),
    Rule("default", "result", "incompatible", "installed plugins leave it out and mean the old default"),
    Rule("optional-added", "file", "newer-server", "servers of before refuse files that say it"),
    Rule("required-added", "file", "incompatible", "files that exist do not say it"),
    Rule("removed", "file", "incompatible", "files that exist may say it and are refused"),
    Rule("now-required", "file", "incompatible", "files that exist may leave it out"),
    Rule("now-optional", "file", "newer-server", "servers of before refuse files that leave it out"),
    Rule("widened", "file", "newer-server", "servers of before refuse the new values"),
    Rule("narrowed", "file", "incompatible", "files that exist may say what is refused now"),
    Rule("default", "file", "incompatible", "files that exist leave it out and mean the old default"),
    Rule("format-added", "contract", "compatible", "nobody has such a file yet"),
    Rule("format-removed", "contract", "incompatible", "files that exist are not understood any more"),
    Rule("error-added", "contract", "newer-server", "servers of before do not know what to do about it and treat it as "
         "a defect of the plugin"),
    Rule("error-removed", "contract", "incompatible", "installed plugins raise it"),
    Rule("error-changed", "contract", "incompatible", "callers of another version react in another way"),
    Rule("protocol", "contract", "incompatible", "both sides must speak the new protocol, or the server both"),
)
#: Every rule by kind and direction.
RULES: dict[tuple[str, Flow], Rule] = {(rule.kind, rule.flow): rule for rule in _TABLE}
