"""The model that is served."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import RequestError
from .tensors import describe


@dataclass(frozen=True)
class Identity:
    """What the model is called.

    Attributes:
        name: In URLs; any other name is refused.
        digest: `sha256:<hex>`, or empty.
    """

    name: str
    digest: str = ""

    @property
    def version(self) -> str:
        """Short form of the digest, as FuseML's tables print it; `1` if there is none."""
        return self.digest.partition(":")[2][:12] or "1"

    def check(self, name: str, version: str | None) -> None:
        """Refuse requests for another model or version.

        Raises:
            RequestError: It is another one (404).
        """
        if name != self.name:
            msg = f"there is no model {name!r} here; this is {self.name!r}"
            raise RequestError(msg, 404)
        digits = self.digest.partition(":")[2]
        if version is not None and version != self.version and (len(version) < 7 or not digits.startswith(version)):
            msg = f"there is no version {version!r} of {name!r} here; this is {self.version!r}"
            raise RequestError(msg, 404)


def identify(directory: Path, name: str, info_file: str | None) -> Identity:
    """Find out what the model is called: a given name, its descriptor in FuseML, else its directory."""
    info: dict[str, Any] = {}
    if info_file and Path(info_file).exists():
        info = json.loads(Path(info_file).read_text("utf-8"))
    return Identity(name or str(info.get("name") or directory.name), str(info.get("digest") or ""))


class Model:
    """An MLflow model with its signature. Not usable before `load` has returned."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        self.directory = directory
        self.identity = identity
        self.inputs: Any = None
        self.outputs: Any = None
        self.platform = "mlflow"
        self._pyfunc: Any = None
        self._ready = threading.Event()

    @property
    def ready(self) -> bool:
        """Whether predictions can be made."""
        return self._ready.is_set()

    def load(self) -> None:
        """Load the model; takes seconds. Raises whatever mlflow raises."""
        import mlflow.pyfunc

        self._pyfunc = mlflow.pyfunc.load_model(str(self.directory))
        signature = self._pyfunc.metadata.signature
        self.inputs = signature.inputs if signature else None
        self.outputs = signature.outputs if signature else None
        flavors = [name for name in self._pyfunc.metadata.flavors if name != "python_function"]
        self.platform = f"mlflow_{flavors[0]}" if flavors else "mlflow_pyfunc"
        self._ready.set()

    def predict(self, data: Any, params: dict[str, Any]) -> Any:
        """Ask the model.

        Raises:
            RequestError: It is not loaded yet (503), or refuses the data (400).
        """
        from mlflow.exceptions import MlflowException

        if not self.ready:
            msg = "the model is loading"
            raise RequestError(msg, 503)
        try:
            return self._pyfunc.predict(data, params=params) if params else self._pyfunc.predict(data)
        except (MlflowException, ValueError, TypeError, KeyError) as error:
            msg = f"the model refuses the data: {error}"
            raise RequestError(msg) from error

    def metadata(self) -> dict[str, Any]:
        """Model metadata of protocol v2."""
        return {"name": self.identity.name, "versions": [self.identity.version], "platform": self.platform,
                "inputs": describe(self.inputs, "input"), "outputs": describe(self.outputs, "output")}

    def output_names(self) -> list[str]:
        """Names of the signature's outputs, as `metadata` has them."""
        return [str(item["name"]) for item in describe(self.outputs, "output")]
