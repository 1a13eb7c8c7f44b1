"""The component that Seldon's server calls: it asks the process with the model."""

from __future__ import annotations

import http.client
from typing import Any

from seldon_core.flask_utils import SeldonMicroserviceException
from seldon_core.utils import construct_response_json

from .backend import Answer, Backend
from .messages import MessageError, is_plain, rectangle, rows_of


class ServedModel:
    """One model of MLflow's format, as the Python server of Seldon Core sees it.

    Args:
        backend: The process with the model, ready.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        (self.name,) = backend.ask("GET", "/v1/models").document["models"]
        self._metadata: dict[str, Any] = backend.ask("GET", f"/v2/models/{self.name}").document

    def init_metadata(self) -> dict[str, Any]:
        """Name, version, platform and signature, for `/api/v1.0/metadata`."""
        return self._metadata

    def tags(self) -> dict[str, str]:
        """Which model answers, in the `meta` of every answer."""
        return {"model": self.name, "version": str(self._metadata["versions"][0])}

    def health_status(self) -> str:
        """For `/health/status`.

        Raises:
            SeldonMicroserviceException: The process with the model cannot answer (503).
        """
        if self._ask("GET", "/v2/health/ready").status != 200:
            raise SeldonMicroserviceException("the model is not ready", 503, reason="MODEL_NOT_READY")
        return "ready"

    def predict_raw(self, message: Any) -> dict[str, Any]:
        """Answer one message of the Seldon protocol, or plain rows in its form.

        Raises:
            SeldonMicroserviceException: The message or its data are wrong (400), or the model failed (500, 503).
        """
        try:
            answer = self._ask("POST", "/predict", rows_of(message))
        except MessageError as error:
            raise SeldonMicroserviceException(str(error), 400) from None
        if answer.status != 200:
            reason = "MICROSERVICE_BAD_DATA" if answer.status < 500 else "MODEL_FAILED"
            raise SeldonMicroserviceException(answer.error, answer.status, reason=reason)
        predictions = answer.document["predictions"]
        table = rectangle(predictions)
        if table is None:
            return self._answer(message, {"predictions": predictions})
        response = self._answer(message, _array(table[0]))
        if table[1]:
            response["data"]["names"] = table[1]
        return response

    def _answer(self, message: Any, result: Any) -> dict[str, Any]:
        if is_plain(message):
            message = {"data": {"ndarray": []}}
        meta = dict(message.get("meta") or {})
        response: dict[str, Any] = construct_response_json(self, False, message, result, meta)
        return response

    def _ask(self, method: str, path: str, document: Any = None) -> Answer:
        try:
            return self._backend.ask(method, path, document)
        except (OSError, http.client.HTTPException) as error:
            raise SeldonMicroserviceException(f"the model does not answer: {error}", 503,
                                              reason="MODEL_NOT_READY") from error


def _array(values: list[Any]) -> Any:
    """An array of numbers, or of whatever JSON has; null keeps numbers from becoming texts."""
    import numpy as np

    array = np.array(values, dtype=object)
    kinds = {type(item) for item in array.reshape(-1)}
    return np.array(values) if kinds and kinds <= {int, float, bool} and kinds != {bool} else array
