"""Deciding whether this machine can run a workload: never, not now, or yes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from fuseml_process.configuration import Configuration, physical_memory
from fuseml_process.shim.staging import SCHEMES
from fuseml_process.shim.variables import placeholders
from fuseml_sdk.errors import InvalidInput, NotReady
from fuseml_sdk.types import Resources, Workload


def effective_resources(workload: Workload) -> Resources:
    """What the workload may use: its run-time description over the runnable's own declaration."""
    own, wish = workload.runnable.resources, workload.resources
    return Resources(cpu=wish.cpu or own.cpu, memory=wish.memory or own.memory, storage=wish.storage or own.storage,
                     gpu=wish.gpu if wish.gpu is not None else own.gpu)


def check_possible(workload: Workload, configuration: Configuration) -> None:
    """Refuse what this machine can never run.

    Raises:
        InvalidInput: With the reason.
    """
    _check_interface(workload)
    _check_resources(effective_resources(workload), configuration)
    environment = workload.runnable.environment
    if environment.image and not (environment.lock or environment.from_input):
        raise InvalidInput(f"{workload.runnable.name} needs the image {environment.image}, and the process agent runs "
                           "Python environments only",
                           hint="Give the runnable a lock, or send it to an agent for containers.")
    if any(spec.lock and spec.from_input for spec in (environment, *workload.runnable.environments.values())):
        raise InvalidInput(f"{workload.runnable.name} names both a lock and an input that brings the environment",
                           hint="Name one of them.")
    for name, value in workload.runnable.capabilities.items():
        if configuration.capabilities.get(name) != value:
            raise InvalidInput(f"{workload.runnable.name} needs {name}={value}, which this machine does not offer")


def check_room(workload: Workload, running: Iterable[Workload], configuration: Configuration) -> None:
    """Refuse or postpone what does not fit beside what runs now.

    Raises:
        NotReady: It fits once something has ended: the caller tries again.
        InvalidInput: There are as many services as are allowed. Services do not end by themselves, so waiting
            would not help.
    """
    others = list(running)
    if workload.kind == "job":
        jobs = sum(1 for other in others if other.kind == "job")
        if jobs >= configuration.jobs:
            raise NotReady(f"{jobs} jobs are running and at most {configuration.jobs} may",
                           hint="It waits for one to end.")
    else:
        keys = {_service_key(other) for other in others if other.kind == "service"}
        if _service_key(workload) not in keys and len(keys) >= configuration.services:
            raise InvalidInput(f"{len(keys)} services are running and at most {configuration.services} may",
                               hint="Stop a service, or raise FUSEML_MAX_SERVICES.")
    wanted = effective_resources(workload).memory or 0
    taken = sum(effective_resources(other).memory or 0 for other in others)
    if wanted and wanted + taken > configuration.memory:
        free = max(0, configuration.memory - taken)
        raise NotReady(f"{wanted >> 20} MiB of memory are wanted and {free >> 20} MiB of "
                       f"{configuration.memory >> 20} MiB are free", hint="It waits for another workload to end.")


def _service_key(workload: Workload) -> tuple[str, str]:
    """The replacement of a service takes no further place: both run only until the new one has taken over."""
    labels = workload.labels
    return labels.get("project", ""), labels.get("service") or workload.name


def _check_resources(wanted: Resources, configuration: Configuration) -> None:
    offers: list[tuple[str, float, float]] = [
        ("cpu cores", wanted.cpu or 0, os.cpu_count() or 1),
        ("bytes of memory", wanted.memory or 0, min(configuration.memory, physical_memory())),
        ("GPUs", wanted.gpu or 0, count_gpus()),
        ("bytes of storage", wanted.storage or 0, shutil.disk_usage(_existing(configuration.root)).total),
    ]
    for what, want, offer in offers:
        if want > offer:
            raise InvalidInput(f"{want:g} {what} are wanted and this machine has {offer:g} for workloads",
                               hint="Lower the resources of the runnable or the step, or use another agent.")


def _check_interface(workload: Workload) -> None:
    runnable = workload.runnable
    for family, declared, given in (
        ("input", {spec.name: spec.optional for spec in runnable.inputs}, {item.name for item in workload.inputs}),
        ("parameter", {spec.name: not spec.required for spec in runnable.parameters}, set(workload.parameters)),
    ):
        missing = [name for name, optional in declared.items() if not optional and name not in given]
        if missing:
            raise InvalidInput(f"{runnable.name} needs the {family} {missing[0]!r}, which is not given")
        unknown = given - declared.keys()
        if unknown and not (family == "parameter" and runnable.open_parameters):
            raise InvalidInput(f"{runnable.name} has no {family} {min(unknown)!r}",
                               hint=f"It has {', '.join(sorted(declared)) or 'none'}.")
    names = {"input": {spec.name for spec in runnable.inputs}, "output": {spec.name for spec in runnable.outputs},
             "parameter": {spec.name for spec in runnable.parameters} | set(workload.parameters),
             "python": {"", *runnable.environments}}
    for family, name in placeholders(runnable.command):
        if family in names and name not in names[family]:
            raise InvalidInput(f"the command of {runnable.name} refers to {{{family}.{name}}}, which it does not "
                               "declare")
    if (workload.kind == "service") != (runnable.service is not None):
        what = "describes no service" if workload.kind == "service" else "is a service"
        raise InvalidInput(f"{runnable.name} {what} and was submitted as a {workload.kind}")
    locations = [item.location for item in workload.inputs] + ([workload.contents] if workload.contents else [])
    for location in locations:
        if urlsplit(location.uri).scheme not in SCHEMES:
            raise InvalidInput(f"the process agent cannot fetch {location.uri.split(':')[0]}: locations",
                               hint=f"It can fetch {', '.join(SCHEMES)}.")


def count_gpus() -> int:
    """NVIDIA devices of this machine."""
    return sum(1 for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit())


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
