"""R134: the runnable store keeps every rule of the kit, in every host, over our registry."""

from __future__ import annotations

import json
import socket
import threading

import pytest
import uvicorn

from fuseml_oci.plugin import RunnableStore
from fuseml_registry.app import standalone_app
from fuseml_sdk.testing import Samples, conformance

pytestmark = pytest.mark.full


class Registries:
    """One registry for each start of the plugin, found again when it starts over the same folder."""

    def __init__(self):
        self.running = {}

    def config(self, folder):
        if folder not in self.running:
            server = uvicorn.Server(uvicorn.Config(standalone_app({"root": folder / "registry"}), log_level="warning",
                                                   lifespan="off"))
            listener = socket.create_server(("127.0.0.1", 0))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            self.running[folder] = server, thread, listener
        listener = self.running[folder][2]
        return {"registry": f"http://127.0.0.1:{listener.getsockname()[1]}"}

    def close(self):
        for server, thread, listener in self.running.values():
            server.should_exit = True
            thread.join(30)
            listener.close()
        self.running.clear()


class Runnables(Samples):
    """A runnable is a directory with its descriptor."""

    def artifact(self, plugin, folder, text, *, name="sample"):
        request = super().artifact(plugin, folder, text, name=name)
        descriptor = {"kind": "trainer", "name": "trainer", "command": ["python", "-c", "pass"]}
        (folder / "runnable.json").write_text(json.dumps(descriptor))
        return request


REGISTRIES = Registries()
TestRunnableStore = conformance(RunnableStore, config=REGISTRIES.config, samples=Runnables(), hosts=["in-process", "subprocess", "asgi", "address"])


@pytest.fixture(autouse=True, scope="module")
def _registries():
    yield
    REGISTRIES.close()
