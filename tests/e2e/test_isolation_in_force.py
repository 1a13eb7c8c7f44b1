"""What confines extensions is shown to whoever asks, on this machine (R133)."""

from __future__ import annotations

import sys

import pytest


def test_r133_the_doctor_says_what_is_in_force_and_why_not_more(shared):
    check, = shared.json("extension", "doctor", "isolation")["checks"]
    assert check["id"] == "isolation"
    assert check["reason"].startswith("enforced: environment, private files, limits")
    if sys.platform != "linux":
        pytest.skip("only Linux enforces more")
    assert "no new privileges" in check["reason"]
    enforced, _, lacking = check["reason"].partition("; not enforced: ")
    for name in ("files", "system calls", "network", "own user"):
        assert name in enforced or f"{name} (" in lacking, "each is in force, or is not for a reason"
