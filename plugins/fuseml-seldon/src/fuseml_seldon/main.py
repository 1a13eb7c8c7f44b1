"""Start the server: `server.py COMMAND …`; the command serves the model on descriptor 3."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from typing import Any

from .backend import Backend

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # gunicorn 20 needs it, so it is locked
try:
    from seldon_core import __version__
    from seldon_core.flask_utils import DEFAULT_ANNOTATION_REST_TIMEOUT
    from seldon_core.gunicorn_utils import UserModelApplication, post_worker_init
    from seldon_core.metrics import SeldonMetrics
    from seldon_core.wrapper import get_rest_microservice

    from .component import ServedModel
except ImportError as error:  # pragma: no cover - the lock of the bundle has it
    sys.exit(f"fuseml: the Python server of Seldon Core is not in this environment: {error}")

#: Requests that are answered at a time; each holds a connection to the process with the model.
THREADS = 16
#: Seconds a connection may be idle; longer than the gateway keeps one, so that it never meets one that just closed.
KEEPALIVE = 660
#: Seconds that answers under way may take after SIGTERM.
GRACE = 30


class Metrics(SeldonMetrics):  # type: ignore[misc] # it has no types
    """Metrics of the one worker, in its memory; Seldon's own take a process more and four messages for each request."""

    def __init__(self) -> None:
        self.worker_id_func = os.getpid
        self.data: dict[Any, Any] = {}
        self._lock = threading.Lock()
        self._extra_default_labels: dict[str, str] = {}

    def __del__(self) -> None:
        """There is no process to end."""


def main(arguments: list[str]) -> int:
    """Serve one model until SIGTERM.

    Args:
        arguments: The command that serves the model on a Unix socket on descriptor 3.

    Returns:
        Exit code: 0 after an orderly end, 1 if the model cannot be loaded or ended, 2 if there is nothing to listen on.
    """
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    if int(os.environ.get("LISTEN_FDS") or 0) < 1:
        print("fuseml: no socket was passed (LISTEN_FDS)", file=sys.stderr)
        return 2
    backend, owner = Backend(arguments), os.getpid()
    try:
        backend.start()
        if not backend.wait_until_ready():
            print("fuseml: the process with the model ended; what it said is above", file=sys.stderr)
            return 1
        return _serve(backend)
    finally:
        if os.getpid() == owner:  # gunicorn's worker, a fork of this process, comes by here, too
            backend.end()


def _serve(backend: Backend) -> int:
    model, metrics = ServedModel(backend), Metrics()
    app = get_rest_microservice(model, metrics)
    _add_metrics(app, metrics)
    failed = threading.Event()
    threading.Thread(target=_watch, args=(backend, failed), daemon=True).start()
    os.environ["LISTEN_PID"] = str(os.getpid())  # gunicorn takes descriptor 3 only if it is meant
    options = {"worker_class": "gthread", "threads": THREADS, "workers": 1, "keepalive": KEEPALIVE,
               "timeout": DEFAULT_ANNOTATION_REST_TIMEOUT, "graceful_timeout": GRACE, "loglevel": "warning",
               "post_worker_init": post_worker_init}
    tags = model.tags()
    print(f"fuseml: Seldon Core {__version__} serves model {tags['model']!r} version {tags['version']}", flush=True)
    owner = os.getpid()
    try:
        UserModelApplication(app, model, False, None, "ServedModel", options=options).run()
    except SystemExit as end:
        if os.getpid() != owner:
            raise
        return 1 if failed.is_set() or end.code else 0
    return 0


def _add_metrics(app: Any, metrics: Any) -> None:
    """Seldon gives metrics a port of their own; here is one socket for all."""
    from flask import Response

    def show() -> Any:
        text, kind = metrics.generate_metrics()
        return Response(text, mimetype=kind)

    app.add_url_rule("/metrics", "metrics", show)


def _watch(backend: Backend, failed: threading.Event) -> None:
    """A server without its model is of no use; the process agent starts both again."""
    code = backend.wait()
    if backend.ending:
        return
    failed.set()
    print(f"fuseml: the process with the model ended with code {code}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
