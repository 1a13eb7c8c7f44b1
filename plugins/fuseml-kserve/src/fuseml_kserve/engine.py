"""The server of the KServe SDK on the socket that FuseML passed, so that it never binds an address of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

from .errors import RequestError
from .main import listening_socket
from .model import Model, identify
from .results import encode, output_tensors
from .routes import handle
from .tensors import describe, model_input

try:
    import kserve
    from kserve.errors import InvalidInput
    from kserve.model_server import app
    from kserve.protocol.rest.server import RESTServer
except ImportError as error:  # pragma: no cover - the environment of this engine has it
    sys.exit(f"fuseml: the engine `kserve` needs the KServe SDK in the environment of the model: {error}")


class ServedModel(kserve.Model):  # type: ignore[misc] # the SDK has no types
    """An MLflow model as the KServe SDK serves it; protocols v1 and v2."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.identity.name)
        self._model = model

    def load(self) -> bool:
        """Load the model; takes seconds."""
        self._model.load()
        self.ready = True
        return True

    async def get_input_types(self) -> list[dict[str, Any]]:
        """Inputs of the signature, for the metadata of protocol v2."""
        return describe(self._model.inputs, "input")

    async def get_output_types(self) -> list[dict[str, Any]]:
        """Outputs of the signature, for the metadata of protocol v2."""
        return describe(self._model.outputs, "output")

    async def predict(self, payload: Any, headers: dict[str, str] | None = None,  # noqa: ARG002
                      response_headers: dict[str, str] | None = None) -> Any:  # noqa: ARG002
        """Answer one request without holding up the others."""
        try:
            return await asyncio.to_thread(self._answer, payload)
        except RequestError as error:
            raise InvalidInput(error.message) from error

    def _answer(self, payload: Any) -> Any:
        if isinstance(payload, dict):
            path = f"/v1/models/{self.name}:predict"
            return handle(self._model, "POST", path, encode(payload))[1]
        items = [{"name": item.name, "shape": list(item.shape), "datatype": item.datatype,
                  "parameters": item.parameters or {}, "data": _values(item)} for item in payload.inputs]
        data = model_input(items, self._model.inputs, payload.parameters or {})
        outputs = output_tensors(self._model.predict(data, {}), self._model.output_names())
        return kserve.InferResponse(
            response_id=payload.id or uuid.uuid4().hex, model_name=self.name,
            model_version=self._model.identity.version,
            infer_outputs=[kserve.InferOutput(item["name"], item["shape"], item["datatype"], item["data"])
                           for item in outputs])


def _values(item: Any) -> list[Any]:
    """Values of a tensor, whether they came as JSON or as raw bytes."""
    return item.data if isinstance(item.data, list) else list(item.as_numpy().reshape(-1).tolist())


def main(arguments: list[str]) -> int:
    """Serve the model in the directory `arguments[0]` until SIGTERM.

    Returns:
        Exit code: 0 after an orderly end, 2 if there is nothing to listen on.
    """
    directory = Path(arguments[0])
    listening = listening_socket()
    if listening is None:
        print("fuseml: no socket was passed (LISTEN_FDS) and FUSEML_SERVICE_PORT is not set", file=sys.stderr)
        return 2
    model = Model(directory, identify(directory, "", os.environ.get("FUSEML_INPUT_MODEL_INFO")))
    served = ServedModel(model)
    served.load()
    repository = kserve.ModelRepository()
    repository.update(served)
    server = kserve.ModelServer(registered_models=repository, enable_grpc=False, workers=1)
    _add_predict(model)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)  # a line for each request otherwise
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again once it has shut down in order
    rest = RESTServer("kserve.model_server:app", server.dataplane, server.model_repository_extension, server.http_port)
    rest.run(sockets=[listening])
    return 0


def _add_predict(model: Model) -> None:
    """Plain rows, which the SDK does not know."""
    from starlette.responses import Response

    async def predict(request: Any) -> Any:
        body = await request.body()
        try:
            status, document = await asyncio.to_thread(handle, model, "POST", "/predict", body)
        except RequestError as error:
            status, document = error.status, {"error": error.message}
        return Response(encode(document), status, media_type="application/json")

    app.add_route("/predict", predict, methods=["POST"])
