"""Codesets from a remote git server over HTTP, through the real `git http-backend`."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

BACKEND = Path(subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip(),
               "git-http-backend")


class Handler(http.server.BaseHTTPRequestHandler):
    root = ""
    tokens: list[str | None] = []  # noqa: RUF012

    def answer(self) -> None:
        self.tokens.append(self.headers.get("X-Token"))
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
               "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
               "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_ADDR": "127.0.0.1",
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        done = subprocess.run([str(BACKEND)], input=body, env=env, capture_output=True, check=True)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest)

    do_GET = do_POST = answer

    def log_message(self, *_args: object) -> None:
        return


def test_r57_codesets_over_http_with_credentials(bench: Any, repository: Callable[..., tuple[Path, str]]) -> None:
    bare, commit = repository({"main.py": "print('over http')\n"})
    handler = type("H", (Handler,), {"root": str(bare.parent), "tokens": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        location = {"uri": f"git+http://127.0.0.1:{server.server_port}/code.git?commit={commit}",
                    "headers": {"X-Token": "secret"}}
        status = bench.run(["{python}", "main.py"], working_directory="code", takes=[{"name": "code", "kind": "codeset"}],
                           inputs=[{"name": "code", "kind": "codeset", "location": location}])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert bench.log(status.name) == "over http\n", status
    assert set(handler.tokens) == {"secret"}
