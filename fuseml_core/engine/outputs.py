"""What a job that succeeded must have given: the outputs that its runnable declares, as it declares them.

Every agent is held to the same, whatever it looks at itself (R43: outputs are named and typed; R58: they are
collected and registered).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from fuseml_sdk.types import OutputSpec, RunnableDescriptor, WorkloadOutput

#: Bytes of a value, and outputs of one job: the same that the process agent takes.
LARGEST_VALUE, MOST_OUTPUTS = 64 << 10, 10_000
#: Characters of a name in a message.
_SHOWN = 80


class BadOutputs(Exception):
    """A job counts as failed for what it gave.

    Attributes:
        reason: `MissingOutput` or `InvalidOutput`.
        message: Names the step and the output, and says what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def check_outputs(step: str, runnable: RunnableDescriptor, given: Sequence[WorkloadOutput]) -> tuple[
        list[WorkloadOutput], list[str]]:
    """Those of the outputs that are declared, and warnings about the others.

    Args:
        step: Name of the step, for messages.
        runnable: Declares the outputs.
        given: What the agent reported.

    Raises:
        BadOutputs: A declared output that is not optional is missing, or one is not what is declared.
    """
    if len(given) > MOST_OUTPUTS:
        raise BadOutputs("InvalidOutput", f"the step {step} gave {len(given)} outputs; at most {MOST_OUTPUTS} are "
                         "taken in")
    declared = {spec.name: spec for spec in runnable.outputs}
    taken = [output for output in given if output.name in declared]
    counts = Counter(output.name for output in taken)
    for name, spec in declared.items():
        if not counts[name] and not spec.optional:
            raise BadOutputs("MissingOutput", f"the step {step} ended well but gave no output {name!r}, which "
                             f"{runnable.name} declares; it must give it, or declare it with `optional`")
        if counts[name] > 1 and not spec.many:
            raise BadOutputs("InvalidOutput", f"the step {step} gave the output {name!r} {counts[name]} times; "
                             "only one that is declared with `many` may come several times")
    for output in taken:
        _check(step, declared[output.name], output)
    others = sorted({output.name[:_SHOWN] for output in given if output.name not in declared})
    return taken, [f"the output {name!r} was left out: {runnable.name} does not declare it" for name in others[:20]]


def _check(step: str, spec: OutputSpec, output: WorkloadOutput) -> None:
    what = f"the step {step} gave the output {spec.name!r}"
    if output.kind != spec.kind:
        raise BadOutputs("InvalidOutput", f"{what} as {output.kind[:_SHOWN]!r}; it is declared as {spec.kind!r}")
    if output.location is None and (output.value is None or (spec.kind != "value" and spec.tracked)):
        place = "value" if spec.kind == "value" else "location"
        raise BadOutputs("MissingOutput", f"{what} without a {place}; its agent must say where it is")
    if output.value is not None and len(output.value.encode(errors="replace")) > LARGEST_VALUE:
        raise BadOutputs("InvalidOutput", f"{what} with a value of more than {LARGEST_VALUE} bytes; give an artifact")
    wrong = next((entry.path for entry in output.files if not _stays_inside(entry.path)), None)
    if wrong is not None:
        raise BadOutputs("InvalidOutput", f"{what} with the file {wrong[:_SHOWN]!r}; paths are relative to the "
                         "output and stay in it")


def _stays_inside(path: str) -> bool:
    return bool(path) and "\0" not in path and not path.startswith("/") and ".." not in PurePosixPath(path).parts
