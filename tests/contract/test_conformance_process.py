"""R134: the process agent keeps every rule of the kit, in every host."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from fuseml_process.plugin import ProcessPlugin
from fuseml_sdk.testing import conformance

pytestmark = pytest.mark.full
#: Sockets need short paths; each start gets a folder of its own below this one.
SOCKETS = Path(tempfile.mkdtemp(prefix="fz-"))


def config(folder):
    return {"sockets": str(SOCKETS / f"{abs(hash(folder)) % 10**8}")}


TestProcessAgent = conformance(ProcessPlugin, config=config, hosts=["in-process", "subprocess", "asgi", "address"])


@pytest.fixture(autouse=True, scope="module")
def _sockets():
    yield
    shutil.rmtree(SOCKETS, ignore_errors=True)
