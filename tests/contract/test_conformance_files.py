"""R134: the file store keeps every rule of the kit, in every host."""

from __future__ import annotations

import pytest

from fuseml_files.plugin import FileStore
from fuseml_sdk.testing import conformance

TestFileStore = conformance(FileStore)
TestFileStoreAtAnAddress = pytest.mark.full(conformance(FileStore, hosts=["address"]))
