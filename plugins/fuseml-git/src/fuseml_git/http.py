"""Smart HTTP for the repositories (gitprotocol-http(5), protocol versions 0, 1 and 2) as an ASGI application.

`git upload-pack` and `git receive-pack` do the work; this is the part that `git http-backend` plays in a web server,
as streams in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fuseml_git.exchange import Exchange
from fuseml_git.git import environment, executable
from fuseml_git.names import is_name
from fuseml_git.repositories import SUFFIX, Repository
from fuseml_sdk.errors import NotReady

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SERVICES = ("git-upload-pack", "git-receive-pack")
PROTOCOL = re.compile(r"version=[012]")
#: Packet that ends a section (gitprotocol-common(5)).
FLUSH = b"0000"


class GitApp:
    """Answers `/<project>/<name>.git/{info/refs,git-upload-pack,git-receive-pack}`.

    Args:
        root: Directory of the repositories.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        repository, action = self._split(path)
        if repository is None:
            await _say(send, 404, "There is no such git repository here. "
                                  "URLs have the form /git/<project>/<codeset>.git; "
                                  "`fuseml codeset push` makes the repository.")
        elif action == "info/refs" and scope["method"] == "GET":
            await self._advertise(scope, receive, send, repository)
        elif action in SERVICES and scope["method"] == "POST":
            await self._serve(scope, receive, send, repository, action)
        elif action == "":
            await _say(send, 200, "This is a git repository: git clone <this URL>")
        else:
            await _say(send, 403, f"{scope['method']} {action!r} is not part of git's smart HTTP protocol; "
                                  "please use a git of version 1.6.6 or later.")

    def _split(self, path: str) -> tuple[Repository | None, str]:
        """Return the repository that a path names and what follows; None when there is no such repository."""
        parts = path.split("/", 3)
        if len(parts) < 3 or parts[0] or not parts[2].endswith(SUFFIX):
            return None, ""
        project, name = parts[1], parts[2].removesuffix(SUFFIX)
        if not (is_name(project) and is_name(name)):
            return None, ""
        repository = Repository(self.root, project, name)
        return (repository if (repository.path / "HEAD").is_file() else None), parts[3] if len(parts) > 3 else ""

    async def _advertise(self, scope: Scope, receive: Receive, send: Send, repository: Repository) -> None:
        service = parse_qs(scope["query_string"].decode("latin-1")).get("service", [""])[0]
        if service not in SERVICES:
            await _say(send, 403, "Only git's smart HTTP protocol is offered here.")
            return
        variables = self._variables(scope, service)
        second = variables.get("GIT_PROTOCOL") == "version=2"
        line = f"# service={service}\n".encode()
        greeting = b"" if second else b"%04x" % (len(line) + 4) + line + FLUSH
        command = [executable(), service.removeprefix("git-"), "--stateless-rpc", "--advertise-refs",
                   str(repository.path)]
        exchange = Exchange(command, variables, f"application/x-{service}-advertisement", greeting=greeting)
        await exchange.run(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, repository: Repository, service: str) -> None:
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").decode("latin-1") != f"application/x-{service}-request":
            await _say(send, 415, f"The content type must be application/x-{service}-request.")
            return
        command = [executable(), service.removeprefix("git-"), "--stateless-rpc", str(repository.path)]
        exchange = Exchange(command, self._variables(scope, service), f"application/x-{service}-result",
                            compressed=headers.get(b"content-encoding") in (b"gzip", b"x-gzip"),
                            finish=service == "git-receive-pack")
        await exchange.run(receive, send)

    def _variables(self, scope: Scope, service: str) -> dict[str, str]:
        """Environment of git; pushes know no protocol version 2."""
        variables = environment(self.root)
        protocol = dict(scope["headers"]).get(b"git-protocol", b"").decode("latin-1")
        if PROTOCOL.fullmatch(protocol) and service == "git-upload-pack":
            variables["GIT_PROTOCOL"] = protocol
        return variables


def create_app(config: dict[str, Any]) -> GitApp:
    """Make the application.

    Args:
        config: `root`: directory of the repositories.

    Raises:
        NotReady: git is not installed.
    """
    if not config.get("root"):
        raise NotReady("the git application has no root directory")
    executable()
    return GitApp(Path(config["root"]).absolute())


async def _say(send: Send, status: int, text: str) -> None:
    """Answer with plain text; git shows it to the person as `remote: …`."""
    body = text.encode() + b"\n"
    await send({"type": "http.response.start", "status": status, "headers": [
        (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-cache")]})
    await send({"type": "http.response.body", "body": body})
