"""The serve runtime as an ASGI 3 application, for servers such as uvicorn: the same answers as the standard one.

What differs is who listens: not the host's socket but a server of TCP, with a bearer token in front of the plugin. Any
plugin that works in the one works in the other, unchanged.

```console
$ FUSEML_PLUGIN=my_store.plugin:plugin uvicorn --factory fuseml_sdk.serve.asgi:application
$ python -m fuseml_sdk.serve my_store.plugin:plugin --asgi 127.0.0.1:8080
```

Sources: the ASGI specification 3.0 (HTTP and lifespan), https://asgi.readthedocs.io; RFC 6750 for the token.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from fuseml_sdk import calls, problems
from fuseml_sdk.errors import InvalidInput, NotReady, Permanent
from fuseml_sdk.serve import configuration, wire
from fuseml_sdk.serve.application import Application, problem, refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Hooks that run at once, and requests that may wait for their turn.
WORKERS, QUEUE = 64, 256
#: Bytes of a body that is read although its request is refused, so that the sender gets to read the answer.
SMALL = 1024 * 1024
#: Environment variables that :func:`application` reads.
PLUGIN_VARIABLE, TOKEN_VARIABLE = "FUSEML_PLUGIN", "FUSEML_PLUGIN_TOKEN_FILE"


class AsgiRuntime:
    """Serves one plugin to an ASGI server.

    The plugin is loaded when the server says that it starts, or at the first request if it never says so.

    Args:
        address: `module:attribute` of the plugin object.
        settings: What the plugin is configured with.
        token_file: File with the bearer token that callers must send, read for every request so that it can be
            changed; None asks for none.
        workers: Hooks that run at once.
    """

    def __init__(self, address: str, settings: configuration.Configuration, *, token_file: Path | None = None,
                 workers: int = WORKERS) -> None:
        self._address = address
        self._settings = settings
        self._token_file = token_file
        self._workers = workers
        self._loading = asyncio.Lock()
        self._application: Application | None = None
        self._places = asyncio.Semaphore(workers)
        self._waiting = 0
        self._running: set[asyncio.Future[wire.Response]] = set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection of the kinds that ASGI knows."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})

    # -- life ------------------------------------------------------------------------------------------------------

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._loaded()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._shut_down()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _loaded(self) -> Application:
        """The application, made in a thread: importing a large tool must not keep `/healthz` from answering."""
        async with self._loading:
            if self._application is None:
                self._application = await asyncio.to_thread(self._make)
            return self._application

    def _make(self) -> Application:
        Path(self._settings.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        return Application(self._address, self._settings)

    async def _shut_down(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.drain_seconds)
        if self._application is not None and not self._running:
            await asyncio.to_thread(self._application.close)

    # -- requests --------------------------------------------------------------------------------------------------

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            head = _head(scope)
            early = self._at_once(head)
            if early is not None and int(head.headers.get("content-length", "0")) > SMALL:
                await _answer(send, early, close=True)
                return
            request = await _read(head, receive)
        except wire.BadRequest as error:
            await _answer(send, refusal(error), close=True)
            return
        if request is None:
            return
        response = early or await self._respond(request, receive)
        if response is None:
            return  # The client has gone.
        if request.path == "/readyz" and not self._allowed(request):
            status = "ready" if response.status == 200 else "not ready"
            response = wire.Response(response.status, json.dumps({"status": status}).encode())
        await _answer(send, response)

    def _at_once(self, request: wire.Request) -> wire.Response | None:
        """The answer to what needs no plugin: whether the process lives, and who may not come in."""
        if request.path == "/healthz" and request.method == "GET":
            return wire.Response(200, b'{"status": "alive"}')
        if request.path not in ("/healthz", "/readyz") and not self._allowed(request):
            error = Permanent("the request bears no token, or a wrong one", hint="Send `authorization: Bearer TOKEN`.")
            document = {**problems.to_problem(error), "status": 401}
            return wire.Response(401, json.dumps(document).encode(), problems.MEDIA_TYPE,
                                 {"www-authenticate": "Bearer"})
        if self._waiting >= QUEUE:
            return problem(NotReady(f"{self._workers} calls are running and {QUEUE} are waiting",
                                    hint="Call again later."))
        return None

    def _allowed(self, request: wire.Request) -> bool:
        if self._token_file is None:
            return True
        try:
            wanted = self._token_file.read_bytes().strip()
        except OSError:
            return False
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return bool(wanted) and scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("latin-1"), wanted)

    async def _respond(self, request: wire.Request, receive: Receive) -> wire.Response | None:
        """The application's answer; None when the client went away first, whose call is cancelled then."""
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            application = await self._loaded()
            self._waiting += 1
            try:
                entered: asyncio.Future[Any] = asyncio.ensure_future(self._places.acquire())
                await _first(entered, gone)
            finally:
                self._waiting -= 1
            if gone.done():
                if not entered.done():
                    entered.cancel()
                else:
                    self._places.release()
                return None
            started: list[calls.Call] = []
            answer = self._run(application, request, started.append)
            await _first(answer, gone)
            if answer.done():
                return answer.result()
            for call in started:
                call.cancel()
            return None
        finally:
            gone.cancel()

    def _run(self, application: Application, request: wire.Request,
             started: Callable[[calls.Call], None]) -> asyncio.Future[wire.Response]:
        """Run a hook in a thread that ends with the process, so that one that hangs does not keep it alive.

        The place in the pool is given back when the hook has ended, whoever still waits for it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[wire.Response] = loop.create_future()
        self._running.add(future)

        def finish(response: wire.Response) -> None:
            self._running.discard(future)
            self._places.release()
            future.set_result(response)

        def work() -> None:
            try:
                response = application.respond(request, started)
            except BaseException as error:
                response = problem(error)
            try:
                loop.call_soon_threadsafe(finish, response)
            except RuntimeError:
                return  # The loop has ended; so does the process.

        threading.Thread(target=work, name="fuseml-call", daemon=True).start()
        return future


def application() -> AsgiRuntime:
    """Make the application that the environment describes; for `uvicorn --factory fuseml_sdk.serve.asgi:application`.

    `FUSEML_PLUGIN` is `module:attribute`, `FUSEML_PLUGIN_CONFIG` the file with the configuration (mode 0600), and
    `FUSEML_PLUGIN_TOKEN_FILE` the file with the bearer token that callers must send.

    Raises:
        InvalidInput: There is no such variable, or the configuration cannot be used.
    """
    address = os.environ.get(PLUGIN_VARIABLE, "")
    if not address:
        raise InvalidInput(f"the variable {PLUGIN_VARIABLE} does not say which plugin to serve",
                           hint=f"Set {PLUGIN_VARIABLE}=module:attribute.")
    named = os.environ.get(configuration.FILE_VARIABLE)
    settings = configuration.read() if named else configuration.Configuration()
    token = os.environ.get(TOKEN_VARIABLE)
    return AsgiRuntime(address, settings, token_file=Path(token) if token else None)


def _head(scope: Message) -> wire.Request:
    """A request before its body has arrived. Raises `BadRequest` as the other runtime does."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in scope["headers"]}
    if sum(len(name) + len(value) for name, value in scope["headers"]) > wire.MAX_HEAD:
        raise wire.BadRequest(431, f"the headers are larger than {wire.MAX_HEAD} bytes")
    if "transfer-encoding" in headers:
        raise wire.BadRequest(411, "a body needs content-length; transfer encodings are not accepted")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise wire.BadRequest(400, "content-length is not a number")
    if int(length) > wire.MAX_BODY:
        raise wire.BadRequest(413, f"the body is larger than {wire.MAX_BODY} bytes")
    return wire.Request(scope["method"], scope["path"], headers, b"")


async def _read(head: wire.Request, receive: Receive) -> wire.Request | None:
    """Read a request whole; None when the client went away meanwhile. Raises `BadRequest`."""
    body = bytearray()
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), wire.TRANSFER_TIMEOUT)
        except TimeoutError:
            raise wire.BadRequest(408, "the body did not arrive in time") from None
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > wire.MAX_BODY:
            raise wire.BadRequest(413, f"the body is larger than {wire.MAX_BODY} bytes")
    return wire.Request(head.method, head.path, head.headers, bytes(body))


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, response: wire.Response, *, close: bool = False) -> None:
    headers = [(b"content-type", response.media_type.encode()), (b"content-length", str(len(response.body)).encode())]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in response.headers.items()]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
