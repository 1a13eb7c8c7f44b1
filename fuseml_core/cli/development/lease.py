"""Keeps a plugin under development known to the local server, for as long as this process lives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fuseml_core.domain.errors import FusemlError

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client

#: Seconds between two renewals; the server waits several times as long before it gives up.
_PAUSE = 3.0


class Lease:
    """Renews itself in a thread of its own; the server being away for a while is said once.

    Args:
        client: Of the local server.
        extension: Name of the extension.
        document: Version and components, with the addresses where they are served.
        say: Takes a line for people.
    """

    def __init__(self, client: Client, extension: str, document: dict[str, Any], say: Callable[[str], None]) -> None:
        self._client, self._extension, self._say = client, extension, say
        self._document = document
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._away, self._installed = False, ""
        self._thread = threading.Thread(target=self._run, name="fuseml-lease", daemon=True)

    def begin(self) -> None:
        """Make the plugin known now, and go on doing so.

        Raises:
            FusemlError: The server refuses it.
        """
        self._put()
        self._thread.start()

    def started_again(self, number: int) -> None:
        """Tell the server that the plugin may offer other hooks than before."""
        self._document = {**self._document, "start": number}
        self._wake.set()

    def end(self) -> None:
        """Let the server forget the plugin; a server that is gone has forgotten it."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        try:
            self._client.delete("plugins", "development", self._extension, timeout=10.0)
        except FusemlError:
            return

    def _put(self) -> None:
        answer = self._client.put("plugins", "development", self._extension, body=self._document, timeout=10.0)
        installed = str(answer.get("installed") or "") if isinstance(answer, dict) else ""
        if installed and installed != self._installed:
            self._say(f"{self._extension} {installed} is installed at the server, too; it is used again when this ends")
        self._installed = installed

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(_PAUSE)
            self._wake.clear()
            if self._stopped.is_set():
                return
            try:
                self._put()
            except FusemlError as error:
                if not self._away:
                    self._say(f"the server does not know the plugin now, and is asked again and again: {error.message}")
                self._away = True
                continue
            if self._away:
                self._say("the server knows the plugin again")
            self._away = False
