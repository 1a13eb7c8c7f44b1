"""The data that hooks take and return: pydantic models that travel as JSON between processes."""

from __future__ import annotations

from fuseml_sdk.types.artifacts import (
    CODESET,
    DATASET,
    MODEL,
    RUNNABLE,
    ArtifactDescriptor,
    ArtifactRef,
    FileEntry,
    FileListing,
    Location,
    Management,
)
from fuseml_sdk.types.builders import BuilderDescription, BuildRequest, BuildResult, BuiltRunnable, Detection
from fuseml_sdk.types.model import StrictModel, WireModel
from fuseml_sdk.types.runnables import (
    Delivery,
    EnvironmentSpec,
    InputSpec,
    OutputSpec,
    ParameterSpec,
    ParameterType,
    Resources,
    RunnableDescriptor,
    RunnableKind,
    Scalar,
    ServiceSpec,
)
from fuseml_sdk.types.stores import (
    DescriptorChange,
    GarbageReport,
    RegisterRequest,
    ServedPrefix,
    StoreCapability,
    StoreDescription,
    StoreEvent,
    StoreEvents,
    StorePage,
    StoreQuery,
)
from fuseml_sdk.types.workloads import (
    FINAL_STATES,
    AgentDescription,
    LogChunk,
    Metric,
    Workload,
    WorkloadEvents,
    WorkloadInput,
    WorkloadKind,
    WorkloadOutput,
    WorkloadState,
    WorkloadStatus,
)

__all__ = [
    "CODESET", "DATASET", "FINAL_STATES", "MODEL", "RUNNABLE", "AgentDescription", "ArtifactDescriptor", "ArtifactRef",
    "BuildRequest", "BuildResult", "BuilderDescription", "BuiltRunnable", "Delivery", "DescriptorChange", "Detection",
    "EnvironmentSpec", "FileEntry", "FileListing", "GarbageReport", "InputSpec", "Location", "LogChunk", "Management",
    "Metric", "OutputSpec", "ParameterSpec", "ParameterType", "RegisterRequest", "Resources", "RunnableDescriptor",
    "RunnableKind", "Scalar", "ServedPrefix", "ServiceSpec", "StoreCapability", "StoreDescription", "StoreEvent",
    "StoreEvents", "StorePage", "StoreQuery", "StrictModel", "WireModel", "Workload", "WorkloadEvents",
    "WorkloadInput", "WorkloadKind", "WorkloadOutput", "WorkloadState", "WorkloadStatus",
]
