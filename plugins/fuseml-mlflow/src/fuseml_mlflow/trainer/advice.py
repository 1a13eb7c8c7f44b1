"""What to do about failures of MLflow that people meet often."""

from __future__ import annotations

import re

_SKOPS = (
    "MLflow stores scikit-learn models with skops, which refuses types it does not know{types}. If you trust them, "
    "either call mlflow.sklearn.log_model(..., skops_trusted_types=[{list}]) or choose another format: "
    "mlflow.sklearn.log_model(..., serialization_format=\"cloudpickle\")."
)
_EXPERIMENT = (
    "FuseML gives every training run its own MLflow run (MLFLOW_RUN_ID), as `mlflow run` does, and the script chooses "
    "another experiment. Remove mlflow.set_experiment(...), or call it only when MLFLOW_RUN_ID is not set."
)
_PARAMETER = (
    "FuseML records the parameters of the entry point, as `mlflow run` does. Log other values under other names, or "
    "leave the parameters of the entry point to FuseML."
)
_MODULE = "The module {module!r} is not in the project's environment: add its package to python_env.yaml or conda.yaml."


def advice(log: str) -> str | None:
    """Find a known failure in a log.

    Args:
        log: The end of what the entry point printed.

    Returns:
        A remedy, or None.
    """
    if "references untrusted types" in log or "could not be serialized in the skops" in log:
        found = re.search(r"Untrusted types found in the file: \[([^\]]*)\]", log)
        names = found.group(1) if found else ""
        return _SKOPS.format(types=": " + names if names else "", list=names or "...")
    if "active experiment ID does not match environment run ID" in log:
        return _EXPERIMENT
    if "Changing param values is not allowed" in log:
        return _PARAMETER
    missing = re.findall(r"^ModuleNotFoundError: No module named '([^']+)'", log, re.MULTILINE)
    return _MODULE.format(module=missing[-1]) if missing else None
