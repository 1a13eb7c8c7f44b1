"""conda.yaml files that a Python package index alone can satisfy."""

from __future__ import annotations

import re
from typing import Any

from fuseml_sdk.errors import InvalidInput

_SPEC = re.compile(r"^(?:[\w.-]+(?:/[\w-]+)?::)?(?P<name>[A-Za-z0-9][\w.-]*)\s*(?P<rest>.*)$")
_CLAUSE = re.compile(r"^(?P<operator>==|=|>=|<=|!=|~=|>|<)?\s*(?P<version>[\w.*+!-]+)(?:(?:=|\s+)[\w*]+)?$")

#: Conda packages that have the same name and the same contents on the Python package index.
SAME_ON_PYPI = frozenset((
    "pip", "setuptools", "wheel", "numpy", "scipy", "pandas", "scikit-learn", "joblib", "cloudpickle", "mlflow",
    "mlflow-skinny", "matplotlib", "seaborn", "statsmodels", "xgboost", "lightgbm", "catboost", "pyyaml", "requests",
    "tqdm", "click", "protobuf", "pyarrow", "polars", "fastparquet", "sqlalchemy", "boto3", "s3fs", "fsspec",
    "tensorflow", "keras", "transformers", "datasets", "tokenizers", "spacy", "nltk", "gensim", "networkx", "sympy",
    "numba", "dask", "plotly", "bokeh", "altair", "hyperopt", "optuna", "shap", "imbalanced-learn",
    "category_encoders", "prophet", "onnx", "onnxruntime", "skops", "openpyxl", "jinja2", "pydantic", "fastapi",
    "uvicorn", "psutil", "packaging", "cython", "ipython", "jupyter", "ipykernel",
))


def translate(dependency: str, file: str) -> tuple[str, str] | None:
    """Translate one conda dependency into a package name and a PEP 508 specifier.

    Args:
        dependency: Such as `python=3.11`, `numpy>=1.26,<2`, `conda-forge::scipy=1.11=py311_0`.
        file: Name of the file, for messages.

    Returns:
        Name (lower case) and specifier (possibly empty), or None if it exists for conda only.

    Raises:
        InvalidInput: The version is not one.
    """
    match = _SPEC.match(dependency.strip())
    if not match:
        raise InvalidInput(f"{file}: {dependency!r} is not a conda dependency")
    name = match["name"].lower()
    if name != "python" and name not in SAME_ON_PYPI:
        return None
    return name, ",".join(_clause(part, dependency, file) for part in match["rest"].split(",") if part.strip())


def _clause(text: str, dependency: str, file: str) -> str:
    """One version condition: `=1.2` is any 1.2.x for conda; a build string after it means nothing elsewhere."""
    clause = _CLAUSE.match(text.strip())
    if not clause:
        raise InvalidInput(f"{file}: cannot read the version in {dependency!r}",
                           hint="Write it as package=1.2.3, or move the package to the `pip:` list.")
    operator, version = clause["operator"] or "==", clause["version"]
    if operator == "=":
        return f"=={version}" if version.endswith("*") else f"=={version}.*"
    return operator + version


def split(data: dict[str, Any], file: str) -> tuple[str | None, list[str], list[str]]:
    """Take a conda environment apart.

    Returns:
        The Python version as written (or None), requirements out of conda packages, lines of the `pip:` list.

    Raises:
        InvalidInput: It needs packages that exist for conda only; the message names them.
    """
    python: str | None = None
    requirements: list[str] = []
    pip: list[str] = []
    conda_only: list[str] = []
    for item in data.get("dependencies") or []:
        if isinstance(item, dict) and set(item) == {"pip"}:
            pip += [str(line) for line in item["pip"] or []]
        elif isinstance(item, str):
            found = translate(item, file)
            if found is None:
                conda_only.append(item)
            elif found[0] == "python":
                python = found[1] or None
            else:
                requirements.append(found[0] + found[1])
        else:
            raise InvalidInput(f"{file}: {item!r} is not a dependency: use a text or `pip:` with a list")
    if conda_only:
        raise InvalidInput(
            f"{file}: these conda packages cannot be installed from the Python package index: {', '.join(conda_only)}",
            hint="Move them to the `pip:` list under their names on the Python package index, or remove them.")
    return python, requirements, pip
