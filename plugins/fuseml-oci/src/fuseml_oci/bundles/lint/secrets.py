"""Rules against what must never be published."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from fuseml_oci.bundles.lint.rules import Found, Severity, rule
from fuseml_oci.bundles.lint.subject import Subject

#: What has a form of its own. Groups are never repeated in messages.
_KNOWN = {
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
    "an AWS access key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "a GitLab token": re.compile(rb"\bglpat-[A-Za-z0-9_-]{20}\b"),
    "a Slack token": re.compile(rb"\bxox[abeoprs]-[A-Za-z0-9-]{10,}\b"),
    "a Google API key": re.compile(rb"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a Hugging Face token": re.compile(rb"\bhf_[A-Za-z0-9]{34}\b"),
    "a package index token": re.compile(rb"\bpypi-[A-Za-z0-9_-]{50,}"),
    "a Stripe key": re.compile(rb"\b[rs]k_live_[0-9A-Za-z]{24,}\b"),
    "a JSON web token": re.compile(rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "a password in an address": re.compile(rb"\b[a-z][a-z0-9+]{1,10}://[^\s:@/{}$<>\"']{1,64}:[^\s:@/{}$<>\"']{3,64}@[A-Za-z0-9]"),
}
_ASSIGNED = re.compile(rb"(?i)\b(?:password|passwd|secret|api_?key|access_?key|auth_?token)\b[\"']?\s*[:=]\s*"
                       rb"[\"']([^\"'\s{}$<>]{8,})[\"']")
_EXAMPLE = re.compile(rb"(?i)example|sample|dummy|change.?me|placeholder|your|xxxx|\*\*\*|test|none|null|false|true")
_FILES = re.compile(r"(?i)^(\.env(\..*)?|\.netrc|_netrc|\.pypirc|\.npmrc|\.git-credentials|\.dockercfg"
                    r"|id_(rsa|dsa|ecdsa|ed25519)|credentials(\.json)?|.*\.(p12|pfx|jks|keystore|kdbx))$")


@rule("B401", Severity.ERROR, reason="Bundles are copied to places that nobody controls; what was pushed is known.",
      fix="Take it out and revoke it. Settings marked `writeOnly` are the place for secrets.")
def no_secrets(bundle: Subject) -> Found:
    """No file or wheel holds keys, tokens or passwords of known forms."""
    for path, data in _scanned(bundle):
        for what, pattern in _KNOWN.items():
            if match := pattern.search(data):
                yield _place(path, data, match), f"looks like {what}"


@rule("B402", Severity.WARNING, reason="A password that is written down is the same at everybody's.",
      fix="Read it from a setting that is marked `writeOnly`.")
def no_written_passwords(bundle: Subject) -> Found:
    """No file assigns a fixed text to a name that sounds like a password."""
    for path, data in _scanned(bundle):
        for match in _ASSIGNED.finditer(data):
            if not _EXAMPLE.search(match[1]):
                yield _place(path, data, match), "a fixed password or key is written here"


@rule("B403", Severity.ERROR, reason="Such files hold credentials, whatever is in them today.",
      fix="Take the file out of the bundle's folders.")
def no_credential_files(bundle: Subject) -> Found:
    """No file is named like those in which programs keep credentials."""
    for path in bundle.files:
        if _FILES.match(PurePosixPath(path).name):
            yield path, "programs keep credentials in files of this name"


def _place(path: str, data: bytes, match: re.Match[bytes]) -> str:
    line = data.count(b"\n", 0, match.start()) + 1
    return f"{path}:{line}"


def _scanned(bundle: Subject) -> Iterator[tuple[str, bytes]]:
    """Files and members of the extension's own wheels, with a path that people find."""
    yield from bundle.files.items()
    for wheel in bundle.wheels:
        for name, data in wheel.texts.items():
            yield f"wheels/{wheel.filename}!{name}", data
