"""The words of the glossary are the names in the code, and no other word stands for the same thing."""

from __future__ import annotations

import ast
import importlib
import re
import typing

import pytest

from fuseml_sdk.types import RunnableKind, WorkloadKind

#: What each word of the glossary is in the code.
NAMES = {
    "artifact": "fuseml_sdk.types:ArtifactRef",
    "descriptor": "fuseml_sdk.types:ArtifactDescriptor",
    "address": "fuseml_core.domain.addresses:Address",
    "selector": "fuseml_core.domain.addresses:Selector",
    "artifact store": "fuseml_sdk.hookspecs:StoreSpecs",
    "runnable": "fuseml_sdk.types:RunnableDescriptor",
    "workload agent": "fuseml_sdk.hookspecs:AgentSpecs",
    "builder": "fuseml_sdk.hookspecs:BuilderSpecs",
    "pipeline template": "fuseml_sdk.templates:PipelineTemplate",
    "pipeline": "fuseml_core.domain.records:Pipeline",
    "pipeline run": "fuseml_core.domain.records:Run",
    "service instance": "fuseml_core.domain.records:Instance",
    "extension": "fuseml_sdk.manifest:ExtensionManifest",
    "component": "fuseml_core.host:Component",
    "host": "fuseml_core.host:PluginHost",
    "service": "fuseml_core.domain.records:Service",
}
#: Words of other products for what has a word here.
FOREIGN = re.compile(r"Workflow|Organi[sz]ation|Application(?!/)|Manager|Helper|Util")


def _named(target: str) -> object:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("word", "target"), NAMES.items(), ids=NAMES)
def test_r3_the_words_of_the_glossary_are_names_in_the_code(root, word, target):
    """A reader of the glossary finds the thing, and its first sentence says what it is."""
    glossary = (root / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    assert re.search(rf"^\|[^|]*\b{word}\b", glossary, re.MULTILINE)
    assert (_named(target).__doc__ or "").strip()


def test_r3_no_class_has_a_foreign_word(modules):
    """A second word for one thing makes readers look for a second thing."""
    allowed = {"fuseml_sdk.serve.application.Application"}
    found = {
        f"{module.name}.{node.name}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and FOREIGN.search(node.name)
    }
    assert found - allowed == set()


def test_r4_artifacts_and_runnables_have_the_kinds_of_the_design():
    """Four kinds of artifact; builder, trainer and predictor among the kinds of runnable."""
    from fuseml_sdk import types

    assert {types.CODESET, types.RUNNABLE, types.MODEL, types.DATASET} == {"codeset", "runnable", "model", "dataset"}
    assert {"builder", "trainer", "predictor"} < set(typing.get_args(RunnableKind))


def test_r5_the_compound_entities_are_there():
    """Template, pipeline, run; a step becomes a job or a service at an agent; a service has instances."""
    from fuseml_core.domain import records
    from fuseml_sdk.templates import PipelineTemplate

    assert set(typing.get_args(WorkloadKind)) == {"job", "service"}
    assert {"steps", "inputs", "outputs"} <= set(PipelineTemplate.model_fields)
    assert {"template", "template_digest"} <= set(records.Pipeline.__dataclass_fields__)
    assert {"pipeline_id", "number"} <= set(records.Run.__dataclass_fields__)
    assert {"run_id", "workload", "agent"} <= set(records.Step.__dataclass_fields__)
    assert {"service_id", "workload", "agent"} <= set(records.Instance.__dataclass_fields__)
