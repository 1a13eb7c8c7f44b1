"""The vocabulary of permissions (R133)."""

from __future__ import annotations

import pytest

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.permissions import KINDS, asked_for, parse, unknown


@pytest.mark.parametrize(("name", "form", "argument"), [
    ("network", "network", ""), ("network:443", "network:PORT", "443"), ("kubernetes", "kubernetes", ""),
    ("unix-sockets", "unix-sockets", ""), ("shared-memory", "shared-memory", ""), ("processes", "processes", ""),
    ("secrets:api_key", "secrets:NAME", "api_key"), ("secrets:WAREHOUSE", "secrets:NAME", "WAREHOUSE"),
    ("filesystem:read:/srv/data", "filesystem:read:PATH", "/srv/data"),
    ("filesystem:write:/srv/a:b", "filesystem:write:PATH", "/srv/a:b"),
])
def test_r133_permissions_are_understood(name, form, argument):
    permission = parse(name)
    assert (permission.kind.form, permission.argument) == (form, argument)


@pytest.mark.parametrize("name", [
    "", "disk", "Network", "network:", "network:0", "network:65536", "network:080", "network:PORT", "network:\u0664",
    "secrets", "secrets:", "secrets:a b", "filesystem", "filesystem:read", "filesystem:read:", "filesystem:read:/",
    "filesystem:read:data", "filesystem:read:/a/../b", "filesystem:read://a", "filesystem:execute:/a",
    "filesystem:read:/a/", "filesystem:read:PATH", "kubernetes:x", "secrets:../x",
])
def test_r133_other_names_are_refused_with_the_list(name):
    with pytest.raises(InvalidInput) as caught:
        parse(name)
    assert all(form in caught.value.hint for form in KINDS)
    assert unknown(["network", name]) == [name]


def test_r133_a_secret_setting_is_a_declaration():
    schema = {"properties": {"token": {"type": "string", "writeOnly": True, "description": "Logs in."},
                             "key": {"type": "string", "writeOnly": True}, "url": {"type": "string"}}}
    asked = asked_for({"permissions": [{"name": "network", "reason": "asks"}, {"name": "secrets:key", "reason": "signs"}],
                       "config_schema": schema})
    assert asked == [{"name": "network", "reason": "asks"}, {"name": "secrets:key", "reason": "signs"},
                     {"name": "secrets:token", "reason": "Logs in."}]
    assert asked_for({}) == []
