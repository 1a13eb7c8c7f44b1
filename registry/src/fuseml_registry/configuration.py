"""Configuration of a registry: from a mapping, which may come from a TOML file.

The data process gives nothing but `root`; everything else has a default that suits one machine.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fuseml_registry import quantities
from fuseml_sdk.errors import InvalidInput

Seconds = Annotated[float, BeforeValidator(quantities.seconds)]
Size = Annotated[int, BeforeValidator(quantities.size)]
Action = Literal["pull", "push", "delete"]
Decision = Literal["keep", "remove"]
#: Stands for everybody without credentials in an access rule.
ANONYMOUS = "anonymous"


def _pattern(text: str) -> str:
    if text not in ("semver", "none"):
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"{text!r} is neither semver, none nor a regular expression: {error}") from None
    return text


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Listen(_Part):
    """Where a registry of its own listens, and what proves its name.

    Attributes:
        host, port: Address; port 0 chooses a free one.
        certificate, key: PEM files for TLS; both or none.
        allow_insecure: Listen beyond loopback without TLS or without authentication.
        external_url: Base URL that clients use, when a proxy stands before the registry.
        proxies: Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
    """

    host: str = "127.0.0.1"
    port: int = Field(5000, ge=0, le=65535)
    certificate: Path | None = None
    key: Path | None = None
    allow_insecure: bool = False
    external_url: str = ""
    proxies: tuple[str, ...] = ()


class Auth(_Part):
    """Who may do anything at all.

    Attributes:
        method: `none`, `basic` (a password with each request) or `token` (docker token flow; Basic works too).
        users: File with names and hashed passwords.
        anonymous_pull: Everybody may pull everything.
        service: Name of this registry in challenges and tokens.
        token_lifetime, refresh_lifetime: Seconds that access and refresh tokens are good for.
        signing_key: PEM file of the ES256 key for tokens; made if missing; `<root>/token.key` by default.
    """

    method: Literal["none", "basic", "token"] = "none"
    users: Path | None = None
    anonymous_pull: bool = False
    service: str = Field("fuseml-registry", pattern=r"^[A-Za-z0-9._:/-]{1,100}$")
    token_lifetime: Seconds = 300.0
    refresh_lifetime: Seconds = 30 * 86400.0
    signing_key: Path | None = None


class Access(_Part):
    """One permission: these users may do these things in repositories whose name matches one of the globs.

    Attributes:
        users: Names; `*` is every user with a password, `anonymous` everybody.
        repositories: Globs: `*` stays within one component of a name, `**` crosses them.
        actions: `pull`, `push`, `delete`.
    """

    users: tuple[str, ...]
    repositories: tuple[str, ...] = ("**",)
    actions: tuple[Action, ...]


class Collection(_Part):
    """Garbage collection.

    Attributes:
        interval: Seconds between collections inside the server; 0 collects on command only.
        age: Seconds since its last use after which something unreachable goes. Longer than any push takes.
        untagged: Whether manifests that have no tag, and are no part of an index or referrer, go.
        referrers: Whether manifests whose subject is gone go.
    """

    interval: Seconds = 6 * 3600.0
    age: Seconds = 24 * 3600.0
    untagged: Decision = "keep"
    referrers: Decision = "remove"


class Audit(_Part):
    """The audit log.

    Attributes:
        record: `off`; `writes`: changes, logins and refusals; `all`: reads too.
        file: JSON lines; `<root>/audit.jsonl` by default.
        max_size: Bytes after which a new file is begun.
        files: Older files that are kept.
    """

    record: Literal["off", "writes", "all"] = "writes"
    file: Path | None = None
    max_size: Size = 64 << 20
    files: int = Field(5, ge=0, le=1000)


class Limits(_Part):
    """Bounds that keep one client from taking everything.

    Attributes:
        requests: Requests at the same time.
        uploads: Open upload sessions.
        blob: Largest blob in bytes; 0 is no limit.
        idle: Seconds without a byte of a body, or of an answer being taken, after which a request ends.
        slowest: Bytes a second that a body must bring on average, after the first `idle` seconds.
    """

    requests: int = Field(256, ge=1)
    uploads: int = Field(2000, ge=1)
    blob: Size = 0
    idle: Seconds = 60.0
    slowest: Size = 1024


class Configuration(_Part):
    """Everything about one registry.

    Attributes:
        root: Directory for everything it keeps.
        read_only: Answer 405 to whatever would change something.
        upload_expiry: Seconds without a byte after which an unfinished upload is forgotten.
        immutable_tags: Tags that never change: `semver`, `none` or a regular expression.
        metrics: Who may read `/metrics`: `loopback`, `all` or `off`.
    """

    root: Path
    read_only: bool = False
    upload_expiry: Seconds = 24 * 3600.0
    immutable_tags: Annotated[str, AfterValidator(_pattern)] = "semver"
    metrics: Literal["loopback", "all", "off"] = "loopback"
    listen: Listen = Listen()
    auth: Auth = Auth()
    access: tuple[Access, ...] = ()
    collection: Collection = Collection()
    audit: Audit = Audit()
    limits: Limits = Limits()


def configure(values: Mapping[str, Any], *, source: str = "configuration") -> Configuration:
    """Check values and fill in defaults.

    Args:
        values: As in the TOML file; `root` is needed.
        source: Named in errors.

    Raises:
        InvalidInput: A value is wrong, missing or unknown.
    """
    try:
        found = Configuration.model_validate(dict(values))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        raise InvalidInput(f"{source}: {'; '.join(problems)}") from None
    if bool(found.listen.certificate) != bool(found.listen.key):
        raise InvalidInput(f"{source}: TLS needs both a certificate and its key")
    if found.auth.method != "none" and found.auth.users is None:
        raise InvalidInput(f"{source}: authentication needs a file with users",
                           hint="make one: fuseml registry user add NAME --users FILE; name it in [auth] users")
    if found.auth.method == "none" and (found.access or found.auth.anonymous_pull):
        raise InvalidInput(f"{source}: access rules have no effect without authentication",
                           hint='set [auth] method = "token" or "basic"')
    return found


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file; relative paths in it are below the file's directory.

    Raises:
        InvalidInput: It cannot be read.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from None
    for table, key in (("", "root"), ("listen", "certificate"), ("listen", "key"), ("auth", "users"),
                       ("auth", "signing_key"), ("audit", "file")):
        part = values.get(table, {}) if table else values
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = str(path.parent.absolute() / Path(part[key]).expanduser())
    return values
