from __future__ import annotations

import base64
import json

import pytest

from fuseml_oci.credentials import Credentials, find_credentials
from fuseml_sdk.errors import InvalidInput


def config(tmp_path, auths):
    (tmp_path / "config.json").write_text(auths if isinstance(auths, str) else json.dumps({"auths": auths}))
    return {"DOCKER_CONFIG": str(tmp_path)}


def test_found_by_exact_host_and_port(tmp_path):
    encoded = base64.b64encode(b"me:pass:word").decode()
    env = config(tmp_path, {"ghcr.io": {"auth": encoded}, "h:5000": {"username": "u", "password": "p"},
                            "https://index.docker.io/v1/": {"auth": encoded}, "empty.io": {}})
    assert find_credentials("ghcr.io", env) == Credentials("me", "pass:word")
    assert find_credentials("h:5000", env) == Credentials("u", "p")
    assert find_credentials("docker.io", env) == Credentials("me", "pass:word")
    for other in ("h", "h:5001", "evil-ghcr.io", "ghcr.io:444", "empty.io"):
        assert find_credentials(other, env) is None


def test_no_file_is_no_credentials(tmp_path):
    assert find_credentials("ghcr.io", {"DOCKER_CONFIG": str(tmp_path)}) is None
    assert find_credentials("ghcr.io", {"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 5}', '{"auths": {"ghcr.io": {"auth": "%%%secret"}}}'])
def test_damaged_file_is_named_and_not_quoted(tmp_path, text):
    with pytest.raises(InvalidInput, match=r"config\.json") as error:
        find_credentials("ghcr.io", config(tmp_path, text))
    assert "secret" not in str(error.value)


def test_password_does_not_show():
    assert "hunter2" not in repr(Credentials("me", "hunter2"))
