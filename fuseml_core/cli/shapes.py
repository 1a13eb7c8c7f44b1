"""Finding, or adding, the pipeline that does one plain thing with an artifact: train code, serve a model (R188)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fuseml_core.cli.render import echo
from fuseml_core.domain.addresses import parse_selector, scheme_of
from fuseml_core.domain.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pipeline must take and give to be meant by a verb.

    Attributes:
        verb: The command, and the name of a pipeline that it adds.
        takes: Kind of the artifact.
        gives: Kind of one of the outputs.
        without: A kind of output that would be more than was asked for; only for templates to add.
        extension: An extension that brings such a template.
    """

    verb: str
    takes: str
    gives: str
    without: str
    extension: str

    def __str__(self) -> str:
        return f"takes a {self.takes} and gives a {self.gives}"


TRAIN = Shape("train", "codeset", "model", "url", "mlflow")
SERVE = Shape("serve", "model", "url", "", "kserve")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pipeline, and the input of it that takes the artifact."""

    pipeline: str
    input: str


def choose(client: Client, project: str, shape: Shape, artifact: Mapping[str, Any], *, name: str | None = None,
           template: str | None = None, err: bool = False) -> Chosen:
    """The pipeline of a project that does what a shape says with an artifact; added if there is none.

    Args:
        client: For the server.
        project: Where the pipeline is, or is added.
        shape: What it must take and give.
        artifact: What it must take, as the API shows it.
        name: Only the pipeline of this name; also the name of the one that is added.
        template: Only a pipeline of this template.
        err: Print to stderr, because stdout carries data.

    Raises:
        Conflict: The pipeline named does something else.
        Invalid: Several templates would do, or the one named would not.
        NotFound: No template would do.
    """
    pipelines = client.get("projects", project, "pipelines")
    wanted = None
    if template:
        shape = replace(shape, without="")  # who names a template wants all that it gives
        wanted = str(_named_template(client, shape, template)["name"])
    for pipeline in pipelines:
        if name in (None, pipeline["name"]) and wanted in (None, pipeline["template"]):
            input_ = covering_input(pipeline, shape, artifact)
            if input_:
                return Chosen(pipeline["name"], input_)
    taken = {pipeline["name"] for pipeline in pipelines}
    if name in taken:
        raise Conflict(f"The pipeline {name} does not {shape.verb} {artifact['short']}.",
                       hint="Choose another --name; see: fuseml pipeline list")
    templates = [t for t in client.get("templates") if wanted in (None, t["name"])]
    found = only_template(templates, shape, artifact)
    return _add(client, project, shape, artifact, found, name or _free_name(shape, artifact, taken), err=err)


def covering_input(pipeline: Mapping[str, Any], shape: Shape, artifact: Mapping[str, Any]) -> str:
    """The input through which a pipeline of this shape follows the name of an artifact; empty if there is none."""
    if shape.gives not in pipeline["gives"].values():
        return ""
    for name, declared in pipeline["takes"].items():
        text = pipeline["inputs"].get(name)
        if declared["kind"] != shape.takes or not text or "@" in text or not _fits(declared, artifact):
            continue
        if parse_selector(text, pipeline["project"]).covers(artifact["kind"], artifact["project"], artifact["name"]):
            return str(name)
    return ""


def only_template(templates: Sequence[Mapping[str, Any]], shape: Shape, artifact: Mapping[str, Any]) -> Any:
    """The one template of a shape that takes an artifact of this type.

    Raises:
        Invalid: There are several, or the artifact is of no type that one takes.
        NotFound: There is none of the shape.
    """
    of_shape = [template for template in templates if _entrance(template, shape)]
    if not of_shape:
        raise _none(shape)
    fitting = [template for template in of_shape if _fits(template["inputs"][_entrance(template, shape)], artifact)]
    if not fitting:
        raise _no_fit(of_shape, shape, artifact)
    if len(fitting) > 1:
        names = ", ".join(sorted(template["name"] for template in fitting))
        raise Invalid(f"Several templates would {shape.verb} {artifact['short']}: {names}.",
                      hint=f"Choose one: --template {fitting[0]['name']}" if shape.verb == TRAIN.verb else
                      f"Add the one you want: fuseml pipeline add {fitting[0]['name']} --name {shape.verb} "
                      f"--input {_entrance(fitting[0], shape)}={_selector(artifact)}")
    return fitting[0]


def check_possible(client: Client, project: str, shape: Shape, template: str | None) -> None:
    """Refuse what no template can do before anything is made.

    Raises:
        Invalid: The template named is not of the shape.
        NotFound: There is no such template, or no template and no pipeline of the shape.
    """
    if template:
        _named_template(client, replace(shape, without=""), template)
        return
    possible = any(_entrance(found, shape) for found in client.get("templates"))
    if not possible and not any(shape.gives in pipeline["gives"].values()
                                for pipeline in client.get("projects", project, "pipelines")):
        raise _none(shape)


def _none(shape: Shape) -> NotFound:
    return NotFound(f"No installed extension has a template that {shape}.",
                    hint=f"Install one: fuseml extension install {shape.extension}")


def _named_template(client: Client, shape: Shape, name: str) -> Any:
    """The template that a person chose.

    Raises:
        Invalid: It is not of the shape.
    """
    found = client.get("templates", *name.split("/"))
    if not _entrance(found, shape):
        raise Invalid(f"The template {found['name']} cannot be used: one is needed that {shape}.",
                      hint="See: fuseml pipeline template list")
    return found


def _entrance(template: Mapping[str, Any], shape: Shape) -> str:
    """The one input that must be bound, if the template is of the shape; empty otherwise."""
    gives = set((template.get("gives") or {}).values())
    needed = [name for name, declared in template["inputs"].items() if not declared.get("optional")]
    if shape.gives not in gives or shape.without in gives or len(needed) != 1:
        return ""
    return needed[0] if template["inputs"][needed[0]]["kind"] == shape.takes else ""


def _fits(declared: Mapping[str, Any], artifact: Mapping[str, Any]) -> bool:
    """Whether an input takes the type of an artifact; a type may have a flavour behind a slash."""
    types, actual = declared.get("types") or [], artifact.get("type") or ""
    return not types or any(actual == wanted or actual.startswith(f"{wanted}/") for wanted in types)


def _no_fit(templates: Sequence[Mapping[str, Any]], shape: Shape, artifact: Mapping[str, Any]) -> Invalid:
    types = sorted({t for template in templates for t in template["inputs"][_entrance(template, shape)]["types"]})
    why = (artifact.get("metadata") or {}).get("detection")
    why = why or (f"it is of type {artifact['type']}" if artifact.get("type") else "it has no type")
    names = ", ".join(template["name"] for template in templates)
    return Invalid(f"{artifact['short']} is not of type {' or '.join(types)}, which {names} takes: {why}",
                   hint="See what there is: fuseml pipeline template list")


def _add(client: Client, project: str, shape: Shape, artifact: Mapping[str, Any], template: Mapping[str, Any],
         name: str, *, err: bool) -> Chosen:
    """Add a pipeline that follows the artifact's name from now on; it does not fire for what is there."""
    input_ = _entrance(template, shape)
    selector = _selector(artifact)
    body = {"template": template["name"], "name": name, "inputs": {input_: selector}, "existing": "none"}
    client.post("projects", project, "pipelines", body=body, timeout=120.0)
    echo(f"Pipeline {name} added ({template['name']}): it will {shape.verb} every new version of {selector}.", err=err)
    return Chosen(name, input_)


def _selector(artifact: Mapping[str, Any]) -> str:
    return f"{scheme_of(artifact['kind'])}://{artifact['project']}/{artifact['name']}"


def _free_name(shape: Shape, artifact: Mapping[str, Any], taken: set[str]) -> str:
    """The verb; with the artifact's name, then a number, where that is taken."""
    plain = str(artifact["name"]).replace("/", "-")
    names = [shape.verb, f"{shape.verb}-{plain}", *(f"{shape.verb}-{plain}-{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
