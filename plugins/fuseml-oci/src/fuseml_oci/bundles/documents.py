"""Runnables and templates of a bundle's source: found, parsed and validated one by one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ValidationError

from fuseml_oci.bundles.tree import SourceFile
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import ContentFile, explain
from fuseml_sdk.templates import PipelineTemplate
from fuseml_sdk.types import RunnableDescriptor

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_MAX_DOCUMENT = 1 << 20
ModelT = TypeVar("ModelT", RunnableDescriptor, PipelineTemplate)


@dataclass(frozen=True, slots=True)
class Document(Generic[ModelT]):
    """A parsed file of the source."""

    file: str
    model: ModelT


def read_documents(files: list[SourceFile], listed: list[ContentFile], folder: str,
                   model: type[ModelT]) -> list[Document[ModelT]]:
    """Parse what the manifest lists, and every other document directly in the folder, in the order of names.

    Args:
        files: All files of the folder.
        listed: Entries of the manifest; each must name a file of the folder.
        folder: `runnables` or `templates`.
        model: What the files contain.

    Raises:
        InvalidInput: A file is missing, is not a document, has a wrong field, or its name is not the listed one;
            the message names file, field and reason.
    """
    by_path = {file.path: file for file in files}
    names: dict[str, str] = {_path_of(entry, folder, by_path): entry.name for entry in listed}
    found: list[str] = [path for path in by_path if PurePosixPath(path).parent == PurePosixPath(folder)
             and PurePosixPath(path).suffix in _SUFFIXES]
    documents = [_parse(by_path[path], model) for path in sorted({*names, *found})]
    for document in documents:
        wanted = names.get(document.file, document.model.name)
        if wanted != document.model.name:
            raise InvalidInput(f"{document.file}: name: {document.model.name!r} is called {wanted!r} in extension.toml",
                               hint="Write the same name in both.")
    _refuse_twins(documents)
    return sorted(documents, key=lambda document: document.model.name)


def contents_of(documents: list[Document[ModelT]]) -> list[ContentFile]:
    """What the manifest of the bundle lists: every document, by name."""
    return [ContentFile(name=document.model.name, file=document.file) for document in documents]


def _path_of(entry: ContentFile, folder: str, files: dict[str, SourceFile]) -> str:
    path = PurePosixPath(entry.file).as_posix()
    if path not in files:
        raise InvalidInput(f"extension.toml: {folder}: {entry.name}: there is no file {entry.file!r} in the bundle's "
                           f"folder {folder}/", hint=f"Write `file = \"{folder}/…\"`, relative to extension.toml.")
    return path


def _parse(file: SourceFile, model: type[ModelT]) -> Document[ModelT]:
    if len(file.data) > _MAX_DOCUMENT:
        raise InvalidInput(f"{file.path} has {len(file.data)} bytes; at most {_MAX_DOCUMENT} are allowed")
    try:
        return Document(file.path, model.model_validate(_load(file)))
    except ValidationError as error:
        raise InvalidInput(explain(error, file.path)) from None


def _load(file: SourceFile) -> Any:
    try:
        text = file.data.decode()
        if file.path.endswith(".json"):
            return json.loads(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except UnicodeDecodeError:
        raise InvalidInput(f"{file.path} is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{file.path} is not valid JSON: line {error.lineno}: {error.msg}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InvalidInput(f"{file.path} is not valid YAML: {line}{error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{file.path} is not valid YAML: {error}") from None


class _Loader(yaml.SafeLoader):
    """Plain data only; a key written twice is an error, because the first value would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is written twice",
                                                        key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refuse_twins(documents: list[Document[ModelT]]) -> None:
    seen: dict[str, str] = {}
    for document in documents:
        other = seen.setdefault(document.model.name, document.file)
        if other != document.file:
            raise InvalidInput(f"{document.file}: name: {document.model.name!r} is also the name in {other}")
