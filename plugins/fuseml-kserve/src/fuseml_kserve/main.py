"""Start the server: `server.py MODEL_DIRECTORY [--name NAME] [--max-body BYTES] [--lifeline]`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path

from .listener import MAX_BODY, Listener
from .model import Model, identify

#: Seconds that answers under way may take after SIGTERM.
GRACE = 30.0


def main(arguments: list[str]) -> int:
    """Serve one model until SIGTERM or SIGINT; with `--lifeline` until standard input ends instead.

    Args:
        arguments: Command line without the program.

    Returns:
        Exit code: 0 after an orderly end, 1 if the model cannot be loaded, 2 if there is nothing to listen on.
    """
    options = _parser().parse_args(arguments)
    directory = Path(options.model)
    listening = listening_socket()
    if listening is None:
        print("fuseml: no socket was passed (LISTEN_FDS) and FUSEML_SERVICE_PORT is not set", file=sys.stderr)
        return 2
    model = Model(directory, identify(directory, options.name, os.environ.get("FUSEML_INPUT_MODEL_INFO")))
    listener = Listener(listening, model, options.max_body)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if options.lifeline else lambda *_: stop.set())
    if options.lifeline:
        threading.Thread(target=_hold, args=(stop,), daemon=True).start()
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    failed = threading.Event()
    threading.Thread(target=_load, args=(model, stop, failed), daemon=True).start()
    while not stop.wait(1.0):
        pass  # A signal that came to another thread, or just before the wait, is heard now.
    listener.drain(0.0 if failed.is_set() else GRACE)
    return 1 if failed.is_set() else 0


def _hold(stop: threading.Event) -> None:
    """Wait until whoever holds the other end of standard input is gone."""
    while os.read(0, 4096):
        pass
    stop.set()


def _load(model: Model, stop: threading.Event, failed: threading.Event) -> None:
    try:
        model.load()
        print(f"fuseml: model {model.identity.name!r} version {model.identity.version} is ready", flush=True)
    except BaseException as error:
        traceback.print_exc()
        print(f"fuseml: the model in {model.directory} cannot be loaded: {error}", file=sys.stderr, flush=True)
        failed.set()
        stop.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Serve an MLflow model by the Open Inference Protocol.")
    parser.add_argument("model", help="directory with the MLmodel file")
    parser.add_argument("--name", default="", help="name of the model in URLs")
    parser.add_argument("--max-body", type=int, default=MAX_BODY, help="bytes a request body may have")
    parser.add_argument("--lifeline", action="store_true",
                        help="for a server behind another one: ignore SIGTERM and end with standard input")
    return parser


def listening_socket() -> socket.socket | None:
    """The socket that was passed as descriptor 3, else a new one on 127.0.0.1."""
    if int(os.environ.get("LISTEN_FDS") or 0) >= 1:
        return socket.socket(fileno=3)
    port = os.environ.get("FUSEML_SERVICE_PORT")
    return socket.create_server(("127.0.0.1", int(port)), backlog=128) if port else None
