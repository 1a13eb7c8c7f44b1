from __future__ import annotations

import pytest

from fuseml_oci.digests import split_digest
from fuseml_oci.reference import Reference, parse
from fuseml_sdk.errors import InvalidInput

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(("text", "expected"), [
    ("oci://ghcr.io/org/name:1.2.3", Reference("ghcr.io", "org/name", "1.2.3")),
    ("ghcr.io/org/name", Reference("ghcr.io", "org/name")),
    ("oci://registry/name", Reference("registry", "name")),
    ("localhost/name:x", Reference("localhost", "name", "x")),
    ("oci://localhost:5000/a/b/c__d-e.f@sha256:" + HEX, Reference("localhost:5000", "a/b/c__d-e.f", "", f"sha256:{HEX}")),
    (f"127.0.0.1:80/n:t@sha256:{HEX}", Reference("127.0.0.1:80", "n", "t", f"sha256:{HEX}")),
    ("oci://[::1]:5000/n", Reference("[::1]:5000", "n")),
    ("oci://GHCR.io/n", Reference("ghcr.io", "n")),
    (f"oci://h/n@sha512:{HEX}{HEX}", Reference("h", "n", "", f"sha512:{HEX}{HEX}")),
])
def test_parse(text, expected):
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize("text", [
    "", "oci://", "oci://host", "oci://host/", "name", "org/name", "https://ghcr.io/a/b", "oci://oci://h/n",
    "oci://h/UPPER", "oci://h/a/../b", "oci://h/a//b", "oci://h//a", "oci://h/-a", "oci://h/a_", "oci://h/a___b",
    "oci://h/a:", "oci://h/a:.x", "oci://h/a:x+y", "oci://h/a:" + "x" * 129, "oci://h/a:b:c", "oci://h/a:b/c",
    "oci://h/a@", "oci://h/a@sha256:zz", "oci://h/a@sha256:" + "A" * 64, f"oci://h/a@sha256:{HEX}0", f"oci://h/a@md5:{HEX}",
    f"oci://h/a@sha256:{HEX}\n", "oci://h/a\n", "oci://h:x/a", "oci://h:/a", "oci://h:0/a", "oci://h:65536/a",
    "oci://user:pw@h/a", "oci://user@h/a", "oci://-h/a", "oci://h../a", "oci://[::1/a", "oci://[zz]/a", "oci://h h/a",
    "oci://h/" + "a/" * 128 + "a", "oci://h/a?b", "oci://h/a#b", "oci://h/ä", "h.io/a b",
])
def test_what_is_not_a_reference_is_refused_with_a_reason(text):
    with pytest.raises(InvalidInput) as error:
        parse(text)
    assert len(error.value.message) > 10


def test_with_digest_and_tag():
    reference = parse("oci://h.io/n:1")
    pinned = reference.with_digest(f"sha256:{HEX}")
    assert (pinned.locator, reference.locator, parse("h.io/n").locator) == (f"sha256:{HEX}", "1", "")
    assert str(pinned) == f"oci://h.io/n:1@sha256:{HEX}"
    assert str(pinned.with_tag("2")) == "oci://h.io/n:2"
    with pytest.raises(InvalidInput):
        reference.with_digest("sha256:../../etc/passwd")


@pytest.mark.parametrize("digest", ["sha256:../../../../etc/x", "sha256/..", "", "sha256:", ":", "sha384:" + "0" * 96])
def test_digests_are_checked_before_they_become_paths(digest):
    with pytest.raises(InvalidInput):
        split_digest(digest)
