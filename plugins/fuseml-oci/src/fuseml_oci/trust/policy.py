"""Reading the policy file strictly: what is misspelt must not silently mean less protection."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuseml_oci.trust.rules import ALLOW, KEYS, MARKETPLACE, REJECT, Policy, Rule, default_policy
from fuseml_oci.trust.scope import check_glob
from fuseml_sdk.errors import InvalidInput, NotFound

__all__ = ["ALLOW", "KEYS", "MARKETPLACE", "REJECT", "Policy", "Rule", "default_policy", "read_policy"]

VERSION = 1
MAX_FILE, MAX_RULES, MAX_KEYS = 1 << 20, 1000, 100
_FIELDS = ("match", "action", "keys", "threshold", "attestations", "reason")
_HEADER = re.compile(r"\s*\[\[\s*[\"']?rule[\"']?\s*\]\]\s*(#.*)?")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        NotFound: There is no such file.
        InvalidInput: Something in it is wrong; the message says where and what.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no policy file {path}",
                       hint="A server makes the default one when it starts (fuseml server start), unless FUSEML_POLICY "
                            "names another file.") from None
    except OSError as error:
        raise InvalidInput(f"the policy file {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise InvalidInput(f"the policy file {path} is larger than {MAX_FILE} bytes")
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError:
        raise InvalidInput(f"the policy file {path} is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"the policy file {path} is not TOML: {error}") from None
    return _Reader(path, text).policy(document)


class _Reader:
    """Turns a document into a policy; errors name the line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, text.splitlines()
        self._headers = [n for n, line in enumerate(self._lines, 1) if _HEADER.fullmatch(line)]

    def policy(self, document: Mapping[str, Any]) -> Policy:
        for key in document:
            if key not in ("version", "rule"):
                raise self._error(self._line_of(key), f"unknown key {key!r}", "Known are version and [[rule]].")
        version, rules = document.get("version"), document.get("rule", [])
        if type(version) is not int or version != VERSION:
            raise self._error(self._line_of("version"), f"version is {version!r}" if "version" in document else
                              "version is missing", f"Write version = {VERSION} at the top.")
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise self._error(self._line_of("rule"), "rule is not a list of tables", "Begin each with [[rule]].")
        if len(rules) > MAX_RULES:
            raise self._error(0, f"{len(rules)} rules are more than {MAX_RULES}", "")
        if len(self._headers) != len(rules):  # written in another way; then lines are not known
            self._headers = [0] * len(rules)
        return Policy(tuple(self._rule(number, rule) for number, rule in enumerate(rules, 1)), self._path)

    def _rule(self, number: int, table: Mapping[str, Any]) -> Rule:
        start = self._headers[number - 1]
        for key in table:
            if key not in _FIELDS:
                raise self._error(self._line_of(key, start), f"rule {number} has an unknown key {key!r}",
                                  f"Known are {', '.join(_FIELDS)}.")
        try:
            return _rule(number, start, table, self._path.parent)
        except _Fault as fault:
            raise self._error(self._line_of(fault.key, start) or start, f"rule {number}: {fault.message}",
                              fault.hint) from None

    def _line_of(self, key: str, start: int = 0) -> int:
        """The line that sets a key: below the header `start`, or at the top of the file."""
        pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]|\s*\[\[?\s*[\"']?{re.escape(key)}\b")
        following = [line for line in self._headers if line > start]
        end = following[0] - 1 if start and following else len(self._lines)
        return next((n for n in range(start + 1, end + 1) if pattern.match(self._lines[n - 1])), start)

    def _error(self, line: int, message: str, hint: str) -> InvalidInput:
        where = f"{self._path}, line {line}" if line else str(self._path)
        return InvalidInput(f"{where}: {message}", hint=hint, details={"path": str(self._path), "line": line})


class _Fault(Exception):
    """What is wrong with a key of a rule."""

    def __init__(self, key: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.key, self.message, self.hint = key, message, hint


def _rule(number: int, line: int, table: Mapping[str, Any], folder: Path) -> Rule:
    if "match" not in table:
        raise _Fault("", "match is missing", 'Say which bundles it is about: match = "ghcr.io/our-team/**"')
    glob = _glob(table["match"])
    reason = _text(table, "reason")
    if ("action" in table) == ("keys" in table):
        raise _Fault("action" if "action" in table else "", "exactly one of action and keys is needed",
                     'Write action = "reject", action = "allow" or keys = ["keys/NAME.pub"].')
    if "action" in table:
        for key in ("threshold", "attestations"):
            if key in table:
                raise _Fault(key, f"{key} has no meaning without keys")
        if table["action"] not in (REJECT, ALLOW):
            raise _Fault("action", f"action is {table['action']!r}", 'Write "reject" or "allow".')
        return Rule(glob, table["action"], reason=reason, number=number, line=line)
    keys = _keys(table["keys"], folder)
    return Rule(glob, KEYS if keys else MARKETPLACE, keys, _threshold(table, keys), _attestations(table), reason,
                number, line)


def _glob(value: Any) -> str:
    if not isinstance(value, str):
        raise _Fault("match", f"match is {value!r}, not text")
    try:
        return check_glob(value)
    except InvalidInput as error:
        raise _Fault("match", error.message, error.hint) from None


def _keys(value: Any, folder: Path) -> tuple[Path, ...]:
    """The files of the keys; nothing for "marketplace"."""
    if value == MARKETPLACE:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(key, str) and key for key in value):
        raise _Fault("keys", "keys is neither a list of files nor \"marketplace\"", 'Write keys = ["keys/NAME.pub"].')
    if len(value) > MAX_KEYS:
        raise _Fault("keys", f"{len(value)} keys are more than {MAX_KEYS}")
    if any("\0" in key for key in value):
        raise _Fault("keys", "the name of a file contains a NUL character")
    paths = tuple((folder / Path(key).expanduser()).absolute() for key in value)
    if len(set(paths)) != len(paths):
        raise _Fault("keys", "a key is there twice")
    return paths


def _threshold(table: Mapping[str, Any], keys: tuple[Path, ...]) -> int:
    value = table.get("threshold", 1)
    if type(value) is not int or value < 1:
        raise _Fault("threshold", f"threshold is {value!r}", "Write a whole number, 1 or more.")
    if keys and value > len(keys):
        raise _Fault("threshold", f"threshold is {value}, and there are only {len(keys)} keys: no bundle could pass")
    return value


def _attestations(table: Mapping[str, Any]) -> tuple[str, ...]:
    value = table.get("attestations", [])
    if not isinstance(value, list) or not all(isinstance(kind, str) and _TYPE.fullmatch(kind) for kind in value):
        raise _Fault("attestations", "attestations is not a list of predicate types",
                     'They are URIs: attestations = ["https://slsa.dev/provenance/v1"]')
    return tuple(dict.fromkeys(value))


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or len(value) > 1000 or not all(c.isprintable() for c in value):
        raise _Fault(key, f"{key} is not a line of text of at most 1000 characters")
    return value
