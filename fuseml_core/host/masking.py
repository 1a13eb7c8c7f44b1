"""Takes secrets out of what a plugin lets out without meaning to, such as an error that quotes its settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fuseml_sdk.errors import PluginError

#: Stands where a secret was.
MASK = "***"
#: Shorter texts are words that stand in any log.
_SHORTEST = 4


class Masking:
    """Replaces secrets in texts, as far as they are quoted whole or by the line.

    Args:
        secrets: Values of settings, of any JSON type; those that are no text are looked for as Python and JSON show
            the texts in them.
    """

    def __init__(self, secrets: Iterable[Any] = ()) -> None:
        found = {part for text in _texts(list(secrets)) for part in (text, *text.splitlines())}
        found |= {repr(text)[1:-1] for text in found}
        self._secrets = sorted((text for text in found if len(text.strip()) >= _SHORTEST), key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def error(self, error: PluginError) -> PluginError:
        """Take secrets out of an error. Returns the same one."""
        if self._secrets:
            error.message, error.hint = self.text(error.message), self.text(error.hint)
            error.args = (error.message,)
            error.details = self._data(error.details)
        return error

    def _data(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self._data(key): self._data(entry) for key, entry in value.items()}
        return [self._data(entry) for entry in value] if isinstance(value, list | tuple) else value


def _texts(value: Any) -> Iterable[str]:
    """All texts in a value, numbers as they are written."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
