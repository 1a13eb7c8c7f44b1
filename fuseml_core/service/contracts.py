"""What plugins speak and what the server speaks: whether they understand each other, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fuseml_core.domain.errors import NotFound
from fuseml_sdk.compatibility import Change, compare, current, worst
from fuseml_sdk.negotiation import negotiate
from fuseml_sdk.versions import parse_version


@dataclass(frozen=True, slots=True)
class Speaker:
    """A component and what is known of its contract.

    Attributes:
        extension: Name of the extension; of a built-in plugin, its own.
        version: Version of the extension.
        family: store, agent or builder.
        name: Within extension and family.
        hosting: Where it runs.
        state: Of the component, such as `ready`.
        agreement: What its process and the server agreed on when it was started last; None before.
        contract: The contract of the SDK in its environment; None if there is none to read, as by address.
    """

    extension: str
    version: str
    family: str
    name: str
    hosting: str
    state: str
    agreement: Mapping[str, Any] | None = None
    contract: Mapping[str, Any] | None = None


class Contracts:
    """Compares contracts; starts nothing.

    Args:
        speakers: The components that there are.
    """

    def __init__(self, speakers: Callable[[], Iterable[Speaker]]) -> None:
        self._speakers = speakers

    def ours(self) -> dict[str, Any]:
        """The server's contract: `protocol`, `sdk_version`, `digest`, `hooks`, `errors` and `formats`."""
        return current()

    def compare(self, extension: str = "") -> list[dict[str, Any]]:
        """Hold what each component speaks against what the server speaks.

        Args:
            extension: Only components of this extension; empty: all.

        Returns:
            For each `extension`, `version`, `component` (`<family>/<name>`), `hosting`, `state`, `agreement` (as its
            process said when it was started, otherwise as its environment lets expect; None if nothing is known),
            `started` (whether its process said it), `changes` between its contract and the server's as far as they
            concern its family, and `verdict` on them.

        Raises:
            NotFound: No component is of this extension.
        """
        found = [speaker for speaker in self._speakers() if extension in ("", speaker.extension)]
        if extension and not found:
            raise NotFound(f"there is no plugin of an extension {extension!r}",
                           hint="List them with: fuseml plugin list")
        ours = current()
        return [self._compared(speaker, ours) for speaker in found]

    def _compared(self, speaker: Speaker, ours: Mapping[str, Any]) -> dict[str, Any]:
        changes = _between(speaker.contract, ours) if speaker.contract else []
        concerned = [change for change in changes if _concerns(change, speaker.family)]
        return {
            "extension": speaker.extension, "version": speaker.version,
            "component": f"{speaker.family}/{speaker.name}", "hosting": speaker.hosting, "state": speaker.state,
            "started": speaker.agreement is not None, "agreement": speaker.agreement or _expected(speaker),
            "changes": [change.as_dict() for change in concerned], "verdict": worst(concerned),
        }


def _between(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[Change]:
    """From the earlier contract to the later one, as the rules are meant."""
    later = parse_version(str(theirs.get("sdk_version") or "0")) > parse_version(str(ours["sdk_version"]))
    return compare(ours, theirs) if later else compare(theirs, ours)


def _concerns(change: Change, family: str) -> bool:
    """Whether a plugin of a family meets it; formats of files were judged when the extension was installed."""
    if change.flow == "file":
        return False
    return not change.hooks or any(hook.startswith((f"{family}_", "fuseml_")) for hook in change.hooks)


def _expected(speaker: Speaker) -> dict[str, Any] | None:
    """The agreement that its environment lets expect; which hooks it implements only its process can say."""
    if speaker.contract is None:
        return None
    said = speaker.contract
    title = f"extension {speaker.extension} {speaker.version} ({speaker.family} {speaker.name})"
    agreement = negotiate({"protocols": [said.get("protocol")], "contract_digest": said.get("digest"),
                           "sdk_version": said.get("sdk_version")}, title=title)
    return agreement.as_dict()
